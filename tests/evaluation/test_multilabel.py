"""Test average precision and F1 of several classes per video against hand-computed cases."""

import json
from pathlib import Path

import pytest
import torch

from hf_videomae.data import DataError, Sample
from hf_videomae.evaluation import FailedVideo, MultiLabelEvaluation, average_precision, evaluate
from tests.helpers.videos import NAMES, Listed, classifier, processor, samples


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], (1 + 2 / 3) / 2),
        ([0.6, 0.7, 0.8, 0.9], [1, 0, 1, 0], (2 / 4 + 1 / 2) / 2),
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 1.0),
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 0], 1 / 4),  # equal scores: no order among them
        ([0.9, 0.5, 0.5, 0.1], [0, 1, 0, 1], (1 / 3 + 2 / 4) / 2),
        ([0.9, 0.5, 0.5, 0.1], [0, 0, 0, 0], None),
    ],
)
def test_average_precision_matches_hand_computed_values(
    scores: list[float], labels: list[int], expected: float | None
) -> None:
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        result = average_precision(
            torch.tensor(scores)[order],
            torch.tensor(labels, dtype=torch.bool)[order],
            decoded=torch.ones(4, dtype=torch.bool),
        )
        assert result == (None if expected is None else pytest.approx(expected))


def test_failed_video_counts_as_missed() -> None:
    scores, labels = torch.tensor([0.9, 0.8, 0.0, 0.0]), torch.tensor([True, False, True, False])
    decoded = torch.tensor([True, True, False, False])
    assert average_precision(scores, labels, decoded=decoded) == pytest.approx(1 / 2)
    assert average_precision(torch.zeros(4), labels, decoded=~labels) == 0


def case() -> MultiLabelEvaluation:
    """Return the result for four videos: run+jump, jump, run (not decoded), none; no video has sit."""
    return MultiLabelEvaluation(
        sample_ids=["a", "b", "c", "d"],
        labels=torch.tensor([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool),
        probabilities=torch.tensor([[0.9, 0.4, 0.1], [0.2, 0.7, 0.6], [0, 0, 0], [0.3, 0.6, 0.1]]),
        logits=torch.zeros(4, 3),
        decoded=torch.tensor([True, True, False, True]),
        failed=[FailedVideo(id="c", path="/data/c", reason="it is empty (0 bytes)")],
        class_names=["run", "jump", "sit"],
        views={"temporal": 2, "spatial": 3},
    )


def test_metrics_match_hand_computed_values() -> None:
    result = case()
    run, jump = result.classes
    assert (run.videos, run.failed, run.average_precision) == (2, 1, pytest.approx(1 / 2))
    assert (run.precision, run.recall, run.f1) == (1.0, 0.5, pytest.approx(2 / 3))
    assert jump.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert (jump.precision, jump.recall, jump.f1) == (0.5, 0.5, pytest.approx(0.5))
    assert result.classes_without_videos == ["sit"]
    assert result.mean_average_precision == pytest.approx((1 / 2 + 5 / 6) / 2)
    assert result.micro_f1 == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))  # sit, seen in b, is a wrong answer too
    assert result.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_files_hold_labels_and_predictions(tmp_path: Path) -> None:
    files = case().save(tmp_path)
    assert [file.name for file in files] == ["evaluation.json", "predictions.jsonl"]
    facts = json.loads(files[0].read_text())
    assert facts["metrics"]["mean_average_precision"] == pytest.approx(2 / 3)
    assert facts["failed_count_as"].startswith("wrong") and facts["failed_videos"][0]["path"] == "/data/c"
    lines = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert [line["labels"] for line in lines] == [["run", "jump"], ["jump"], ["run"], []]
    assert [answer["label"] for answer in lines[1]["predictions"]] == ["jump", "sit", "run"]
    assert lines[2]["predictions"] is None
    text = case().summary()
    assert "mAP 0.6667 over 2 classes (1 without a video left out: sit)" in text and "count as wrong" in text
    assert len(case().table().splitlines()) == 3 and "0.833" in case().table(limit=None)
    assert case().table(limit=1).splitlines()[1].startswith("run")  # the worst


def test_metrics_without_any_label_are_undefined(tmp_path: Path) -> None:
    result = MultiLabelEvaluation(**{**vars(case()), "labels": torch.zeros(4, 3, dtype=torch.bool)})
    assert result.metrics == {"mean_average_precision": None, "micro_f1": 0.0, "macro_f1": None}
    assert "no average precision (no video has any of the 3 classes)" in result.summary()
    result.save(tmp_path)


def test_all_answers_above_the_threshold_are_written() -> None:
    names = [f"class {number}" for number in range(9)]
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5, 0.55, 0.95, 0.1, 0.2]])
    changed = {"labels": torch.zeros(1, 9, dtype=torch.bool), "probabilities": scores, "logits": scores}
    few = {"sample_ids": ["a"], "decoded": torch.tensor([True]), "failed": [], "class_names": names}
    (line,) = MultiLabelEvaluation(**{**vars(case()), **changed, **few}).predictions()
    assert len(line["predictions"]) == 7 and line["predictions"][-1] == {"label": "class 4", "score": 0.5}


def test_evaluate_averages_views_after_sigmoid_and_matches_names() -> None:
    model = classifier(problem_type="multi_label_classification")
    chosen = [
        Sample(id=sample.id, video=sample.video, label=label)
        for sample, label in zip(samples(3), [(0, 2), (), (1,)], strict=True)
    ]
    source = Listed(chosen, class_names=["Waving", "boxing", "CLAPPING"])
    result = evaluate(model, source, processor=processor(model), views="2x1")
    assert isinstance(result, MultiLabelEvaluation)
    assert result.labels.int().tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]  # boxing, clapping, waving
    with torch.no_grad():
        clips = processor(model)(chosen[0].video, num_views=2)["pixel_values"]
        expected = model(clips).logits.sigmoid().mean(0)
    torch.testing.assert_close(result.probabilities[0], expected, atol=1e-4, rtol=0)
    assert result.views["merge"] == "mean of sigmoid" and result.model["problem_type"] == "multi_label_classification"
    with pytest.raises(DataError, match="x has the label .0, 9., but the classes are 0 to 2"):
        evaluate(model, Listed([Sample(id="x", video=b"", label=(0, 9))], class_names=NAMES))
