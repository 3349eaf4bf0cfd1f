"""Test the card of a real run: its content, what it leaves out, and that its code runs."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from huggingface_hub import ModelCard

from hf_videomae.cards.card_check import check_card
from hf_videomae.cards.evaluation_section import NON_NUMERIC_FLAGS
from hf_videomae.cards.run_card import render_run_card, write_card
from hf_videomae.cards.run_metadata import read_run_metadata
from hf_videomae.cli import main
from hf_videomae.data import MotionSource
from hf_videomae.data.motion import CLASS_NAMES
from hf_videomae.evaluation import FailedVideo, MultiLabelEvaluation, RegressionEvaluation
from hf_videomae.serving.endpoint import write_endpoint
from hf_videomae.training import FinetuneRecipe
from tests.helpers.scripts import load_script
from tests.helpers.snippets import run_snippets

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--batch_size", "4", "--num_workers", "0", "--log_every", "1", "--max_steps", "2"]
SECRET = "anna"  # part of a local path, so it must not be in a card


def example(name: str) -> Callable[..., int]:
    """Return the main function of an example script, to call it in this process."""
    module = load_script(ROOT / "examples" / f"{name}.py")
    return lambda *arguments: module.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make clips with one broken in each split, a pre-trained model, and one fine-tuned from it and evaluated."""
    home = tmp_path_factory.mktemp(SECRET)
    rows = ["path,label,split"]
    for split, count in (("train", 16), ("test", 8)):
        source = MotionSource(split=split)
        for number in range(count):
            name = f"{split}-{number}.mp4"
            (home / "clips").mkdir(exist_ok=True)
            video = source[number].video
            (home / "clips" / name).write_bytes(video[:200] if number == 3 else video)
            rows.append(f"{name},{CLASS_NAMES[number % 8]},{split}")
    (home / "clips" / "index.csv").write_text("\n".join(rows) + "\n")
    threads, command = torch.get_num_threads(), sys.argv
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)
    data = [*QUICK, "--dataset", home / "clips", "--max_bad_share", "0.9"]
    runs = {
        "pretrain": [*data, "--recipe", "tiny", "--output_dir", home / "pre"],
        "finetune": [*data, "--recipe", "tiny-finetune", "--model", home / "pre", "--output_dir", home / "fine"],
    }
    runs["finetune"] += ["--test_split", "test", "--views", "2x1", "--max_steps", "8"]
    for name, arguments in runs.items():
        sys.argv = [str(ROOT / "examples" / f"{name}.py"), *map(str, arguments)]
        assert example(name)(*arguments) == 0
    sys.argv = command
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)
    return home


@pytest.fixture
def fine(home: Path, tmp_path: Path) -> Iterator[Path]:
    """Copy the fine-tuned run."""
    shutil.copytree(home / "fine", tmp_path / "fine")
    yield tmp_path / "fine"


def header(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_finetune_card_shows_measured_results(home: Path) -> None:
    card = render_run_card(read_run_metadata(home / "fine", model_id="org/motions"))
    found = json.loads((home / "fine" / "evaluation.json").read_text())
    assert header(card)["model-index"][0]["results"][0]["metrics"][0] == {
        "type": "accuracy",
        "value": round(found["metrics"]["top1"], 4),
        "name": "top-1 accuracy",
        "args": {"views": "2x1", "videos": 8, "failed": 1},
    }
    assert "8 videos of `clips`, split `test`; 2x1 views (temporal x spatial) of 8 frames, stride 3" in card
    assert "1 could not be decoded; these count as wrong. Chance is 0.125." in card
    assert "| `test-3.mp4` |" in card
    assert "`clips`, split `train`, 16 videos." in card
    assert "The recipe `tiny-finetune`, and from the command line `--batch_size`" in card
    assert "fine-tuned from `pre` on `clips`" in card and "8 steps of 4 clips" in card
    assert "1 video could not be decoded and was replaced by another." in card
    assert "![Loss over the steps](loss.png)" in card and "![Confusion matrix](confusion.png)" in card
    assert "There is no live widget on this page" in card
    assert "## Compared with the paper" not in card and "## Reconstruction" not in card  # nothing to say there
    assert (header(card)["pipeline_tag"], header(card)["library_name"]) == ("video-classification", "transformers")


def test_pretrain_card_shows_reconstruction_and_no_evaluation(home: Path) -> None:
    card = render_run_card(read_run_metadata(home / "pre"))
    assert header(card)["pipeline_tag"] == "feature-extraction" and "model-index" not in header(card)
    assert "![Reconstruction](reconstruction-1.gif)" in card and "## Evaluation" not in card
    assert "The simplest answer, to predict the mean of each cube" in card
    assert "has no classifier" in card


@pytest.mark.parametrize("name", ["pre", "fine"])
def test_card_contains_no_local_paths(home: Path, name: str) -> None:
    card = render_run_card(read_run_metadata(home / name))
    assert not [word for word in (SECRET, str(home), str(ROOT), f"{Path.home()}/") if word in card]
    assert SECRET in (home / name / "run.json").read_text()
    assert "examples/" in card and "--dataset path/to/clips" in card


@pytest.mark.parametrize("name", ["pre", "fine"])
def test_header_passes_our_check_and_huggingface_hub(home: Path, name: str) -> None:
    card = render_run_card(read_run_metadata(home / name))
    assert check_card(card, home / name) == []
    data = ModelCard(card).data
    assert data.to_dict() == header(card)


@pytest.mark.parametrize("name", ["pre", "fine"])
def test_card_code_runs(home: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").write_bytes(MotionSource(split="test")[0].video)
    card = render_run_card(read_run_metadata(home / name, model_id="org/motions"))
    stock, ours, *more = run_snippets(
        card, model_id="org/motions", model=home / name, folder=tmp_path, monkeypatch=monkeypatch
    )
    if name == "fine":
        assert type(stock["classify"].model).__module__.startswith("transformers.")
        assert ours["answer"].labels[0] in CLASS_NAMES
    else:
        assert type(stock["model"]).__module__.startswith("transformers.")
        assert stock["tokens"].shape == (1, 4 * 4 * 4, 128) and ours["found"].features.shape == (1, 128)
    assert len(more) == (0 if name == "fine" else 1)


def test_card_command_is_deterministic(fine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", str(fine)]) == 0
    first = (fine / "README.md").read_bytes()
    assert capsys.readouterr().out == f"{fine / 'README.md'}\n"
    assert main(["card", str(fine)]) == 0
    assert (fine / "README.md").read_bytes() == first


def test_card_command_keeps_edited_card(fine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_card(fine)
    path = fine / "README.md"
    path.write_text(path.read_text().replace("# fine", "# My model"))
    with pytest.raises(SystemExit) as stop:
        main(["card", str(fine)])
    assert stop.value.code == 2 and "--overwrite" in capsys.readouterr().err and "# My model" in path.read_text()
    assert main(["card", str(fine), "--overwrite"]) == 0
    assert "# My model" not in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing"], "missing holds no run.json"),
        (["--model_id", "a b"], "a b is not the name"),
        (["--check"], "there is no"),
    ],
)
def test_card_command_reports_mistakes_in_one_line(
    fine: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["card", *arguments] if arguments[0] == "missing" else ["card", str(fine), *arguments])
    errors = capsys.readouterr().err
    assert stop.value.code == 2 and words in errors and errors.count("\n") == 1


def test_truncated_run_record_raises(fine: Path) -> None:
    (fine / "run.json").write_text('{"status": ')
    with pytest.raises(ValueError, match="not a JSON object"):
        write_card(fine)


@pytest.mark.fault
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 100, (9).to_bytes(8, "little") + b'{"weight"', (2).to_bytes(8, "little") + b"[]"],
    ids=["empty", "no header", "truncated", "no object"],
)
def test_damaged_weights_are_named_in_one_line(fine: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (fine / "model.safetensors").write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        main(["card", str(fine)])
    errors = capsys.readouterr().err
    assert stop.value.code == 2 and errors.count("\n") == 1
    assert f"{fine / 'model.safetensors'} is damaged, or is not a safetensors file; save the model again" in errors


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_evaluation_of_another_model_is_left_out(fine: Path) -> None:
    change(fine / "evaluation.json", date="2000-01-01T00:00:00+00:00")
    facts = read_run_metadata(fine)
    assert facts.evaluation is None and "older than the model" in facts.notes[0]
    assert "Its accuracy was not measured." in render_run_card(facts)
    change(fine / "evaluation.json", date="2999-01-01T00:00:00+00:00", model={"name": "org/other"})
    assert "another model (org/other)" in read_run_metadata(fine).notes[0]


def test_license_of_first_ancestor_is_inherited(fine: Path, home: Path, tmp_path: Path) -> None:
    """Fine-tune a checkpoint that continued a published one, with no card in between."""
    shutil.copytree(home / "pre", tmp_path / "pre")
    change(tmp_path / "pre" / "run.json", parents=[{"model": "MCG-NJU/videomae-base", "license": None}])
    change(fine / "run.json", parents=[{"model": "pre", "license": None}])
    card = render_run_card(read_run_metadata(fine))
    assert (header(card)["license"], header(card)["base_model"]) == ("cc-by-nc-4.0", "MCG-NJU/videomae-base")
    assert "from the checkpoint `MCG-NJU/videomae-base`: no commercial use" in card
    with pytest.raises(ValueError, match="cannot be apache-2.0"):
        write_card(fine, license="apache-2.0")


NC = {"model": "org/first", "hub_id": "org/first", "revision": "a" * 40, "license": "cc-by-nc-4.0"}
PARENT = {"model": "outputs/pre", "hub_id": None, "revision": None, "license": "mit", "ancestors": [NC]}


def test_recorded_lineage_needs_no_folders(fine: Path) -> None:
    """Render after the folders of parents and data are gone; a dataset's id looks like a folder."""
    data = {"dataset": "org/videos", "hub_id": "org/videos", "revision": "b" * 40, "license": "cc-by-4.0"}
    change(fine / "run.json", parents=[PARENT], data={**data, "videos": 16, "split": "train"})
    card = render_run_card(read_run_metadata(fine))
    found = header(card)
    assert (found["base_model"], found["base_model_relation"]) == ("org/first", "finetune")
    assert (found["datasets"], found["license"]) == (["org/videos"], "cc-by-nc-4.0")
    assert f"| `org/first` | checkpoint | `{'a' * 40}` | cc-by-nc-4.0 |" in card
    assert f"| `org/videos` | data | `{'b' * 40}` | cc-by-4.0 |" in card and "fine-tuned from `pre`" in card
    with pytest.raises(ValueError, match="cannot be mit: org/first is cc-by-nc-4.0"):
        write_card(fine, license="mit")
    assert check_card(card, fine) == []


def test_card_names_each_data_set_of_a_mix(fine: Path) -> None:
    videos = {"dataset": "org/videos", "hub_id": "org/videos", "revision": None, "license": "cc-by-nc-4.0"}
    mix = [{"dataset": "motion", "name": "motion"}, videos, {**videos, "dataset": "/data/mine", "hub_id": None}]
    change(fine / "run.json", data={"dataset": [part["dataset"] for part in mix], "mix": mix})
    card = render_run_card(read_run_metadata(fine))
    assert header(card)["datasets"] == ["org/videos"] and header(card)["license"] == "cc-by-nc-4.0"
    assert "on `org/videos` and `mine` and the built-in motion videos of hf_videomae." in card


def test_license_unknown_to_the_hub_becomes_other(fine: Path) -> None:
    change(fine / "run.json", parents=[{**PARENT, "license": "team-license", "ancestors": []}])
    found = header(render_run_card(read_run_metadata(fine)))
    assert (found["license"], found["license_name"]) == ("other", "team-license")
    with pytest.raises(ValueError, match="'cc-by' is not a license .*; did you mean"):
        write_card(fine, license="cc-by")


def test_local_folders_are_not_taken_for_hub_ids(fine: Path) -> None:
    change(fine / "run.json", parents=[{"model": "outputs/pre", "license": None}], recipe={"output_dir": "outputs/x"})
    assert "base_model" not in header(render_run_card(read_run_metadata(fine)))
    change(fine / "run.json", parents=[{"model": "org/pre", "license": "mit"}])
    found = header(render_run_card(read_run_metadata(fine)))
    assert (found["base_model"], found["license"]) == ("org/pre", "mit")


def test_examples_become_widget_entries(fine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fine / "example.mp4").write_bytes(MotionSource(split="test")[0].video)
    assert main(["predict", str(fine / "example.mp4"), "--model", str(fine), "--json", "--device", "cpu"]) == 0
    others = [{"video": "gone.mp4", "predictions": []}, {"video": "example.mp4", "predictions": [{"label": "a"}]}]
    others += [{"video": "example.mp4", "prediction": {"value": 2.9}}]
    lines = "".join(json.dumps(line) + "\n" for line in others)
    (fine / "examples.jsonl").write_text(capsys.readouterr().out + lines)
    path, notes = write_card(fine, license="mit")
    (entry,) = header(path.read_text())["widget"]
    assert entry["src"] == "example.mp4" and entry["example_title"] == "example"
    assert len(entry["output"]) == 5 and set(entry["output"][0]) == {"label", "score"}
    assert ["gone.mp4" in note for note in notes] == [True, False, False]
    assert notes[1] == notes[2] == "examples.jsonl has no classes with scores for example.mp4, so it is left out"
    (fine / "example.mp4").unlink()
    assert main(["card", str(fine), "--check"]) == 1
    assert "the widget shows example.mp4, which is not in the folder" in capsys.readouterr().out


def test_card_mentions_endpoint_only_with_handler(fine: Path) -> None:
    assert "Inference Endpoints" not in render_run_card(read_run_metadata(fine))
    write_endpoint(fine)
    assert "`handler.py` serves it on Inference Endpoints" in render_run_card(read_run_metadata(fine))


def test_paper_comparison_needs_same_data_views_and_recipe(fine: Path) -> None:
    change(fine / "run.json", recipe_name="/home/anna/v1-k400-base-finetune.yaml", recipe_flags=["batch_size"])
    found = json.loads((fine / "evaluation.json").read_text())
    metrics = {**found["metrics"], "top1": 0.8123, "top5": 0.9501}
    alike = {
        "data": {**found["data"], "classes": 400},
        "views": {**found["views"], "temporal": 5, "spatial": 3},
    }
    change(fine / "evaluation.json", **alike, metrics=metrics)
    card = render_run_card(read_run_metadata(fine))
    assert "The recipe `v1-k400-base-finetune`, and from the command line `--batch_size`:" in card
    assert "published with 81.5 top-1 / 95.1 top-5 on Kinetics-400, 5x3 views" in card
    assert "Measured here: 81.2 top-1 / 95.0 top-5, 5x3 views, 8 videos." in card
    for key in alike:  # 8 classes are not Kinetics-400, and 2x1 views not the paper's test
        change(fine / "evaluation.json", **{**alike, key: found[key]})
        assert "Compared with the paper" not in render_run_card(read_run_metadata(fine))
    change(fine / "evaluation.json", **alike)
    change(fine / "run.json", recipe_flags=["base_lr"])
    assert "Compared with the paper" not in render_run_card(read_run_metadata(fine))


def test_multi_label_and_regression_evaluations_are_shown(fine: Path) -> None:
    """Render evaluations of several classes per video and of regression."""
    views = {"temporal": 1, "spatial": 1, "frames": 8, "stride": 3, "sampling": "dense", "size": [64, 64]}
    common: dict[str, Any] = {
        "sample_ids": ["a", "b", "c"],
        "decoded": torch.tensor([True, True, False]),
        "failed": [FailedVideo(id="c", path=f"/home/{SECRET}/c.mp4", reason=f"cannot open /home/{SECRET}/c.mp4")],
        "class_names": ["run", "jump"],
        "views": views,
        "model": {"name": str(fine)},
        "data": {"dataset": "org/videos"},
    }
    scores = torch.tensor([[0.9, 0.4], [0.2, 0.7], [0.0, 0.0]])
    several = MultiLabelEvaluation(
        **common, labels=torch.tensor([[1, 1], [0, 1], [1, 0]]).bool(), probabilities=scores, logits=scores
    )
    numbers = RegressionEvaluation(**common, labels=torch.tensor([[1.0, 5], [2, 6], [3, 7]]), values=scores)
    several.save(fine)
    card = render_run_card(read_run_metadata(fine))
    assert "| mean average precision | 0.7500 |" in card and "| class | videos | average precision |" in card
    assert SECRET not in card and "| `c` | cannot open path/to/c.mp4 |" in card
    numbers.save(fine)
    change(fine / "config.json", problem_type="regression", id2label={"0": "run", "1": "jump"})
    card = render_run_card(read_run_metadata(fine))
    assert "1 could not be decoded; these are left out." in card and "| output | mean absolute error |" in card
    assert "gives a video 2 numbers" in card and "answer.to_text()" in card
    assert check_card(card, fine) == [] and set(header(card)["metrics"]) == {"mae", "rmse", "r_squared", "pearsonr"}


def test_running_run_shows_last_step(fine: Path) -> None:
    change(fine / "run.json", status="running", steps=0, total_steps=20)  # as it was written at the start
    assert "**The run goes on: step 8 of 20.**" in render_run_card(read_run_metadata(fine))


def test_stopped_run_without_model_has_short_card(fine: Path) -> None:
    change(fine / "run.json", status="stopped", steps=3)
    for name in ("config.json", "model.safetensors", "evaluation.json", "loss.png"):
        (fine / name).unlink()
    card = render_run_card(read_run_metadata(fine))
    assert "**The run was stopped**, at step 3 of 8." in card
    assert "## Use" not in card and "loss.png" not in card and check_card(card, fine) == []


def test_non_numeric_flags_match_the_recipe() -> None:
    numeric = {field.name for field in dataclasses.fields(FinetuneRecipe) if field.metadata["affects_numerics"]}
    assert {field.name for field in dataclasses.fields(FinetuneRecipe)} - numeric == NON_NUMERIC_FLAGS
