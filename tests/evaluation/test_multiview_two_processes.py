"""Test that two processes over gloo evaluate like one: every video once."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_videomae.data import MotionSource
from tests.helpers.videos import NAMES, classifier, write_right_folder

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).parents[1] / "helpers" / "two_main.py"


def launch(source: Path, output: Path, *, processes: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, str(PROGRAM), str(source), str(output)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )


def results(source: Path, output: Path, *, processes: int) -> list[dict[str, Any]]:
    done = launch(source, output, processes=processes)
    assert done.returncode == 0, done.stderr
    return [torch.load(f"{output}-{rank}.pt", weights_only=True) for rank in range(processes)]


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["sample_ids"] == other["sample_ids"]
    assert one["top1"] == other["top1"] and one["failed"] == other["failed"]
    for name in ("labels", "decoded"):
        assert torch.equal(one[name], other[name])
    for name in ("logits", "probabilities"):
        torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_folder_with_odd_count_and_damaged_files_gives_the_same(tmp_path: Path) -> None:
    folder = write_right_folder(tmp_path / "clips", classifier(), count=7)
    for path in sorted(folder.rglob("*.mp4"))[:2]:
        path.write_bytes(path.read_bytes()[:1500])
    (one,) = results(folder, tmp_path / "one", processes=1)
    first, second = results(folder, tmp_path / "two", processes=2)
    assert len(one["sample_ids"]) == 7 and len(one["failed"]) == 2 and one["top1"] == pytest.approx(5 / 7)
    same(one, first)
    same(first, second)


def write_streamed(root: Path, shards: tuple[int, ...], labels: list[int | None]) -> Path:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"video": datasets.Video(), "label": datasets.ClassLabel(names=NAMES)})
    motion, row = MotionSource(split="test"), 0
    (root / "data").mkdir(parents=True)
    for shard, count in enumerate(shards):
        videos = [motion[number].video for number in range(row, row + count)]
        rows = {"video": [{"bytes": v, "path": None} for v in videos], "label": labels[row : row + count]}
        name = f"train-{shard:05d}-of-{len(shards):05d}.parquet"
        datasets.Dataset.from_dict(rows, features=features).to_parquet(root / "data" / name)
        row += count
    return root


@pytest.mark.slow
@pytest.mark.parametrize("shards", [(2, 1, 2), (5,), (1,)])
def test_streamed_set_with_any_number_of_shards_gives_the_same(tmp_path: Path, shards: tuple[int, ...]) -> None:
    folder = write_streamed(tmp_path / "set", shards, [0, 1, 2, 0, 1])
    (one,) = results(folder, tmp_path / "one", processes=1)
    first, second = results(folder, tmp_path / "two", processes=2)
    assert len(one["sample_ids"]) == sum(shards)
    same(one, first)
    same(first, second)


@pytest.mark.slow
def test_error_in_one_process_ends_both(tmp_path: Path) -> None:
    # Process 1 alone meets the video without a label; process 0 must not wait for it in vain.
    folder = write_streamed(tmp_path / "set", (2,), [0, None])
    done = launch(folder, tmp_path / "two", processes=2)
    assert done.returncode != 0
    assert done.stderr.count("train-00000-of-00001.parquet#1 has no label") == 1, done.stderr
