"""Test the comparison scripts: folds without leaks, stages that are kept, and the report."""

import json
from pathlib import Path

import compare_motion as motion
import compare_ut_interaction as interaction
import pytest
from compare import stages
from compare.comparison import ComparisonRow

from hf_videomae.data import DataError, Source, open_source

# The folds.


def test_committed_folds_split_by_sequence(data_dir: Path) -> None:
    folds = interaction.read_folds("ut-interaction-folds.csv")
    assert len(folds) == 14 and set(folds.values()) == {1, 2, 3, 4, 5}
    clips = interaction.assign_folds(data_dir, folds)
    assert len(clips) == 83
    # The sequence stands in the file name, too: set1_seq07_035.avi
    for path, fold in clips.items():
        assert folds[str(int(path.partition("_seq")[2][:2]))] == fold


def test_fold_links_open_as_splits(data_dir: Path, tmp_path: Path) -> None:
    clips = interaction.assign_folds(data_dir, interaction.read_folds("ut-interaction-folds.csv"))
    tested: list[str] = []
    for fold in (1, 5):
        folder = interaction.link_fold(data_dir, tmp_path / str(fold), fold=fold, clips=clips)
        interaction.link_fold(data_dir, folder, fold=fold, clips=clips)  # again is harmless
        train, test = (open_source(str(folder), split=split, require_labels=True) for split in ("train", "test"))
        assert isinstance(train, Source) and isinstance(test, Source)
        assert train.class_names == test.class_names and len(train) + len(test) == 83
        names = [{test[i].id.removeprefix("test/") for i in range(len(test))}]
        names.append({train[i].id.removeprefix("train/") for i in range(len(train))})
        assert names[0] == {path for path, clip_fold in clips.items() if clip_fold == fold} and not names[0] & names[1]
        tested += names[0]
        assert all(path.is_symlink() for path in folder.glob("*/*/*"))
    assert len(tested) == len(set(tested))
    with pytest.raises(DataError, match="of other folds"):
        interaction.link_fold(data_dir, tmp_path / "1", fold=2, clips=clips)


def test_invalid_folds_are_refused(tmp_path: Path) -> None:
    def written(text: str) -> str:
        (tmp_path / "f.csv").write_text(text, encoding="utf-8")
        return str(tmp_path / "f.csv")

    for text, message in [
        ("fold,sequence\n1,1\n2,1\n", "sequence 1 is in two folds"),
        ("fold,sequence\n1,1\n1,2\n", "lists 1 folds"),
        ("fold,sequence\nfirst,1\n", "every row needs a number `fold`"),
        ("part,sequence\n1,1\n", "every row needs a number `fold`"),
    ]:
        with pytest.raises(DataError, match=message):
            interaction.read_folds(written(text))
    with pytest.raises(DataError, match="there is no list of folds"):
        interaction.read_folds("nowhere.csv")
    with pytest.raises(DataError, match="has no index.csv"):
        interaction.assign_folds(tmp_path, {})
    (tmp_path / "index.csv").write_text("path,label,sequence\na/x.avi,a,9\n", encoding="utf-8")
    with pytest.raises(DataError, match="in no fold, the first is a/x.avi"):
        interaction.assign_folds(tmp_path, {"1": 1})
    with pytest.raises(DataError, match="no clip of b in training or in test"):
        interaction.link_fold(tmp_path, tmp_path / "out", fold=1, clips={"a/x": 1, "a/y": 2, "b/z": 2})


def test_baselines_of_the_folds_reach_the_stated_accuracy(data_dir: Path) -> None:
    clips = interaction.assign_folds(data_dir, interaction.read_folds("ut-interaction-folds.csv"))
    frame, geometry = interaction.evaluate_baselines(data_dir, clips, folds=[1, 2, 3, 4, 5])
    assert geometry.is_baseline and frame.is_baseline
    # The recipe file states them; decoders differ in a rounding or two.
    assert geometry.values[0] == pytest.approx(0.614, abs=0.03)
    assert frame.values[0] == pytest.approx(0.590, abs=0.04)


# The stages.


def test_stage_is_kept_resumed_or_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    status = "finished"

    def run(command: list[str]) -> int:
        commands.append(command[1:])
        folder = Path(command[command.index("--output_dir") + 1])
        (folder / "run.json").write_text(json.dumps({"status": status, "updated": f"time {len(commands)}"}))
        return 0 if status == "finished" else 130

    monkeypatch.setattr(stages, "_run", run)
    out = tmp_path / "run"
    for _ in range(2):
        assert stages.run_stage("pretrain.py", ["--seed", "1"], output_dir=out) == out
    script = str(stages.EXAMPLES / "pretrain.py")
    assert commands == [[script, "--seed", "1", "--output_dir", str(out), "--overwrite"]]
    status = "stopped"
    with pytest.raises(SystemExit) as stop:
        stages.run_stage("pretrain.py", ["--seed", "2"], output_dir=out)
    assert stop.value.code == 130 and commands[-1][-1] == "--overwrite"
    (out / "checkpoint-3").mkdir()
    status = "finished"
    stages.run_stage("pretrain.py", ["--seed", "2"], output_dir=out)
    assert commands[-1][-1] == "--resume"


def test_stage_reruns_after_a_change_of_its_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []

    def run(command: list[str]) -> int:
        folder = Path(command[command.index("--output_dir") + 1])
        runs.append(folder.name)
        (folder / "run.json").write_text(json.dumps({"status": "finished", "updated": f"time {len(runs)}"}))
        return 0

    monkeypatch.setattr(stages, "_run", run)
    monkeypatch.setattr(stages, "EXAMPLES", tmp_path)
    recipe = tmp_path / "recipes" / "mine.yaml"
    recipe.parent.mkdir()
    recipe.write_text("epochs: 1\n")
    encoder, classifier = tmp_path / "encoder", tmp_path / "classifier"

    def both(*, seed: int) -> list[str]:
        before = len(runs)
        stages.run_stage("pretrain.py", ["--seed", str(seed)], output_dir=encoder)
        stages.run_stage("finetune.py", ["--recipe", "mine", "--model", encoder], output_dir=classifier)
        return runs[before:]

    assert both(seed=0) == ["encoder", "classifier"]
    assert both(seed=0) == []
    assert both(seed=1) == ["encoder", "classifier"]  # the second command is the same, its model is not
    recipe.write_text("epochs: 2\n")
    assert both(seed=1) == ["classifier"]


def test_both_models_get_the_same_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, list[str], Path]] = []

    def run_stage(script: str, arguments: list[str | Path], *, output_dir: Path) -> Path:
        ran.append((script, [str(argument) for argument in arguments], output_dir))
        return output_dir

    monkeypatch.setattr(motion, "run_stage", run_stage)
    settings = motion.MotionComparison(finetune_steps=7, output_dir=str(tmp_path))
    pretrained, scratch = motion.finetune_models(settings, seed=3, folder=tmp_path)
    assert [entry[0] for entry in ran] == ["pretrain.py", "finetune.py", "finetune.py"]
    first, second = ran[1][1], ran[2][1]
    assert first[:-1] == second[:-1] and "--max_steps 7" in " ".join(first) and "--seed 3" in " ".join(first)
    assert (first[-1], second[-1]) == (str(tmp_path / "pretrain"), "tiny")
    ran.clear()
    given = motion.MotionComparison(pretrained="outputs/demo", output_dir=str(tmp_path))
    motion.finetune_models(given, seed=0, folder=tmp_path)
    assert [entry[0] for entry in ran] == ["finetune.py", "finetune.py"] and ran[0][1][-1] == "outputs/demo"


def test_pretraining_sees_no_test_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, list[str], Path]] = []

    def run_stage(script: str, arguments: list[str | Path], *, output_dir: Path) -> Path:
        ran.append((script, [str(argument) for argument in arguments], output_dir))
        return output_dir

    monkeypatch.setattr(interaction, "run_stage", run_stage)
    settings = interaction.InteractionComparison(output_dir=str(tmp_path))
    models = interaction.train_models(
        settings, fold=tmp_path / "folds" / "2", motion=tmp_path / "motion", seed=0, folder=tmp_path / "fold-2"
    )
    assert [path.name for path in models] == ["scratch", "pretrained", "motion"]
    # The split is the default, `train`, of the fold's own folder, everywhere.
    assert all(arguments[2:4] == ["--dataset", str(tmp_path / "folds" / "2")] for _, arguments, _ in ran)
    assert not any("--split" in arguments for _, arguments, _ in ran)
    assert [arguments[-1] for _, arguments, _ in ran] == [
        "tiny",
        str(tmp_path / "motion"),
        "tiny",
        str(tmp_path / "fold-2" / "pretrain"),
        str(tmp_path / "fold-2" / "pretrain-motion"),
    ]


def test_invalid_settings_are_refused() -> None:
    for wrong, message in [({"seeds": ()}, "seeds are"), ({"seeds": (1, 1)}, "seeds are"), ({"views": "5"}, "views")]:
        for config_class in (motion.MotionComparison, interaction.InteractionComparison):
            with pytest.raises(ValueError, match=message):
                config_class(**wrong)
    with pytest.raises(ValueError, match="give one seed"):
        motion.MotionComparison(seeds=(0, 1), pretrained="outputs/demo")
    with pytest.raises(ValueError, match="motion_model names one checkpoint"):
        interaction.InteractionComparison(seeds=(0, 1), motion_model="outputs/demo")


def test_report_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [ComparisonRow("a", (0.5, 0.7)), ComparisonRow("b", (0.2,), is_baseline=True)]
    stages.write_comparison(
        entries, tmp_path / "out", title="T", chance=0.125, seeds=(0, 1), facts={"n": 3}, remarks=["R."]
    )
    assert "| a | 0.500 | 0.700 | 0.600 ± 0.100 |" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert record["rows"][0] == {"name": "a", "values": [0.5, 0.7], "baseline": False} and record["n"] == 3
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert text.startswith("# T\n") and text.endswith("R.\n")
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 5000
