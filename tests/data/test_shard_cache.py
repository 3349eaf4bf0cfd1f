"""Test the shard cache: shards are downloaded once, with the same samples in the same order."""

import errno
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from hf_videomae.data import DataError, build_loader, describe_source, open_source
from hf_videomae.hub import retry
from tests.helpers.datasets_on_disk import write_parquet, write_videofolder, write_webdataset
from tests.helpers.loaders import SMALL_CLIPS
from tests.local_hub import LocalHub

ROOT = Path(__file__).resolve().parents[2]
SHARDS = r"GET .*(parquet|tar)"
WRITERS: dict[str, Any] = {"parquet": write_parquet, "webdataset": write_webdataset}


def read_all(source: Any) -> list[Any]:
    return [sample for shard in range(source.num_shards) for sample in source.read_shard(shard)]


def drawn(source: Any, *, batches: int, **options: Any) -> list[list[str]]:
    loader = build_loader(source, clip_config=SMALL_CLIPS, batch_size=3, seed=0, max_bad_share=0, **options)
    taken = iter(loader)
    try:
        return [batch["sample_ids"] for batch in islice(taken, batches)]
    finally:
        taken.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", WRITERS)
def test_cached_samples_ids_and_order_equal_streamed_ones(hub: LocalHub, tmp_path: Path, kind: str) -> None:
    WRITERS[kind](hub.dataset("org/set"))
    streamed, kept = open_source("org/set"), open_source("org/set", cache_dir=str(tmp_path / "cache"))
    assert read_all(kept) == read_all(streamed)
    facts = ("name", "num_shards", "num_samples", "class_names")
    assert [getattr(kept, fact) for fact in facts] == [getattr(streamed, fact) for fact in facts]
    assert drawn(kept, batches=8) == drawn(streamed, batches=8)


@pytest.mark.parametrize("kind", WRITERS)
def test_each_shard_is_downloaded_once_for_all_epochs_and_runs(hub: LocalHub, tmp_path: Path, kind: str) -> None:
    WRITERS[kind](hub.dataset("org/set"))
    source = open_source("org/set", cache_dir=str(tmp_path / "cache"))
    drawn(source, batches=8)
    asked = hub.requests("GET /cdn/")
    assert len({request.path for request in asked}) == len(asked) == source.num_shards  # type: ignore[union-attr]
    again = open_source("org/set", cache_dir=str(tmp_path / "cache"))
    assert f"{again.num_shards} of {again.num_shards} shards" in describe_source(again)  # type: ignore[union-attr]
    hub.forget()
    drawn(source, batches=16)
    drawn(again, batches=8, num_workers=1)
    assert hub.requests() == []


def test_cached_shards_are_read_while_hub_is_unreachable(hub: LocalHub, tmp_path: Path) -> None:
    write_parquet(hub.dataset("org/set"))
    cache = str(tmp_path / "cache")
    source = open_source("org/set", cache_dir=cache)
    ids = drawn(source, batches=8)
    hub.stop()
    assert drawn(source, batches=8) == ids
    with pytest.raises(DataError, match=r"the Hub cannot be reached .* \(--dataset (\S*) is its cached copy\)") as no:
        open_source("org/set", cache_dir=cache)
    folder = str(no.value).split("--dataset ")[1].split(" is its")[0]
    assert drawn(open_source(folder), batches=8) == ids


def test_hub_cache_is_used_by_name(hub: LocalHub) -> None:
    write_parquet(hub.dataset("org/set"), rows=(2, 2))
    read_all(open_source("org/set", cache_dir="hub"))
    snapshots = list((hub.home / "hub" / "datasets--org--set" / "snapshots").glob("*/data/*.parquet"))
    assert len(snapshots) == 2


def test_interrupted_download_leaves_no_partial_shard(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "_INITIAL_BACKOFF", 0.05)
    write_parquet(hub.dataset("org/set"))
    expected = read_all(open_source("org/set"))
    source = open_source("org/set", cache_dir=str(tmp_path / "cache"))
    hub.cut_off(SHARDS, after_bytes=3000, times=2, kind="truncate")
    hub.fail("HEAD .*parquet", status=520)
    assert read_all(source) == expected
    assert [request.fault for request in hub.requests() if request.fault] == ["status", "truncate", "truncate"]


def test_permanent_error_stops_at_once(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(hub.dataset("org/set"), rows=(2, 2))
    source = open_source("org/set", cache_dir=str(tmp_path / "cache"))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(DataError, match=r"cannot be kept in .*cache \(No space left.*another --cache_dir"):
        read_all(source)


def test_single_video_files_cannot_be_cached(hub: LocalHub, tmp_path: Path) -> None:
    write_videofolder(hub.dataset("org/set"))
    with pytest.raises(DataError, match="single files: download it with `hf download org/set --repo-type dataset"):
        open_source("org/set", cache_dir=str(tmp_path))


@pytest.mark.integration
def test_second_pretraining_uses_cache(hub: LocalHub, tmp_path: Path) -> None:
    """The second run asks the Hub for the list of files, and downloads no shard."""
    write_parquet(hub.dataset("org/set"))
    script = str(ROOT / "examples" / "pretrain.py")
    seen = []
    for run in ("one", "two"):
        hub.forget()
        flags = ["--dataset", "org/set", "--cache_dir", str(tmp_path / "cache"), "--max_steps", "4", "--log_samples"]
        more = ["--batch_size", "3", "--num_workers", "1", "--output_dir", str(tmp_path / run)]
        environment = {**hub.environment(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, script, *flags, *more], env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / run / "samples-0.jsonl").read_text().splitlines()
        seen.append(([json.loads(line) for line in lines], sum(request.sent for request in hub.requests("GET /cdn/"))))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] == sum(file.stat().st_size for file in hub.root.rglob("*.parquet")) and seen[1][1] == 0
    assert "3 of 3 shards" in done.stdout
