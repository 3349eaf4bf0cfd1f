"""Test that each recipe file is complete, loads, adds up, and says what the papers' scripts say."""

import argparse
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_videomae.training import PretrainRecipe
from hf_videomae.training.recipe_cli import load_recipe_file
from tests.helpers.scripts import load_script

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RECIPES = EXAMPLES / "recipes"
FILES = sorted(RECIPES.glob("*.yaml"))

# videos per step, base learning rate, epochs, layer decay, drop path, head dropout, clips of each video, views
PUBLISHED: dict[str, tuple[int, float, int, float, float, float, int, str]] = {
    "v1-k400-small-finetune": (384, 5e-4, 150, 0.75, 0.1, 0.0, 2, "5x3"),
    "v1-k400-base-800-finetune": (512, 1e-3, 100, 0.75, 0.1, 0.0, 1, "5x3"),
    "v1-k400-base-finetune": (384, 5e-4, 75, 0.75, 0.1, 0.0, 2, "5x3"),
    "v1-k400-large-finetune": (128, 2e-3, 35, 0.75, 0.1, 0.0, 2, "5x3"),
    "v1-k400-huge-finetune": (512, 1e-3, 50, 0.75, 0.2, 0.5, 2, "5x3"),
    "v1-ssv2-small-finetune": (384, 1e-3, 40, 0.7, 0.1, 0.0, 2, "2x3"),
    "v1-ssv2-base-800-finetune": (512, 5e-4, 50, 0.75, 0.1, 0.0, 1, "2x3"),
    "v1-ssv2-base-finetune": (384, 5e-4, 30, 0.75, 0.1, 0.0, 2, "2x3"),
    "v1-ssv2-large-finetune": (512, 5e-4, 30, 0.75, 0.2, 0.5, 2, "2x3"),
    "v1-ucf101-base-finetune": (128, 5e-4, 100, 0.7, 0.2, 0.5, 2, "5x3"),
    "v1-hmdb51-base-finetune": (128, 1e-3, 50, 0.7, 0.2, 0.5, 2, "10x3"),
    "v2-k400-base-finetune": (512, 7e-4, 90, 0.75, 0.1, 0.0, 2, "5x3"),
    "v2-k710-base-finetune": (512, 7e-4, 90, 0.75, 0.1, 0.0, 2, "5x3"),
    "v2-ssv2-base-finetune": (256, 2e-3, 25, 0.65, 0.1, 0.0, 2, "2x3"),
    "v2-k400-large-finetune": (192, 2e-3, 35, 0.75, 0.2, 0.0, 2, "5x3"),
    "v2-ssv2-large-finetune": (192, 5e-4, 20, 0.75, 0.2, 0.0, 2, "2x3"),
    "v2-k400-huge-finetune": (128, 1e-3, 40, 0.8, 0.2, 0.5, 2, "5x3"),
    "v2-k600-huge-finetune": (128, 1e-3, 40, 0.8, 0.2, 0.5, 2, "5x3"),
    "v2-k710-huge-finetune": (128, 1e-3, 40, 0.8, 0.2, 0.5, 2, "5x3"),
    "v2-ssv2-huge-finetune": (128, 5e-4, 20, 0.8, 0.2, 0.0, 2, "2x3"),
    "v2-k400-giant-finetune": (192, 1e-3, 30, 0.9, 0.2, 0.0, 2, "5x3"),
    "v2-k710-giant-finetune": (96, 1e-3, 35, 0.9, 0.3, 0.0, 2, "5x3"),
    "v2-k710-k400-giant-finetune": (96, 1e-5, 3, 0.9, 0.25, 0.0, 2, "5x3"),
    "v2-k710-k600-giant-finetune": (96, 1e-5, 3, 0.9, 0.25, 0.0, 2, "5x3"),
    "v2-ssv2-giant-finetune": (96, 3e-4, 20, 0.9, 0.25, 0.0, 2, "2x3"),
    "v2-ucf101-giant-finetune": (24, 1e-3, 50, 0.9, 0.35, 0.5, 2, "5x3"),
    "v2-hmdb51-giant-finetune": (24, 5e-4, 15, 0.9, 0.35, 0.5, 2, "5x3"),
}


@cache
def content(name: str) -> dict[str, Any]:
    return yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))


def script_of(name: str) -> str:
    return re.findall(r"examples/(\w+)\.py", content(name)["about"]["command"])[0]


@cache
def recipe_class(script: str) -> Any:
    if script == "pretrain":
        return PretrainRecipe
    if script == "finetune":
        return pytest.importorskip("hf_videomae.training.finetune_recipe").FinetuneRecipe
    if script.startswith("compare"):
        pytest.importorskip("hf_videomae.evaluation.multiview")
    names = {
        "probe": "ProbeRecipe",
        "compare_motion": "MotionComparison",
        "compare_ut_interaction": "InteractionComparison",
    }
    return getattr(load_script(EXAMPLES / f"{script}.py"), names[script])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_whole(path: Path) -> None:
    about = content(path.stem)["about"]
    assert {"title", "command", "hardware", "cost", "reaches"} <= about.keys()
    assert f"--recipe {path.stem} " in f"{about['command']} "
    kind = recipe_class(script_of(path.stem))
    recipe = kind(**load_recipe_file(path, kind))
    for field in ("pretrain_recipe", "finetune_recipe", "motion_recipe"):
        assert getattr(recipe, field, "tiny") in [file.stem for file in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_commands_name_flags_that_exist(path: Path) -> None:
    from hf_videomae.training.recipe_cli import build_parser

    command = content(path.stem)["about"]["command"].partition(".py ")[2].split()
    parser = build_parser(recipe_class(script_of(path.stem)))
    assert parser.parse_args(command).recipe == path.stem  # and no flag is unknown: that would exit


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_are_those_of_the_scripts(name: str) -> None:
    found = content(name)
    total, base_lr, epochs, layer_decay, drop_path, head_dropout, num_sample, views = PUBLISHED[name]
    assert (found["tuned_batch"], float(found["base_lr"]), found["epochs"]) == (total, base_lr, epochs)
    assert (found["layer_decay"], found["drop_path"], found["head_dropout"]) == (layer_decay, drop_path, head_dropout)
    assert (found["num_sample"], found["views"]) == (num_sample, views)
    assert found["rand_augment"] == "rand-m7-n4-mstd0.5-inc1" and found["reprob"] == 0.25
    assert (found["mixup"], found["cutmix"], found["label_smoothing"]) == (0.8, 1.0, 0.1)
    assert found["warmup_epochs"] == (1 if epochs == 3 else 5) and found["betas"] == [0.9, 0.999]
    on_ssv2 = "ssv2" in name
    assert found["sampling"] == ("uniform" if on_ssv2 else "dense") and found["flip"] == (0.0 if on_ssv2 else 0.5)
    giant_on_kinetics = "giant" in name and ("k400" in name or "k600" in name or "k710" in name)
    assert found["weight_decay"] == (0.1 if giant_on_kinetics else 0.05)
    assert "differs" in found["about"] and "source" in found["about"]


def test_every_published_fine_tuning_has_a_recipe() -> None:
    assert {path.stem for path in FILES if path.stem.endswith("-finetune") and path.stem[:2] in ("v1", "v2")} == set(
        PUBLISHED
    )


@pytest.mark.parametrize("path", [path for path in FILES if "tuned_batch" in path.read_text()], ids=lambda p: p.stem)
def test_the_command_makes_the_batch(path: Path) -> None:
    found = content(path.stem)
    processes = int(re.findall(r"--num_processes (\d+)", found["about"]["command"])[-1])
    batch = processes * found["batch_size"] * found.get("gradient_accumulation", 1)
    assert batch == found["tuned_batch"]
    shown = re.findall(r"(\d+) per step: learning rate ([\d.e-]+) x (\d+) / 256 = ([\d.e-]+)\.\n", path.read_text())
    assert shown, "the file says how its learning rate comes about"
    assert int(shown[0][0]) == int(shown[0][2]) == batch
    assert float(shown[0][1]) == pytest.approx(float(found["base_lr"]), rel=0.01)
    assert float(shown[0][3]) == pytest.approx(float(found["base_lr"]) * batch / 256, rel=0.01)


@pytest.mark.fault
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recipes_say_how_their_data_are_prepared(path: Path) -> None:
    about = content(path.stem)["about"]
    if "--dataset DIR" not in about["command"] and "KINETICS" not in about["command"]:
        return
    commands = re.findall(r"hf-videomae (prepare \S+ \S+(?: --\w+ \w+)*)", about["prepare"])
    assert commands, "the command that prepares the data"
    for command in commands:
        parsed = command_line().parse_args(command.split())
        if re.search(r"k(400|600|700|710)", path.stem) or "KINETICS" in command:
            assert parsed.short_side == 320, "the originals' Kinetics"
        if "ssv2" in path.stem or "SSV2" in command:
            assert parsed.short_side == 240


def command_line() -> argparse.ArgumentParser:
    from hf_videomae.cli.prepare import add_commands

    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    return parser


@pytest.mark.fault
def test_published_settings_that_were_left_out() -> None:
    for name in ("v2-k710-k400-giant-finetune", "v2-k710-k600-giant-finetune"):
        assert content(name)["head"] == "pick" and "--head pick" in content(name)["about"]["command"]
    for name in PUBLISHED:
        assert content(name).get("front_pad", False) == (name.startswith("v2-ssv2"))
    for size in ("base", "large", "huge", "giant"):
        command = content(f"v2-hybrid-{size}")["about"]["command"]
        assert re.search(r"--dataset KINETICS SSV2 OTHERS --dataset_strides 4 2 4 ", command)
    linear = content("v1-ssv2-base-linear")
    assert (linear["views"], linear["antialias"]) == ("2x3", False)
    assert "0.1" in linear["about"]["differs"] and "--learning_rate 0.4" in linear["about"]["differs"]


@pytest.mark.fault
@pytest.mark.parametrize(
    "path", [path for path in FILES if re.search(r"\b(8|16|24|32)01\b", path.read_text())], ids=lambda p: p.stem
)
def test_the_extra_epoch_is_explained(path: Path) -> None:
    assert "crash" in content(path.stem)["about"]["differs"]
