"""Test streaming of datasets from a Hub on loopback, with the real clients."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pytest

from hf_videomae.data import DataError, MotionSource, StreamedSource, build_loader, open_source
from tests.helpers.datasets_on_disk import write_parquet, write_videofolder, write_webdataset
from tests.helpers.loaders import SMALL_CLIPS
from tests.local_hub import LocalHub

ROOT = Path(__file__).resolve().parents[2]


def videos(count: int) -> list[bytes]:
    source = MotionSource(split="validation")
    return [bytes(source[index].video) for index in range(count)]


def read_all(source: Any) -> list[Any]:
    assert isinstance(source, StreamedSource)
    return [sample for shard in range(source.num_shards) for sample in source.read_shard(shard)]


# What `datasets` gives, without us.


def test_datasets_streams_each_format(hub: LocalHub) -> None:
    write_parquet(hub.dataset("org/parquet"))
    write_webdataset(hub.dataset("org/web"))
    write_videofolder(hub.dataset("org/folder"))
    found = {
        name: list(datasets.load_dataset(f"org/{name}", split="train", streaming=True).decode(False))
        for name in ("parquet", "web", "folder")
    }
    assert [row["video"]["bytes"] for row in found["parquet"]] == videos(18)
    assert [row["mp4"]["bytes"] for row in found["web"]] == videos(7)
    assert [row["video"]["path"].rpartition("/")[2] for row in found["folder"]] == [f"{n}.mp4" for n in range(6)]


def test_datasets_decodes_videos_from_hub(hub: LocalHub) -> None:
    write_videofolder(hub.dataset("org/folder"), count=2)
    for row in datasets.load_dataset("org/folder", split="train", streaming=True):
        assert row["video"].get_frame_at(3).data.shape == (3, 64, 64)


# Ours.


def test_parquet_on_hub_is_streamed(hub: LocalHub) -> None:
    write_parquet(hub.dataset("org/set"))
    write_parquet(hub.dataset("org/set", revision="v1"), rows=(2,))
    source = open_source("org/set")
    assert isinstance(source, StreamedSource)
    assert (source.name, source.num_shards, source.class_names) == ("org/set", 3, MotionSource().class_names)
    samples = read_all(source)
    assert [sample.video for sample in samples] == videos(18)
    assert samples[7].id == "data/train-00001-of-00003.parquet#0"
    assert len(read_all(open_source("org/set", revision="v1"))) == 2


def test_webdataset_on_hub_is_streamed(hub: LocalHub) -> None:
    write_webdataset(hub.dataset("org/set"))
    samples = read_all(open_source("org/set"))
    assert [sample.video for sample in samples] == videos(7)
    assert samples[4].id == "train-001.tar/clip4"


@pytest.mark.parametrize("workers", [0, 1])
def test_videofolder_on_hub_is_streamed(hub: LocalHub, workers: int) -> None:
    write_videofolder(hub.dataset("org/set"))
    loader = build_loader(open_source("org/set"), clip_config=SMALL_CLIPS, batch_size=2, seed=0, num_workers=workers)
    hub.forget()
    batches = list(islice(loader, 3))
    assert len({name for batch in batches for name in batch["sample_ids"]}) == 6
    assert loader.bad_videos == []
    # Workers read whole files, each once; the next epoch's may be on their way.
    assert 6 <= len(hub.requests(r"GET /cdn/.*mp4")) <= 12


def refusals() -> dict[str, tuple[Callable[[LocalHub], None], dict[str, Any], str]]:
    def nothing(hub: LocalHub) -> None:
        """Leave the Hub unchanged."""

    return {
        "missing": (nothing, {"dataset": "org/other"}, "org/other is neither a local folder nor"),
        "revision": (nothing, {"revision": "v2"}, "has no revision 'v2'; give one of its branches, tags or commits"),
        "split": (nothing, {"split": "test"}, "has no split 'test'; choose one of train"),
        "private": (lambda hub: hub.hide("datasets/org/set"), {}, "log in with `hf auth login` for a private one"),
        "gated": (lambda hub: hub.gate("datasets/org/set"), {}, "is gated: accept its terms"),
        "broken": (lambda hub: hub.fail("/api/datasets/", status=400, times=None), {}, "HTTP 400"),
        "away": (lambda hub: hub.stop(), {}, r"the Hub cannot be reached \(.*refused\); check the network"),
    }


@pytest.mark.parametrize("case", refusals())
def test_data_set_that_cannot_be_opened_raises_one_line_at_once(hub: LocalHub, case: str) -> None:
    write_parquet(hub.dataset("org/set"), rows=(2,))
    prepare, options, message = refusals()[case]
    prepare(hub)
    began = time.monotonic()
    with pytest.raises(DataError, match=message) as caught:
        open_source(**{"dataset": "org/set", **options})
    assert "\n" not in str(caught.value) and time.monotonic() - began < 10


def test_offline_mode_raises_with_remedy(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="the Hub is switched off .HF_HUB_OFFLINE."):
        open_source("org/set")
    assert hub.requests() == []


def test_busy_hub_is_retried_at_start(hub: LocalHub) -> None:
    write_parquet(hub.dataset("org/set"), rows=(2,))
    hub.fail("/api/datasets/org/set$", status=429, retry_after=1)
    began = time.monotonic()
    assert len(read_all(open_source("org/set"))) == 2
    assert time.monotonic() - began >= 1


# A run, as a user starts it.


def pretrain(*arguments: str) -> list[str]:
    quick = ["--batch_size", "3", "--log_every", "1", "--log_samples", "--max_bad_share", "0"]
    return [sys.executable, str(ROOT / "examples" / "pretrain.py"), *quick, *arguments]


def environment(hub: LocalHub) -> dict[str, str]:
    return {**hub.environment(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def epochs(folder: Path, *, size: int) -> list[list[str]]:
    """Return the ids that were trained on, sorted within each epoch."""
    lines = (folder / "samples-0.jsonl").read_text().splitlines()
    ids = [name for line in lines for name in json.loads(line)["sample_ids"]]
    return [sorted(ids[start : start + size]) for start in range(0, len(ids), size)]


@pytest.mark.integration
def test_pretraining_streams_from_hub(hub: LocalHub, tmp_path: Path) -> None:
    write_parquet(hub.dataset("org/set"))
    hub.fail("GET /cdn/", status=503)
    hub.cut_off("GET /cdn/", after_bytes=5000)
    command = pretrain("--dataset", "org/set", "--max_steps", "6", "--num_workers", "1", "--output_dir", str(tmp_path))
    done = subprocess.run(command, env=environment(hub), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "org/set" in done.stdout
    expected = sorted(sample.id for sample in read_all(open_source("org/set")))
    assert epochs(tmp_path, size=18) == [expected]
    assert [request.fault for request in hub.requests("GET /cdn/") if request.fault] == ["status", "reset"]
