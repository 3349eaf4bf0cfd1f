"""Test the numbers of an evaluation against a hand-computed case, and the files it writes."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from hf_videomae.evaluation import Evaluation, FailedVideo

NAMES = ["run", "walk", "jump", "sit", "fall", "wave", "rest"]


def case() -> Evaluation:
    """Return five answers: run (right), run (walk), run (not decoded), walk (right), jump (run; jump sixth)."""
    scores = torch.tensor(
        [
            [0.9, 0.1, 0, 0, 0, 0, 0],
            [0.3, 0.6, 0.1, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0],
            [0.1, 0.8, 0.1, 0, 0, 0, 0],
            [0.4, 0.2, 0.01, 0.15, 0.1, 0.1, 0.04],
        ]
    )
    return Evaluation(
        sample_ids=["a/x", "b/x", "a/y", "c", "d"],
        labels=torch.tensor([0, 0, 0, 1, 2]),
        probabilities=scores,
        logits=scores.clamp(min=1e-6).log(),
        decoded=torch.tensor([True, True, False, True, True]),
        failed=[FailedVideo(id="a/y", path="/data/a/y", reason="it is empty (0 bytes)")],
        class_names=NAMES,
        views={"temporal": 5, "spatial": 3},
    )


def test_failed_videos_count_as_wrong_in_every_metric() -> None:
    result = case()
    assert result.top1 == pytest.approx(2 / 5)
    assert result.top5 == pytest.approx(3 / 5)  # a zero row would hold class 0 among its five best
    assert result.mean_class_accuracy == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert result.confusion.sum() == 4
    assert result.confusion[:3, :3].tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    rows = [(row.name, row.videos, row.correct, row.failed, row.mistaken_for) for row in result.classes]
    assert rows == [("run", 3, 1, 1, "walk"), ("walk", 1, 1, 0, None), ("jump", 1, 0, 0, "run")]


def test_top5_of_fewer_classes_counts_all() -> None:
    result = Evaluation(**{**vars(case()), "probabilities": case().probabilities[:, :3], "class_names": NAMES[:3]})
    assert result.top5 == pytest.approx(4 / 5)


def test_files_state_what_was_measured(tmp_path: Path) -> None:
    files = case().save(tmp_path / "deep", extra={"command": "python evaluate.py"})
    assert [file.name for file in files] == ["evaluation.json", "predictions.jsonl", "confusion.png"]
    facts = json.loads(files[0].read_text())
    assert facts["counts"] == {"videos": 5, "decoded": 4, "failed": 1}
    assert facts["metrics"]["top1"] == pytest.approx(0.4) and facts["command"] == "python evaluate.py"
    assert facts["failed_videos"] == [{"id": "a/y", "path": "/data/a/y", "reason": "it is empty (0 bytes)"}]
    assert facts["confusion"] == {"run": {"run": 1, "walk": 1}, "walk": {"walk": 1}, "jump": {"run": 1}}
    assert facts["per_class"][0]["accuracy"] == pytest.approx(1 / 3)
    assert {"views", "model", "data", "date", "versions"} <= facts.keys() and "torch" in facts["versions"]
    lines = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a/x", "b/x", "a/y", "c", "d"]
    assert lines[1]["predictions"][0] == {"label": "walk", "score": pytest.approx(0.6)}
    assert lines[2]["predictions"] is None
    with Image.open(files[2]) as picture:
        assert picture.width > 400 and picture.height > 400
        assert len(picture.convert("RGB").getcolors(2**24)) > 20


def test_many_classes_fit_figure_and_table(tmp_path: Path) -> None:
    labels = torch.arange(60)
    result = Evaluation(
        sample_ids=[str(number) for number in range(60)],
        labels=labels,
        probabilities=torch.eye(60).roll(1, 0),
        logits=torch.zeros(60, 60),
        decoded=torch.ones(60, dtype=torch.bool),
        failed=[],
        class_names=[f"class {number}" for number in range(60)],
        views={"temporal": 1, "spatial": 1},
    )
    result.draw_confusion(tmp_path / "c.png")
    assert result.top1 == 0 and (tmp_path / "c.png").stat().st_size > 2000
    assert len(result.table(limit=10).splitlines()) == 12 and len(result.table(limit=None).splitlines()) == 61


@pytest.mark.fault
def test_table_cuts_long_names_and_hides_tokens() -> None:
    token = "ghp_" + "a1" * 18
    table = Evaluation(**{**vars(case()), "class_names": ["x" * 5000, token, *NAMES[2:]]}).table()
    assert token not in table and "TOKEN" in table and max(map(len, table.splitlines())) < 200


def test_summary_names_failed_videos() -> None:
    text = case().summary()
    assert "top-1 0.4000" in text and "5 videos" in text and "5x3 views" in text
    assert "1 of 5 videos could not be decoded and count as wrong" in text and "/data/a/y" in text
