"""Test errors and correlation of predicted numbers against hand-computed cases."""

import json
import math
from pathlib import Path

import pytest
import torch

from hf_videomae.data import DataError, Sample
from hf_videomae.evaluation import FailedVideo, RegressionEvaluation, evaluate
from tests.helpers.videos import Listed, classifier, processor, samples


def case() -> RegressionEvaluation:
    """Return two outputs for four videos, the third not decoded; the true second output is always 5."""
    return RegressionEvaluation(
        sample_ids=["a", "b", "c", "d"],
        labels=torch.tensor([[1.0, 5], [2, 5], [100, 5], [3, 5]]),
        values=torch.tensor([[1.0, 4], [4, 6], [0, 0], [4, 8]]),
        decoded=torch.tensor([True, True, False, True]),
        failed=[FailedVideo(id="c", path="/data/c", reason="it is empty (0 bytes)")],
        class_names=["size", "speed"],
        views={"temporal": 1, "spatial": 1},
    )


def test_errors_match_hand_computed_values() -> None:
    size, speed = case().outputs
    # errors 0, 2, 1; truth 1, 2, 3 varies by 2; answers 1, 4, 4
    assert size.mae == pytest.approx(1) and size.rmse == pytest.approx(math.sqrt(5 / 3))
    assert size.r2 == pytest.approx(1 - 5 / 2)
    assert size.pearson == pytest.approx((2 * 1 + 1 * 1) / math.sqrt(2 * 6))
    # errors -1, 1, 3; all true numbers are the same
    assert speed.mae == pytest.approx(5 / 3) and speed.rmse == pytest.approx(math.sqrt(11 / 3))
    assert speed.r2 is None and speed.pearson is None
    result = case().metrics
    assert result["mae"] == pytest.approx((1 + 5 / 3) / 2) and result["r2"] == pytest.approx(-1.5)


def test_constant_numbers_have_no_correlation() -> None:
    changed = {"labels": torch.full((4, 2), 0.1), "values": torch.full((4, 2), 0.3)}
    for row in RegressionEvaluation(**{**vars(case()), **changed}).outputs:
        assert (row.r2, row.pearson) == (None, None) and row.rmse == pytest.approx(0.2)


def test_files_and_summary_hold_the_errors(tmp_path: Path) -> None:
    files = case().save(tmp_path)
    assert [file.name for file in files] == ["evaluation.json", "predictions.jsonl"]
    facts = json.loads(files[0].read_text())
    assert facts["counts"] == {"videos": 4, "decoded": 3, "failed": 1} and facts["failed_count_as"] == "left out"
    assert [row["r2"] for row in facts["per_output"]] == [pytest.approx(-1.5), None]
    lines = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert lines[1] == {"id": "b", "label": {"size": 2.0, "speed": 5.0}, "prediction": {"size": 4.0, "speed": 6.0}}
    assert lines[2]["prediction"] is None
    text = case().summary()
    assert "mean of 2 outputs: MAE 1.3333" in text and "1 of 4 videos could not be decoded and are left out" in text
    assert "undefined" in case().table() and len(case().table(limit=1).splitlines()) == 2


def test_evaluate_averages_the_views(tmp_path: Path) -> None:
    model = classifier(problem_type="regression", id2label={0: "value"})
    chosen = [Sample(id=sample.id, video=sample.video, label=0.5) for sample in samples(2)]
    source = Listed([*chosen, Sample(id="bad", video=b"", label=9.0)])
    source.class_names = None
    result = evaluate(model, source, processor=processor(model), views="2x1")
    assert isinstance(result, RegressionEvaluation) and len(result.failed) == 1
    with torch.no_grad():
        clips = processor(model)(chosen[0].video, num_views=2)["pixel_values"]
        expected = model(clips).logits.mean(0)
    torch.testing.assert_close(result.values[0], expected, atol=1e-3, rtol=0)
    assert result.outputs[0].mae == pytest.approx(float((result.values[:2] - 0.5).abs().mean()))
    assert result.model["outputs"] == 1 and "classes" not in result.data


def test_several_outputs_need_as_many_numbers() -> None:
    model = classifier(problem_type="regression")
    source = Listed([Sample(id="x", video=samples(1)[0].video, label=(1.0, 2.0, 3.0))])  # type: ignore[arg-type]
    source.class_names = None
    result = evaluate(model, source, processor=processor(model), views="1x1")
    assert result.labels.tolist() == [[1, 2, 3]] and result.values.shape == (1, 3)
    source.samples = [Sample(id="x", video=b"", label=1.0)]
    with pytest.raises(DataError, match="x has the label 1.0, but regression wants 3 finite numbers"):
        evaluate(model, source, views="1x1")
