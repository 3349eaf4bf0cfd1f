"""Test that settings without an effect are refused, and that a resumed run keeps logging its samples."""

from pathlib import Path

import pytest

from hf_videomae.checkpoint_checksums import dump_checksummed_state
from hf_videomae.checkpoint_dir import read_state
from hf_videomae.training import FinetuneRecipe, PretrainRecipe, RunRecipe, parse_recipe
from hf_videomae.video.sampling import ClipSampler
from tests.helpers.toy import toy_train

pytestmark = pytest.mark.fault


def refused(capsys: pytest.CaptureFixture[str], recipe_class: type[RunRecipe], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parse_recipe(recipe_class, arguments)
    printed = capsys.readouterr().err
    assert caught.value.code == 2 and printed.startswith("error: ") and printed.count("\n") == 1
    return printed


@pytest.mark.parametrize("recipe_class", [PretrainRecipe, FinetuneRecipe])
def test_two_frame_spacings_are_refused(capsys: pytest.CaptureFixture[str], recipe_class: type[RunRecipe]) -> None:
    printed = refused(capsys, recipe_class, "--frame_stride", "4", "--frame-seconds=0.1")
    assert "frame_stride 4 and frame_seconds 0.1" in printed and "give one of them" in printed


def test_two_frame_spacings_in_recipe_file_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("frame_stride: 4\nframe_seconds: 0.1\n")
    assert str(file) in refused(capsys, PretrainRecipe, "--recipe", str(file))


def test_frame_spacing_flag_replaces_the_other_one_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("frame_seconds: 0.1\n")
    recipe = parse_recipe(PretrainRecipe, ["--recipe", str(file), "--frame_stride", "8"])
    assert (recipe.frame_stride, recipe.frame_seconds) == (8, None)
    file.write_text("frame_stride: 8\n")
    recipe = parse_recipe(PretrainRecipe, ["--recipe", str(file), "--frame_seconds", "0.1"])
    assert recipe.frame_seconds == 0.1


@pytest.mark.parametrize("flag", ["--frame_stride=4", "--frame_seconds=0.1"])
def test_frame_spacing_with_uniform_sampling_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flag: str
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("sampling: uniform\nframe_stride: 2\n")  # like the shipped recipes
    assert parse_recipe(FinetuneRecipe, ["--recipe", str(file)]).sampling == "uniform"
    for arguments in (["--recipe", str(file), flag], ["--sampling", "uniform", flag]):
        assert f"{flag.partition('=')[0]} has no effect on uniform sampling" in refused(
            capsys, FinetuneRecipe, *arguments
        )
    assert parse_recipe(FinetuneRecipe, ["--recipe", str(file), flag, "--sampling", "dense"]).sampling == "dense"


def test_resumed_run_may_change_frame_spacing(tmp_path: Path) -> None:
    """Resume a checkpoint that stores both: the value that was given, and the default of the other."""
    toy_train(tmp_path, stop_at_step=2)
    state_file = tmp_path / "checkpoint-2/run_state.json"
    state = read_state(tmp_path / "checkpoint-2")
    state["recipe"] |= {"frame_stride": 4, "frame_seconds": 0.1}
    state_file.write_text(dump_checksummed_state(state))
    recipe = parse_recipe(PretrainRecipe, ["--resume", "--output_dir", str(tmp_path)])
    assert (recipe.frame_stride, recipe.frame_seconds) == (4, 0.1)
    recipe = parse_recipe(PretrainRecipe, ["--resume", "--output_dir", str(tmp_path), "--frame_stride", "2"])
    assert (recipe.frame_stride, recipe.frame_seconds) == (2, None)


def test_resumed_run_keeps_log_samples(tmp_path: Path) -> None:
    toy_train(tmp_path / "logs", stop_at_step=2, log_samples=True)
    toy_train(tmp_path / "none", stop_at_step=2)
    assert parse_recipe(RunRecipe, ["--resume", "--output_dir", str(tmp_path / "logs")]).log_samples
    assert not parse_recipe(RunRecipe, ["--resume", "--output_dir", str(tmp_path / "none")]).log_samples
    arguments = ["--resume", "--output_dir", str(tmp_path / "logs"), "--no_log_samples"]
    assert not parse_recipe(RunRecipe, arguments).log_samples


def test_stride_with_uniform_sampling_of_model_is_refused() -> None:
    plan = ClipSampler(num_frames=8, mode="uniform")
    for distance in ({"stride": 4}, {"frame_seconds": 0.1}):
        with pytest.raises(ValueError, match="uniform sampling of the model.*--sampling dense"):
            plan.with_overrides(**distance)
        assert plan.with_overrides(mode="dense", **distance).mode == "dense"
