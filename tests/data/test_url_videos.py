"""Test videos that rows name by URL: a dead host, an odd scheme or a missing package only makes a bad video."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch

from hf_videomae import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEModel, VideoMAEVideoProcessor
from hf_videomae.data import (
    DataError,
    MotionSource,
    Sample,
    build_loader,
    open_source,
    url_videos,
)
from hf_videomae.data.clips import _download_video
from hf_videomae.data.url_videos import retry_video
from hf_videomae.evaluation import evaluate
from hf_videomae.evaluation.frozen_features import EvalClips, extract_frozen_features
from hf_videomae.hub import retry
from hf_videomae.hub.source_errors import SourceRefused
from hf_videomae.video.decoding import VideoDecodeError
from tests.helpers.datasets_on_disk import write_videofolder, write_webdataset
from tests.helpers.loaders import SMALL_CLIPS
from tests.local_hub import LocalHub

pytestmark = pytest.mark.fault
# huggingface_hub does not try again after this one by itself.
AT_ONCE = 520


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten waits, and forget all hosts."""
    monkeypatch.setattr(retry, "_INITIAL_BACKOFF", 0.05)
    monkeypatch.setattr(retry, "_MAX_BACKOFF", 0.05)
    monkeypatch.setattr(retry, "SHARD_SECONDS", 0.3)
    monkeypatch.setattr(url_videos, "_dead_hosts", {})
    monkeypatch.setattr(url_videos, "_reachable_hosts", {})
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def dead() -> Iterator[str]:
    """Return a URL on which no server listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/clip.mp4"


class Listed:
    """The motion dataset with some videos replaced by URLs."""

    name, class_names = "org/set", MotionSource().class_names

    def __init__(self, addresses: dict[int, str], *, count: int = 8) -> None:
        self.addresses, self.count, self.source = addresses, count, MotionSource()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        sample = self.source[index]
        return replace(sample, video=self.addresses.get(index, sample.video))


ODD = (
    "reference://x",
    "simplecache::http://127.0.0.1:9/x.mp4",
    "github://org:repo@main/x.mp4",
    "generic://x",
    "hf://",
)
STORES = (
    "s3://bucket/x.mp4",
    "gs://bucket/x.mp4",
    "sftp://host/x",
    "nothing://x",
    "dask://x",
    "http://127.0.0.1:99999/x",
)


@pytest.mark.parametrize("address", [*ODD, *STORES])
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_odd_url_is_bad_video(hub: LocalHub, address: str, workers: int) -> None:
    source: Any = Listed({3: address})
    loader = build_loader(
        source, clip_config=SMALL_CLIPS, batch_size=4, seed=0, num_workers=workers, max_bad_share=0.5
    )
    list(islice(loader, 3))
    (bad,) = loader.bad_videos
    assert bad["id"] == source[3].id and "\n" not in bad["reason"]


def test_video_on_dead_host_is_bad_after_retries(hub: LocalHub, dead: str) -> None:
    source: Any = Listed({3: dead, 5: f"{dead}?2"})
    loader = build_loader(source, clip_config=SMALL_CLIPS, batch_size=4, seed=0, max_bad_share=0.5)
    seen = {name for batch in islice(loader, 4) for name in batch["sample_ids"]}
    assert len(seen) == 6 and sorted(bad["path"] for bad in loader.bad_videos) == [dead, f"{dead}?2"]
    assert all("refused" in bad["reason"] for bad in loader.bad_videos)


def test_host_found_dead_is_not_retried_again(hub: LocalHub, dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(retry, "_sleep", waited.append)
    monkeypatch.setattr(retry.time, "monotonic", lambda: 1000.0 + sum(waited))
    for number in range(3):
        with pytest.raises(VideoDecodeError, match="refused"):
            retry_video(Sample(str(number), dead), _download_video)
        assert 0 < sum(waited) <= 0.3


def test_outage_of_all_hosts_is_retried(dead: str, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(retry, "_sleep", waited.append)
    monkeypatch.setattr(retry.time, "monotonic", lambda: 1000.0 + sum(waited))
    monkeypatch.setattr(retry, "_MAX_BACKOFF", 60.0)
    hub.stop()
    with pytest.raises(VideoDecodeError, match="refused"):
        retry_video(Sample("0", dead), _download_video)
    assert sum(waited) > 700


# Files of the Hub.


def test_truncated_download_is_read_again(hub: LocalHub) -> None:
    write_videofolder(hub.dataset("org/set"), count=2)
    source: Any = open_source("org/set")
    (first, *_) = source.read_shard(0)
    hub.fail("GET .*mp4", status=AT_ONCE)
    hub.shorten("GET .*mp4", after_bytes=300, times=2)
    assert retry_video(first, _download_video).video == MotionSource(split="validation")[0].video


@pytest.mark.parametrize("status", [401, 403])
def test_refused_data_set_raises_instead_of_bad_videos(hub: LocalHub, status: int) -> None:
    write_videofolder(hub.dataset("org/set"))
    source = open_source("org/set")
    hub.fail("GET .*mp4", status=status, times=None)
    with pytest.raises(DataError, match=rf"org/set: the Hub refuses train/.*HTTP {status}") as caught:
        next(iter(build_loader(source, clip_config=SMALL_CLIPS, batch_size=2, seed=0)))
    assert isinstance(caught.value, SourceRefused)


# Evaluation and probes.


@pytest.fixture
def classifier() -> VideoMAEForVideoClassification:
    torch.manual_seed(0)
    names = dict(enumerate(MotionSource().class_names or []))
    config = VideoMAEConfig.from_preset("tiny", task="classification", num_hidden_layers=1, id2label=names)
    return VideoMAEForVideoClassification(config)


def test_evaluation_retries_file(hub: LocalHub, classifier: VideoMAEForVideoClassification) -> None:
    write_videofolder(hub.dataset("org/set"), count=2)
    (first, _) = open_source("org/set").read_shard(0)  # type: ignore[union-attr]
    source: Any = Listed({1: first.video}, count=3)
    hub.fail("GET .*mp4", status=AT_ONCE, times=3)
    found = evaluate(classifier, source, views=(1, 1))
    assert found.failed == [] and len(found.sample_ids) == 3


def test_evaluation_counts_dead_host_as_failed(
    hub: LocalHub, dead: str, classifier: VideoMAEForVideoClassification
) -> None:
    source: Any = Listed({1: dead}, count=3)
    (failed,) = evaluate(classifier, source, views=(1, 1)).failed
    assert failed.path == dead and "refused" in failed.reason


@pytest.mark.parametrize("workers", [0, 1])
def test_refused_probe_data_raise_one_line(hub: LocalHub, workers: int) -> None:
    write_webdataset(hub.dataset("org/set"), rows=(2, 2))
    source: Any = open_source("org/set")
    source.class_names, source.label_column = ["a", "b"], "label"
    source.read_shard = lambda shard, retry_seconds=None: refused(shard)
    config = VideoMAEConfig.from_preset("tiny", num_hidden_layers=1)
    clips = EvalClips(VideoMAEVideoProcessor.from_config(config))
    with pytest.raises(DataError) as caught:
        extract_frozen_features(VideoMAEModel(config), source, clips=clips, num_workers=workers)
    assert str(caught.value) == "org/set: refused"


def refused(shard: int) -> Iterator[Sample]:
    raise SourceRefused("org/set: refused")
    yield
