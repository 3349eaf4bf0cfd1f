"""Test that classifier rows are selected by class name, whatever their order."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification
from hf_videomae.cli import main
from hf_videomae.convert import convert_checkpoint
from hf_videomae.ops.class_names import KINETICS_710_NAMES, find_class_rows
from hf_videomae.training import FinetuneRecipe, RecipeError, RunError, build_classifier

pytestmark = pytest.mark.fault

# 710 classes: the merged ones of Kinetics-710 and others of made-up names.
K710 = sorted([*KINETICS_710_NAMES.values(), *(f"class number {n} (indoors)" for n in range(696))])
K400 = sorted([*KINETICS_710_NAMES, *(f"Class_Number_{n}_(indoors)" for n in range(0, 696, 2))])[::-1]


def shuffled_k710() -> list[str]:
    """Return the 710 classes out of alphabetical order, as VideoMAE V2's are."""
    return random.Random(0).sample(K710, len(K710))


def save(folder: Path, names: list[str] | None) -> Path:
    torch.manual_seed(1)
    labels = {"num_labels": 710} if names is None else {"id2label": dict(enumerate(names))}
    fields = {"num_hidden_layers": 1, "head_init_scale": 10.0, "hidden_size": 32, "intermediate_size": 32}
    config = VideoMAEConfig.from_preset("tiny", task="classification", **fields, **labels)
    model = VideoMAEForVideoClassification(config)
    torch.nn.init.normal_(model.classifier.bias)
    model.save_pretrained(folder)
    return folder


def expected_rows(names: list[str]) -> list[int]:
    """Return the rows of K400's classes, found in another way than by the package."""
    merged = [KINETICS_710_NAMES.get(name, name.lower().replace("_", " ")) for name in K400]
    return [names.index(name) for name in merged]


def check_selected(model: VideoMAEForVideoClassification, folder: Path, names: list[str]) -> None:
    weights, rows = load_file(folder / "model.safetensors"), expected_rows(names)
    assert torch.equal(model.classifier.weight, weights["classifier.weight"][rows])
    assert torch.equal(model.classifier.bias, weights["classifier.bias"][rows])
    assert model.config.num_labels == model.num_labels == len(K400)
    assert [model.config.id2label[number] for number in range(len(K400))] == K400
    assert model.config.label2id == {name: number for number, name in enumerate(K400)}


@pytest.mark.parametrize("names", [K710, shuffled_k710()], ids=["alphabetical", "other order"])
def test_convert_selects_classes(names: list[str], tmp_path: Path) -> None:
    folder = save(tmp_path / "in", names)
    (tmp_path / "k400.txt").write_text("\n".join(K400) + "\n")
    arguments = ["convert", str(folder), str(tmp_path / "out"), "--classes", str(tmp_path / "k400.txt"), "--no_check"]
    assert main(arguments) == 0
    check_selected(VideoMAEForVideoClassification.from_pretrained(tmp_path / "out"), folder, names)
    assumed = json.loads((tmp_path / "out" / "conversion.json").read_text())["assumed"]
    assert any("'drinking' is 'sipping cup'" in line for line in assumed)


def test_id2label_is_applied_before_classes(tmp_path: Path) -> None:
    folder, names = save(tmp_path / "in", None), shuffled_k710()
    done = convert_checkpoint(folder, id2label=dict(enumerate(names)), classes=K400, check=False)
    check_selected(done.model, folder, names)


@pytest.mark.parametrize("names", [K710, shuffled_k710()], ids=["alphabetical", "other order"])
def test_finetuning_selects_the_classes_of_its_dataset(names: list[str], tmp_path: Path, capsys) -> None:
    folder = save(tmp_path, names)
    recipe = FinetuneRecipe(model=str(folder), head="pick", drop_path=0.0)
    check_selected(build_classifier(recipe, class_names=K400), folder, names)
    assert f"{len(K400)} of the 710 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["class number 1 (indoors)", "juggling knives"], ["1 of 2 classes", "'juggling knives'"]),
        (["class number 1000 (indoors)", "x y z"], ["2 of 2 classes", "'x y z'", "the nearest"]),
        (["drinking", "Sipping Cup"], ["'drinking', 'Sipping Cup'", "one class"]),
        (["class number 1 (indoors)", "Class_number_1_indoors"], ["case or punctuation"]),
    ],
)
def test_missing_classes_are_named(wanted: list[str], words: list[str], tmp_path: Path, capsys) -> None:
    with pytest.raises(ValueError) as error:
        find_class_rows(wanted, K710, owner="me/k710")
    assert all(word in str(error.value) for word in [*words, "me/k710"])
    folder = save(tmp_path / "in", K710)
    with pytest.raises(RunError, match="--head pick: .*leave --head out"):
        build_classifier(FinetuneRecipe(model=str(folder), head="pick"), class_names=wanted)
    (tmp_path / "names.json").write_text(json.dumps(wanted))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["convert", str(folder), str(tmp_path / "out"), "--classes", str(tmp_path / "names.json")])
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert stop.value.code == 2 and len(errors) == 1 and words[0] in errors[0]
    assert not (tmp_path / "out").exists()


def test_merged_names_are_only_used_for_kinetics_710() -> None:
    with pytest.raises(ValueError, match="'drinking'"):
        find_class_rows(["drinking"], ["sipping cup", "running"], owner="me/model")


def test_head_without_class_names_asks_for_them(tmp_path: Path) -> None:
    folder = save(tmp_path, None)
    with pytest.raises(RunError, match="LABEL_0 to LABEL_709.*--id2label.*label_map_k710.txt"):
        build_classifier(FinetuneRecipe(model=str(folder), head="pick"), class_names=K400)


def test_model_without_classifier_is_refused(tmp_path: Path) -> None:
    VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny", num_hidden_layers=1)).save_pretrained(tmp_path)
    with pytest.raises(RunError, match="has no classifier"):
        build_classifier(FinetuneRecipe(model=str(tmp_path), head="pick"), class_names=K400)
    with pytest.raises(ValueError, match="has no classifier"):
        convert_checkpoint(tmp_path, classes=K400, check=False)
    for wrong in ({"model": "tiny"}, {"model": "org/x", "problem_type": "regression"}):
        with pytest.raises(RecipeError, match="head is pick"):
            FinetuneRecipe(head="pick", **wrong)
    with pytest.raises(ValueError, match="both say"):
        convert_checkpoint(tmp_path, classes=K400, head_indices=[0])
