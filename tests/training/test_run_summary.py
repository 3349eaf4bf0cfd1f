"""Test what a run prints about its data, its epochs, its processes and its batch size."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hf_videomae.data import Mixture, MotionSource, describe_epoch, describe_shards
from hf_videomae.data.hub_dataset import HubDataset
from hf_videomae.training import RunRecipe
from hf_videomae.training.run_summary import describe_compute
from tests.helpers.toy import toy_run


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> HubDataset:
    """Return five shards with strings in a column `video`; nothing is decoded here."""
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(5):
        rows = datasets.Dataset.from_dict({"video": [b"a", b"b"]})
        rows.to_parquet(folder / f"train-{shard:05d}-of-00005.parquet")
    return HubDataset(str(folder))


@pytest.mark.parametrize(
    ("processes", "start"),
    [
        (5, "{} has 5 shards for 5 processes, 1 for each; the processes read them, workers decode"),
        (2, "note: {} has 5 shards for 2 processes, 2 or 3 for each"),
        (8, "warning: {} has 5 shards for 8 processes, so every process reads all of it; `hf-videomae prepare {} OUT"),
    ],
)
def test_describe_shards_says_how_processes_share_shards(shards: HubDataset, processes: int, start: str) -> None:
    (line,) = describe_shards(shards, processes=processes)
    assert line.startswith(start.format(shards.name, shards.name))
    remedy = {2: "--num_shards 6` makes 3 for each", 8: "--num_shards 8` makes 1 for each"}.get(processes, "")
    assert line.endswith(remedy)


def test_no_message_without_shards_or_processes_to_share_them(shards: HubDataset) -> None:
    motion = MotionSource(num_videos=8)
    assert describe_shards(shards, processes=1) == describe_shards(motion, processes=4) == []
    assert describe_epoch(motion) is None
    mixture = Mixture(parts=(motion, shards), weights=(1, 1))
    assert len(describe_shards(mixture, processes=5)) == 1


def test_describe_epoch_of_mix_and_stream(shards: HubDataset) -> None:
    two = Mixture(parts=(MotionSource(num_videos=8), MotionSource(num_videos=4, split="test")), weights=(1, 1))
    assert describe_epoch(two) == "an epoch of the mix is 12 draws, as many as all its datasets have videos"
    assert describe_epoch(shards) == f"an epoch has no known length: {shards.name} does not say how many videos it has"


def test_describe_compute_names_cores_processes_and_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def lines(device: str = "cpu", *, cores: int, processes: int, **settings: Any) -> list[str]:
        monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)), raising=False)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        return describe_compute(RunRecipe(**settings), device=torch.device(device))

    threads = torch.get_num_threads()
    counted = f"{threads} thread" + ("" if threads == 1 else "s")
    assert lines(cores=2, processes=1) == [
        f"2 cores: the process computes in {counted}, 1 worker of one thread decodes for it"
    ]
    assert lines(cores=2, processes=2, num_workers=0) == [
        f"2 cores: each of 2 processes computes in {counted}, and decodes in between"
    ]
    assert lines("cuda", cores=16, processes=8, num_workers=4) == [
        "16 cores: each of 8 processes computes on cuda, 4 workers of one thread each decode for it",
        "note: 32 workers share 16 cores; with --num_workers 2 each has its own",
    ]


@pytest.mark.parametrize(("tuned", "warned"), [(64, True), (9, True), (8, False), (4, False), (None, False)])
def test_batch_below_half_of_tuned_batch_is_a_warning(
    tuned: int | None, warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = toy_run(tmp_path / "run", tuned_batch=tuned)  # 4 clips per step, base_lr 6.4
    run.stop.__exit__()
    text = capsys.readouterr().out
    assert "4 clips per step (4 x 1 accumulated x 1 processes), learning rate 6.4 x 4 / 256 = 0.1" in text
    assert ("warning: this recipe was made for" in text) == warned
    if tuned == 64:
        assert "made for 64 clips per step; with 4 it" in text and "--gradient_accumulation 16" in text
