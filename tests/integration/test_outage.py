"""Test a run of two processes that streams from a Hub that fails at random and is away for a minute.

Every epoch still has each sample once: none is lost, doubled, or taken for a bad video.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_videomae.data import open_source
from tests.helpers.datasets_on_disk import write_parquet, write_videofolder, write_webdataset
from tests.helpers.running import ROOT, Started, lines, pretrain, started, write_small_model
from tests.local_hub import LocalHub
from tests.local_hub.faults import Fault

AWAY_SECONDS = 60
ROWS = (12, 12, 12, 12)


class AtRandom(Fault):
    """Hits a share of the requests that its pattern finds."""

    def __init__(self, pattern: str, *, share: float, seed: int, **what: Any) -> None:
        super().__init__(pattern, times=None, **what)
        self._share, self._random = share, random.Random(seed)

    def take(self, line: str) -> bool:
        return super().take(line) and self._random.random() < self._share


def fail_at_random(hub: LocalHub) -> None:
    """Let a quarter of the requests fail, from the first on; two for sure."""
    hub.cut_off("GET /cdn/", after_bytes=3000)
    hub.fail("GET /cdn/", status=500)
    hub.record.add_fault(AtRandom("", share=0.08, seed=1, kind="status", status=429, retry_after=1))
    hub.record.add_fault(AtRandom("", share=0.08, seed=2, kind="status", status=500))
    hub.record.add_fault(AtRandom("", share=0.08, seed=3, kind="reset", after_bytes=3000))


def epochs(folder: Path, *, steps: int) -> list[list[str]]:
    """Return the sorted ids that both ranks trained on in each epoch."""
    ranks = [[line["sample_ids"] for line in lines(folder / f"samples-{rank}.jsonl")] for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1])
    both = [one + other for one, other in zip(*ranks, strict=True)]
    return [sorted(sum(both[start : start + steps], [])) for start in range(0, len(both), steps)]


def ids(source: Any) -> list[str]:
    return sorted(sample.id for shard in range(source.num_shards) for sample in source.read_shard(shard))


# A file is asked for when it is due, a shard as a whole: of shards there must be a second epoch to be away from.
WRITERS: dict[str, tuple[Callable[[Path], object], int]] = {
    "files": (lambda root: write_videofolder(root, count=sum(ROWS)), 1),
    "parquet": (lambda root: write_parquet(root, rows=ROWS), 3),
    "webdataset": (lambda root: write_webdataset(root, rows=ROWS), 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_hub_that_fails_and_is_away_for_a_minute_costs_no_sample(hub: LocalHub, tmp_path: Path, kind: str) -> None:
    write, num_epochs = WRITERS[kind]
    write(hub.dataset("org/set"))
    folder, model = tmp_path / "run", write_small_model(tmp_path / "model")
    steps = sum(ROWS) // 8
    arguments = ["--dataset", "org/set", "--model", model, "--output_dir", folder, "--batch_size", 4]
    arguments += ["--max_steps", num_epochs * steps, "--num_workers", 1, "--max_bad_share", 0]
    variables = {**hub.environment(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = pretrain(*arguments, "--log_every", 1, "--log_samples", processes=2)
    fail_at_random(hub)
    with started(command, log=tmp_path / "log", variables=variables) as run:
        be_away(hub, run)
        printed = run.finish()
    failed = [request.fault for request in hub.requests() if request.fault]
    print(f"{kind}: {len(failed)} of {len(hub.requests())} requests failed on purpose")
    assert set(failed) == {"status", "reset"}
    assert "trying again" in printed
    hub.heal()
    assert epochs(folder, steps=steps) == [ids(open_source("org/set"))] * num_epochs
    assert not (folder / "bad_videos.jsonl").exists()


def be_away(hub: LocalHub, run: Started) -> None:
    """Stop the Hub for a minute after the first step."""
    run.until(lambda: "step 1/" in run.log.read_text())
    with hub.outage():
        time.sleep(AWAY_SECONDS)
