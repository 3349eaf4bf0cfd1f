"""Test the code with a short fixed run of the fuzzer, and that the fuzzer finds faults."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hf_videomae.data import DataError
from hf_videomae.data.column_values import read_parquet_column
from hf_videomae.video import _h264_skip
from tests.fuzz import inputs, mutations, run, targets
from tests.helpers.real_clips import needs_ffmpeg

pytestmark = pytest.mark.fault


@pytest.fixture(autouse=True)
def _same_limits_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the size limits that trials change for their process."""
    for name in ("_MIN_FILE_BYTES", "_MAX_FILE_BYTES"):
        monkeypatch.setattr(_h264_skip, name, getattr(_h264_skip, name))


@needs_ffmpeg
def test_damaged_videos_decode_or_are_refused(tmp_path: Path) -> None:
    names = inputs.write_containers(tmp_path, names=("h264.mp4", "h264.mkv", "mpeg4.avi", "mpeg2.ts", "a.gif"))
    assert len(names) == 5
    ends = [
        targets.run_trial("containers", tmp_path / name, seed=0, number=number)
        for number in range(12)
        for name in names
    ]
    assert any("frames" in end for end in ends) and any(end.startswith("refused") for end in ends)


def test_odd_model_folders_load_or_are_refused(tmp_path: Path) -> None:
    inputs.write_models(tmp_path)
    ends = [targets.run_trial("configs", tmp_path / "classifier", seed=0, number=number) for number in range(30)]
    assert "read" in ends and any(end.startswith("refused") for end in ends)


def test_damaged_index_files_are_read_or_refused(tmp_path: Path) -> None:
    names = inputs.write_indexes(tmp_path)
    ends = [
        targets.run_trial("indexes", tmp_path / name, seed=0, number=number) for number in range(60) for name in names
    ]
    assert any("samples" in end for end in ends) and any(end.startswith("refused") for end in ends)


def test_labels_of_damaged_parquet_files_are_read_or_refused(tmp_path: Path) -> None:
    """Damage pages, which pyarrow reports as OSError."""
    inputs.write_shards(tmp_path)
    whole, path, refused = (tmp_path / "snappy.parquet").read_bytes(), tmp_path / "damaged.parquet", 0
    for number in range(80):
        path.write_bytes(mutations.mutate_bytes(whole, random.Random(number)))
        try:
            values = list(read_parquet_column([str(path)], "label", names=["damaged"], path="the set"))
        except DataError as error:
            refused += 1
            assert "the set" in str(error) and "\n" not in str(error)
        else:
            assert all(name.startswith("damaged#") for name, _ in values)
    assert 0 < refused < 80


def test_a_trial_is_the_same_again(tmp_path: Path) -> None:
    inputs.write_indexes(tmp_path)
    first, second = (
        [targets.run_trial("indexes", tmp_path / "index.csv", seed=3, number=n) for n in range(20)] for _ in "ab"
    )
    assert [end.split(":")[0] for end in first] == [end.split(":")[0] for end in second]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('odd')", "KeyError: 'odd'"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import time; time.sleep(60)", "no end after"),
        ("kept = b'x' * 50_000_000", "GB"),
    ],
    ids=["traceback", "signal", "hang", "memory"],
)
def test_faults_are_found_and_the_run_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    """Use a target of which every third trial does what none should."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        f"import sys\nsys.path[:0] = [{str(Path(run.__file__).parents[2])!r}]\n"
        "from tests.fuzz import run, targets\n"
        "def bad():\n"
        f"    {body}\n"
        "targets.TARGETS['bad'] = lambda path, numbers, folder: bad() or 'x' if path.name == 'b' else 'fine'\n"
        "sys.exit(run.main())\n"
    )
    monkeypatch.setattr(run, "__file__", str(worker))
    monkeypatch.setattr(run, "MAX_SECONDS", 1.0)
    monkeypatch.setattr(run, "MAX_BYTES", 40_000_000)
    campaign = run.Campaign("bad", tmp_path, ["a", "b", "c"], seed=0)
    campaign.run(first=0, last=4, until=time.monotonic() + 60)
    assert [fault.number for fault in campaign.faults] == [1] and words in campaign.faults[0].what
    assert "--input b --number 1" in run.report(campaign)


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    command = [sys.executable, run.__file__, "--target", "indexes", "--trials", "40", "--minutes", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "indexes: 40 trials" in done.stdout and " 0 faults" in done.stdout
