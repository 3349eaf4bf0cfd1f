"""Test the validations of a run: when they happen, what they leave unchanged, and what a failure does."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from hf_videomae.data import MotionSource
from hf_videomae.run_files import read_jsonl
from hf_videomae.training import (
    FinetuneRecipe,
    FinetuneTask,
    RecipeError,
    RunError,
    SplitValidator,
    ValidationResult,
    build_classifier,
)
from tests.helpers.toy import toy_train

TIMING = {"clips_per_second", "seconds", "data_wait", "data_seconds"}


class ToyValidation:
    """Validates every `every` steps, and draws from all random generators like careless code."""

    def __init__(self, every: int, *, fails_at: int | None = None) -> None:
        self.every, self.fails_at = every, fails_at
        self.step, self.measured, self.tested = 0, 0, 0

    def is_due(self, step: int, *, last: bool) -> bool:
        self.step = step
        return last or step % self.every == 0

    def validate(self) -> ValidationResult:
        self.measured += 1
        if self.step == self.fails_at:
            raise RunError("nothing decodes")
        torch.rand(3), np.random.rand(3), random.random()
        return ValidationResult({"eval_top1": self.step / 10}, f"top-1 {self.step / 10}")

    def test(self) -> None:
        self.tested += 1


def without_timing(folder: Path) -> list[dict[str, Any]]:
    lines = read_jsonl(folder / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name not in TIMING} for line in lines]


def test_validations_do_not_change_losses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy_train(tmp_path / "without")
    validation = ToyValidation(2)
    toy_train(tmp_path / "with", validator=validation)
    assert (validation.measured, validation.tested) == (3, 1)
    lines = without_timing(tmp_path / "with")
    found = [(line["step"], line.pop("eval_top1")) for line in lines if "eval_top1" in line]
    assert found == [(2, 0.2), (4, 0.4), (6, 0.6)] and lines == without_timing(tmp_path / "without")
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("with", "without")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert capsys.readouterr().out.count("validation after step") == 3


def test_resumed_run_validates_like_uninterrupted_one(tmp_path: Path) -> None:
    toy_train(tmp_path / "straight", validator=ToyValidation(2))
    for stop in (2, 3, None):
        resume = None if stop == 2 else "auto"
        toy_train(tmp_path / "parts", validator=ToyValidation(2), stop_at_step=stop, resume=resume)
    assert without_timing(tmp_path / "parts") == without_timing(tmp_path / "straight")


def test_validated_step_is_logged_and_test_comes_last(tmp_path: Path) -> None:
    stopped = ToyValidation(4)
    toy_train(tmp_path, validator=stopped, log_every=100, stop_at_step=5)
    assert [line["step"] for line in read_jsonl(tmp_path / "metrics.jsonl")] == [1, 4, 5]
    assert (stopped.measured, stopped.tested) == (1, 0)
    toy_train(tmp_path, validator=ToyValidation(4), resume="auto")
    again = ToyValidation(4)
    toy_train(tmp_path, validator=again, resume="auto")  # only the test is left to do
    assert (again.measured, again.tested) == (0, 1)


def test_failed_validation_loses_no_training(tmp_path: Path) -> None:
    toy_train(tmp_path / "straight")
    with pytest.raises(RunError, match=r"after step 3 failed: nothing decodes. checkpoint-3 is saved"):
        toy_train(tmp_path / "parts", validator=ToyValidation(1, fails_at=3))
    toy_train(tmp_path / "parts", resume="auto")
    losses = [
        [line["loss"] for line in read_jsonl(tmp_path / name / "metrics.jsonl")] for name in ("straight", "parts")
    ]
    assert len(losses[0]) == 6 and losses[0] == losses[1]


def test_validation_measures_ema_weights() -> None:
    # Always answering class 2 is right on two of the 11 videos; always answering class 5, on one.
    AcceleratorState._reset_state(reset_partial_state=True)
    recipe = FinetuneRecipe(ema_decay=0.5, test_split="test", num_workers=0)
    source = MotionSource(split="test", num_videos=11)
    model = build_classifier(recipe, class_names=source.class_names).train()
    task = FinetuneTask(recipe, model=model, source=source, stride=2)
    task.attach_ema(torch.optim.SGD(model.parameters()))
    validation = SplitValidator(recipe, task=task, source=source, accelerator=Accelerator(cpu=True))
    assert task.ema is not None
    task.ema.tensors["classifier.bias"][2] = 1000.0
    with torch.no_grad():
        model.classifier.bias[5] = 1000.0
    measured = validation.validate()
    assert measured.metrics["eval_top1"] == pytest.approx(2 / 11) and "on 11 videos" in measured.summary
    assert model.classifier.bias[5] == 1000.0 and model.classifier.bias[2] != 1000.0 and model.training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_every": 5}, "name their split with test_split"),
        ({"eval_every": 0, "test_split": "test"}, "eval_every is 0"),
        ({"eval_views": "5", "test_split": "test"}, "eval_views is '5'"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        FinetuneRecipe(**settings)
