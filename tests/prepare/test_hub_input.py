"""Test preparing Hub datasets of every format, also while the Hub fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_videomae.data import DataError, StreamedSource, open_source
from hf_videomae.hub import retry
from hf_videomae.prepare import PrepareResult, PrepareSettings, prepare
from hf_videomae.video.decoding import open_video
from hf_videomae.video.encoding import EncodeSettings
from tests.helpers.datasets_on_disk import write_parquet, write_videofolder, write_webdataset
from tests.local_hub import LocalHub
from tests.local_hub.faults import STATUS_NOT_RETRIED_BY_CLIENT

ID = "org/raw"
pytestmark = pytest.mark.usefixtures("fast_retries")


def write_labeled_videofolder(root: Path) -> Path:
    """Write what the Hub's web pages produce: class folders in split folders, without a metadata file."""
    flat = write_videofolder(root / "flat", count=6)
    for number in range(6):
        folder = root / ("validation" if number == 5 else "train") / f"class_{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (flat / "train" / f"{number}.mp4").rename(folder / f"{number}.mp4")
    (flat / "train" / "metadata.jsonl").unlink()
    (flat / "train").rmdir()
    flat.rmdir()
    return root


FORMATS: dict[str, tuple[Callable[[Path], Path], int, int]] = {
    "parquet": (lambda root: write_parquet(root, rows=(4, 3)), 7, 8),
    "webdataset": (write_webdataset, 7, 0),
    "videofolder": (write_videofolder, 6, 0),
    "labeled videofolder": (write_labeled_videofolder, 6, 2),
}


def make(out: Path, **options: Any) -> PrepareResult:
    return prepare(ID, out, settings=PrepareSettings(encode=EncodeSettings(short_side=32)), jobs=2, **options)


def read(folder: Path, split: str = "train") -> dict[str, Any]:
    """Return the videos of a prepared dataset by their ids in the source."""
    source = open_source(str(folder), split=split)
    assert isinstance(source, StreamedSource)
    lines = [json.loads(line) for line in (folder / "videos.jsonl").read_text().splitlines()]
    ids = [line["row"]["id"] for line in lines if line["row"]["split"] == split]
    samples = [sample for shard in range(source.num_shards) for sample in source.read_shard(shard)]
    return dict(zip(ids, samples, strict=True))


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_prepared_with_its_labels(hub: LocalHub, tmp_path: Path, format: str) -> None:
    write, count, classes = FORMATS[format]
    write(hub.dataset(ID))
    report = make(tmp_path / "out").report
    assert (report["source"], report["kept"], report["dropped"]) == (ID, count, 0)
    assert len(report["classes"] or []) == classes
    assert f"# {ID}" in (tmp_path / "out" / "README.md").read_text()
    for split in report["splits"]:
        raw = open_source(ID, split=split)
        assert isinstance(raw, StreamedSource)
        made = read(tmp_path / "out", split)
        samples = [sample for shard in range(raw.num_shards) for sample in raw.read_shard(shard)]
        assert made.keys() == {sample.id for sample in samples}
        for sample in samples:
            assert made[sample.id].label == sample.label
            with open_video(sample.video) as before, open_video(made[sample.id].video) as after:
                frames = [video.frames([0, 11, 23]).float().mean((2, 3)) for video in (before, after)]
            assert (frames[0] - frames[1]).abs().max() < 4, sample.id


def test_second_call_is_unchanged_until_new_commit(hub: LocalHub, tmp_path: Path) -> None:
    write_parquet(hub.dataset(ID), rows=(4, 3))
    make(tmp_path / "out")
    assert make(tmp_path / "out").is_unchanged
    for shard in (hub.dataset(ID) / "data").iterdir():
        shard.unlink()
    (hub.dataset(ID) / "data").rmdir()
    write_parquet(hub.dataset(ID), rows=(3,))
    again = make(tmp_path / "out")
    assert not again.is_unchanged and again.report["kept"] == 3


@pytest.mark.integration
@pytest.mark.parametrize("format", ["parquet", "webdataset", "videofolder"])
@pytest.mark.parametrize("fault", ["error", "reset"])
def test_transient_hub_failures_change_nothing(hub: LocalHub, tmp_path: Path, format: str, fault: str) -> None:
    write, count, _ = FORMATS[format]
    write(hub.dataset(ID))
    make(tmp_path / "whole")
    hub.forget()
    if fault == "reset":
        hub.cut_off(r"GET /cdn/", after_bytes=1000, times=3)
    else:
        hub.fail(r"GET /cdn/", status=STATUS_NOT_RETRIED_BY_CLIENT, times=2)
    report = make(tmp_path / "out").report
    assert any(request.fault for request in hub.requests("GET /cdn/"))
    assert (report["kept"], report["dropped"]) == (count, 0)
    assert [shard.read_bytes() for shard in sorted((tmp_path / "out" / "data").iterdir())] == [
        shard.read_bytes() for shard in sorted((tmp_path / "whole" / "data").iterdir())
    ]


@pytest.mark.parametrize("format", ["parquet", "webdataset", "videofolder"])
def test_hub_outage_drops_no_video(
    hub: LocalHub, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call ends with one line and keeps what was made; the same call continues."""
    write, count, _ = FORMATS[format]
    write(hub.dataset(ID))
    monkeypatch.setattr(retry.RetryPolicy, "wait", lambda self, error: _give_up(error))
    hub.fail(r"GET /cdn/", status=STATUS_NOT_RETRIED_BY_CLIENT, times=None)
    with pytest.raises(DataError, match="network|continues") as caught:
        make(tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out" / "data").exists()
    hub.heal()
    report = make(tmp_path / "out").report
    assert (report["kept"], report["dropped"]) == (count, 0)


def _give_up(error: BaseException) -> None:
    raise retry.SourceUnavailable("the network kept failing; run again") from error


def test_bad_videos_are_left_out_and_named(hub: LocalHub, tmp_path: Path) -> None:
    write_parquet(hub.dataset(ID), rows=(4, 3), bad=(1, 5))
    report = make(tmp_path / "out").report
    assert (report["kept"], report["dropped"]) == (5, 2)
    lines = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [
        "data/train-00000-of-00002.parquet#1",
        "data/train-00001-of-00002.parquet#1",
    ]


def test_private_dataset_and_revision(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(hub.dataset(ID), rows=(4,))
    write_videofolder(hub.dataset(ID, revision="v1"), count=2)
    hub.hide(f"datasets/{ID}")
    with pytest.raises(DataError, match="log in with `hf auth login` for a private one"):
        make(tmp_path / "out")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert make(tmp_path / "out").report["kept"] == 4
    assert make(tmp_path / "v1", revision="v1").report["kept"] == 2
