"""Test settings from defaults, YAML and the command line; invalid ones are refused with a remedy."""

import json
from pathlib import Path

import pytest

from hf_videomae.checkpoint_dir import STATE_FORMAT
from hf_videomae.training import PretrainRecipe, parse_recipe
from hf_videomae.training.recipe import RecipeError, changed_settings
from hf_videomae.training.recipe_cli import load_recipe_file

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "recipes"


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def parse(*arguments: str) -> PretrainRecipe:
    return parse_recipe(PretrainRecipe, arguments, folder=RECIPES)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        parse(*arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("error: ")
    return captured.err


def test_command_line_wins_over_file_and_file_over_defaults(tmp_path: Path) -> None:
    file = write(tmp_path / "r.yaml", "batch_size: 8\nbase_lr: 1e-4\ncompile: true\nbetas: [0.9, 0.999]\n")
    recipe = parse("--recipe", file, "--batch_size", "4", "--no_compile")
    assert (recipe.batch_size, recipe.base_lr, recipe.compile, recipe.betas) == (4, 1e-4, False, (0.9, 0.999))
    assert recipe.weight_decay == 0.05


def test_flags_accept_hyphens_and_equals() -> None:
    recipe = parse("--output-dir=here", "--max-steps", "7", "--report_to", "trackio", "tensorboard")
    assert (recipe.output_dir, recipe.max_steps, recipe.report_to) == ("here", 7, ("trackio", "tensorboard"))


@pytest.mark.parametrize(("arguments", "value"), [([], None), (["--resume"], "auto"), (["--resume", "auto"], "auto")])
def test_resume_without_value_means_auto(arguments: list[str], value: str | None, tmp_path: Path) -> None:
    assert parse("--output_dir", str(tmp_path), *arguments).resume == value


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for name in vars(PretrainRecipe()):
        assert f"--{name}" in text
    assert "--recipe" in text


def test_unknown_key_suggests_similar_ones(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = write(tmp_path / "r.yaml", "mask_ration: 0.9\n")
    error = refused(capsys, "--recipe", file)
    assert "unknown setting mask_ration; did you mean mask_ratio" in error and "r.yaml" in error


def test_unknown_flag_suggests_similar_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown flag --batchsize; did you mean --batch_size" in refused(capsys, "--batchsize", "3")
    assert "unexpected argument 'data'" in refused(capsys, "data")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch_size", "many"], "--batch_size is 'many'; give a whole number"),
        (["--batch_size", "0"], "batch_size is 0; give a number of 1 or more"),
        (["--base_lr", "-1"], "base_lr is -1.0; give a number above 0"),
        (["--base_lr", "nan"], "base_lr is nan"),
        (["--mask_type", "tubes"], "choose one of tube, random, frame, running_cell"),
        (["--mask_ratio", "1.5"], "mask_ratio is 1.5"),
        (["--mixed_precision", "fp16"], "choose one of no, bf16"),
        (["--max_bad_share", "2"], "max_bad_share is 2.0, but it is a fraction"),
        (["--report_to", "mlflow"], "report_to names 'mlflow'"),
        (["--dataset", "a", "b", "--dataset_weights", "1"], "dataset_weights has 1 values and dataset 2"),
        (["--dataset", "a", "b", "--dataset_weights", "1", "0"], "dataset_weights are 1.0 0.0; give numbers above 0"),
        (["--recipe", "nowhere.yaml"], "there is no recipe 'nowhere.yaml'"),
        (["--resume", "org/model"], "the Hub is switched off (HF_HUB_OFFLINE)"),
        (["--resume", "/nowhere/checkpoint-3"], "there is no such directory"),
    ],
)
def test_invalid_values_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert message in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_size: [1, 2]", "give a whole number"),
        ("batch_size: true", "give a whole number"),
        ("batch_size: 2.5", "give a whole number"),
        ("compile: 3", "give true or false"),
        ("betas: [0.9]", "give 2 values"),
        ("dataset: []", "give one value or more"),
        ("dataset: null", "give a text"),
        ("cache_dir: [a]", "cache_dir is .*; give a text"),
        ("- a", "must be a list of `name: value` lines"),
        ("a: b: c", "is not YAML"),
        ("about: {price: 3}", "`about` may hold"),
    ],
)
def test_invalid_recipe_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe_file(write(tmp_path / "r.yaml", text), PretrainRecipe)


def test_yaml_numbers_and_booleans_are_converted(tmp_path: Path) -> None:
    # YAML 1.1 reads `no` as false and 1e-4 as a string.
    file = write(tmp_path / "r.yaml", "mixed_precision: no\nbase_lr: 1e-4\nclip_grad: null\nnorm_pix_loss: false\n")
    values = load_recipe_file(file, PretrainRecipe)
    assert values == {"mixed_precision": "no", "base_lr": 1e-4, "clip_grad": None, "norm_pix_loss": False}


def test_one_dataset_is_a_string_and_several_are_a_list(tmp_path: Path) -> None:
    assert parse().dataset == "motion" and parse("--dataset", "none, or two").dataset == "none, or two"
    assert parse("--dataset", "none").dataset == "none"
    mixed = parse("--dataset", "a", "b c", "--dataset_weights", "0.6", "0.4")
    assert (mixed.dataset, mixed.dataset_weights) == (("a", "b c"), (0.6, 0.4))
    assert mixed.numeric_settings()["dataset"] == ["a", "b c"] and mixed.dataset_name == "a + b c"
    file = write(tmp_path / "r.yaml", "dataset: [a, b]\ndataset_weights: [3, 1]\n")
    assert parse("--recipe", file).dataset == ("a", "b")
    assert load_recipe_file(write(tmp_path / "one.yaml", "dataset: [a]\n"), PretrainRecipe) == {"dataset": "a"}
    # As a checkpoint stores it and a resumed run reads it.
    assert (
        PretrainRecipe(
            **load_recipe_file(write(tmp_path / "j.yaml", json.dumps(mixed.numeric_settings())), PretrainRecipe)
        )
        == mixed
    )


def test_epochs_of_later_layer_win_over_steps_of_earlier_one(tmp_path: Path) -> None:
    file = write(tmp_path / "r.yaml", "max_steps: 100\nwarmup_steps: 10\n")
    recipe = parse("--recipe", file, "--epochs", "3", "--warmup_epochs", "1")
    assert (recipe.max_steps, recipe.epochs, recipe.warmup_steps, recipe.warmup_epochs) == (None, 3.0, None, 1.0)


def whole_checkpoint(folder: Path, recipe: dict[str, object]) -> Path:
    folder.mkdir(parents=True)
    (folder / "run_state.json").write_text(
        json.dumps({"format": STATE_FORMAT, "step": 3, "recipe": recipe, "files": {}})
    )
    return folder


def test_resume_takes_settings_of_checkpoint(tmp_path: Path) -> None:
    checkpoint = whole_checkpoint(tmp_path / "run" / "checkpoint-3", {"batch_size": 5, "seed": 9, "gone": 1})
    recipe = parse("--resume", str(checkpoint), "--seed", "2")
    assert (recipe.batch_size, recipe.seed, recipe.output_dir) == (5, 2, str(tmp_path / "run"))
    assert parse("--resume", "--output_dir", str(tmp_path / "run")).batch_size == 5


def test_resume_with_recipe_file_takes_settings_of_file(tmp_path: Path) -> None:
    whole_checkpoint(tmp_path / "checkpoint-3", {"batch_size": 5, "seed": 9})
    file = write(tmp_path / "r.yaml", "batch_size: 6\n")
    recipe = parse("--resume", "--output_dir", str(tmp_path), "--recipe", file)
    assert (recipe.batch_size, recipe.seed) == (6, 0)


def test_changed_settings_are_named() -> None:
    assert changed_settings({"a": 1, "b": [1], "c": 2}, {"a": 1, "b": [2], "d": 3}) == {
        "b": ([1], [2]),
        "d": (None, 3),
        "c": (2, None),
    }
