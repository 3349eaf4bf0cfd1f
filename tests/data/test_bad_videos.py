"""Test bad videos in training: they are replaced, skipped or stop the run, and are counted and listed."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from hf_videomae.data import DataError, MotionSource, open_source
from hf_videomae.data.sampler import epoch_permutation
from hf_videomae.video.decoding import VideoBackendError
from tests.helpers.datasets_on_disk import write_folder, write_parquet
from tests.helpers.loaders import assert_same, ids, load, take


def break_files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).write_bytes(b"this is no video" * 20)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_video_is_replaced_counted_and_listed_once(tmp_path: Path, workers: int) -> None:
    write_folder(tmp_path, count=20)
    break_files(tmp_path, "class_0/004.mp4", "class_1/011.mp4")
    source = open_source(str(tmp_path))
    loader = load(source, num_workers=workers, max_bad_share=0.2)
    batches = take(loader, 20)  # three epochs
    assert {batch["pixel_values"].shape[0] for batch in batches} == {3}
    assert not {"class_0/004.mp4", "class_1/011.mp4"} & set(ids(batches))
    assert len(set(ids(batches))) == 18
    assert sorted(entry["path"] for entry in loader.bad_videos) == [
        str(tmp_path / "class_0" / "004.mp4"),
        str(tmp_path / "class_1" / "011.mp4"),
    ]
    assert all(entry["reason"] and entry["id"].startswith("class_") for entry in loader.bad_videos)
    assert_same(batches, take(load(source, max_bad_share=0.2), 20))


def test_resume_keeps_replacements_and_bad_videos(tmp_path: Path) -> None:
    write_folder(tmp_path, count=12)
    break_files(tmp_path, "class_0/004.mp4")
    source = open_source(str(tmp_path))
    whole = take(load(source), 12)
    first, second = load(source), load(source)
    taken = take(first, 5)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.bad_videos == first.bad_videos and len(first.bad_videos) == 1
    assert_same(whole, taken + take(second, 7))
    assert len(second.bad_videos) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_videos_of_stream_are_replaced(tmp_path: Path, workers: int) -> None:
    source = open_source(str(write_parquet(tmp_path, rows=(10, 10), bad=(3, 14))))
    loader = load(source, batch_size=2, num_workers=workers)
    batches = take(loader, 20)
    names = {"data/train-00000-of-00002.parquet#3", "data/train-00001-of-00002.parquet#4"}
    assert {entry["path"] for entry in loader.bad_videos} == names
    assert not names & set(ids(batches)) and len(set(ids(batches))) == 18
    assert_same(batches, take(load(source, batch_size=2), 20))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["folder", "stream"])
def test_skip_makes_smaller_batches_of_the_same_clips(tmp_path: Path, workers: int, kind: str) -> None:
    if kind == "folder":
        write_folder(tmp_path, count=20)
        break_files(tmp_path, "class_0/004.mp4", "class_1/011.mp4", "class_1/013.mp4")
    else:
        write_parquet(tmp_path, rows=(10, 10), bad=(3, 14, 15))
    source: Any = open_source(str(tmp_path))
    options: dict[str, Any] = {"batch_size": 4, "max_bad_share": 0.2}
    replaced, skipped = load(source, **options), load(source, on_bad_video="skip", num_workers=workers, **options)
    whole, less = take(replaced, 15), take(skipped, 15)  # three epochs
    assert sum(len(batch["sample_ids"]) for batch in less) == 3 * 17
    assert {len(batch["pixel_values"]) for batch in whole} == {4}
    for full, batch in zip(whole, less, strict=True):
        assert len(batch["sample_ids"]) == len(batch["labels"]) == len(batch["bool_masked_pos"])
        # The same clips as with replacement.
        pairs = zip(full["sample_ids"], full["pixel_values"], strict=True)
        rows = {(name, clip.sum().item()) for name, clip in pairs}
        assert {(n, c.sum().item()) for n, c in zip(batch["sample_ids"], batch["pixel_values"], strict=True)} <= rows
    found = [{entry["id"]: entry for entry in loader.bad_videos} for loader in (replaced, skipped)]
    assert found[0] == found[1] and len(found[0]) == 3


def test_skip_replaces_one_video_of_batch_without_good_videos(tmp_path: Path) -> None:
    write_folder(tmp_path, count=20)
    source = open_source(str(tmp_path))
    first = ids(take(load(source), 1))
    break_files(tmp_path, *first)
    loader = load(source, on_bad_video="skip", max_bad_share=0.5)
    batch, later = take(loader, 2)
    assert len(batch["sample_ids"]) == 1 and batch["sample_ids"][0] in later["sample_ids"]
    assert {entry["id"] for entry in loader.bad_videos} == set(first)


def test_resume_with_skip_is_exact(tmp_path: Path) -> None:
    write_folder(tmp_path, count=12)
    break_files(tmp_path, "class_0/004.mp4")
    source = open_source(str(tmp_path))
    whole = take(load(source, on_bad_video="skip"), 12)
    first, second = load(source, on_bad_video="skip"), load(source, on_bad_video="skip")
    taken = take(first, 5)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert_same(whole, taken + take(second, 7))


@pytest.mark.parametrize("workers", [0, 2])
def test_raise_stops_at_first_bad_video(tmp_path: Path, workers: int) -> None:
    write_folder(tmp_path, count=100)
    break_files(tmp_path, "class_0/004.mp4", "class_1/011.mp4")
    source = open_source(str(tmp_path))
    order = [source[int(index)].id for index in epoch_permutation(100, seed=0, epoch=0)]
    first = min(("class_0/004.mp4", "class_1/011.mp4"), key=order.index)
    loader = load(source, on_bad_video="raise", num_workers=workers)
    with pytest.raises(DataError, match=r"cannot be decoded \(.+\): .*--on_bad_video replace") as caught:
        take(loader, 34)
    assert str(caught.value).startswith(str(tmp_path / first)) and "\n" not in str(caught.value)
    assert [entry["id"] for entry in loader.bad_videos] == [first]
    assert loader.state_dict()["step"] == order.index(first) // 3


def test_too_many_bad_videos_stop_run(tmp_path: Path) -> None:
    write_folder(tmp_path, count=20)
    break_files(tmp_path, *(f"class_{index % 2}/{index:03d}.mp4" for index in range(0, 20, 4)))
    source = open_source(str(tmp_path))
    with pytest.raises(
        DataError, match="more than the share of 0.1 allowed; the first is .*class_0.*raise --max_bad_share"
    ):
        take(load(source), 20)
    loader = load(source, max_bad_share=0.25)
    assert len(take(loader, 20)) == 20 and len(loader.bad_videos) == 5


def test_zero_max_bad_share_stops_at_first_bad_video(tmp_path: Path) -> None:
    write_folder(tmp_path, count=100)
    break_files(tmp_path, "class_0/004.mp4")
    loader = load(open_source(str(tmp_path)), max_bad_share=0, batch_size=10)
    with pytest.raises(DataError, match="1 of the first .* videos"):
        take(loader, 11)
    assert len(loader.bad_videos) == 1


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_folder_without_decodable_video_fails_at_once(tmp_path: Path, workers: int, share: float) -> None:
    (tmp_path / "a").mkdir()
    break_files(tmp_path, *(f"a/{index:03d}.mp4" for index in range(300)))
    began = time.monotonic()
    with pytest.raises(DataError, match="no video of .* decodes: .* in a row failed, the last is .*mp4") as caught:
        take(load(open_source(str(tmp_path)), num_workers=workers, max_bad_share=share), 1)
    assert time.monotonic() - began < 10
    assert "\n" not in str(caught.value)


def test_stream_without_decodable_video_fails(tmp_path: Path) -> None:
    source = open_source(str(write_parquet(tmp_path, rows=(4, 4), bad=tuple(range(8)))))
    with pytest.raises(DataError, match="no video of .* decodes"):
        take(load(source, batch_size=2), 1)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_adjacent_bad_videos_of_stream_do_not_stop_small_batches(tmp_path: Path, batch_size: int) -> None:
    source = open_source(str(write_parquet(tmp_path, rows=(20,), bad=(3, 7, 14))))
    for seed in range(8):
        batches = take(load(source, batch_size=batch_size, seed=seed, max_bad_share=0.2), 20 // batch_size)
        assert {len(batch["sample_ids"]) for batch in batches} == {batch_size}


def test_vanished_file_is_bad_video(tmp_path: Path) -> None:
    write_folder(tmp_path, count=12)
    source = open_source(str(tmp_path))
    (tmp_path / "class_0" / "004.mp4").unlink()
    loader = load(source)
    assert len(take(loader, 8)) == 8
    assert [entry["id"] for entry in loader.bad_videos] == ["class_0/004.mp4"]


@pytest.mark.parametrize("workers", [0, 1])
def test_missing_decoder_is_not_a_bad_video(monkeypatch, workers: int) -> None:
    def no_decoder(*args: object, **options: object) -> None:
        raise VideoBackendError("no decoder; install FFmpeg")

    monkeypatch.setattr("hf_videomae.data.clips.decode_clip", no_decoder)
    loader = load(MotionSource(num_videos=20), num_workers=workers, max_bad_share=1.0)
    with pytest.raises(VideoBackendError, match="^no decoder; install FFmpeg$"):
        take(loader, 1)
    assert loader.bad_videos == []


@pytest.mark.fault
@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("workers", [0, 1])
def test_small_batches_of_mostly_bad_stream_resume_exactly(tmp_path: Path, batch_size: int, workers: int) -> None:
    """Seven of ten videos are bad, so a batch of 1 sometimes meets six bad ones in a row."""
    bad = tuple(place for place in range(40) if place % 10 >= 3)
    source = open_source(str(write_parquet(tmp_path, rows=(20, 20), bad=bad)))

    def fresh(number: int = 0) -> Any:
        return load(source, batch_size=batch_size, num_workers=number, max_bad_share=0.9)

    loader = fresh(workers)
    batches = take(loader, 24 // batch_size)
    assert all(len(batch["sample_ids"]) == batch_size for batch in batches)
    good = {f"data/train-{shard:05d}-of-00002.parquet#{row}" for shard in range(2) for row in (0, 1, 2, 10, 11, 12)}
    assert {name for batch in batches for name in batch["sample_ids"]} <= good
    assert not good & {entry["id"] for entry in loader.bad_videos}
    # A resume in the middle sees the same, though it must read more replacements again.
    first = fresh()
    half = take(first, 12 // batch_size)
    second = fresh()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert ids([*half, *take(second, 12 // batch_size)]) == ids(batches)


@pytest.mark.fault
def test_stream_of_bad_videos_ends_with_batch_size_one(tmp_path: Path) -> None:
    source = open_source(str(write_parquet(tmp_path, rows=(30,), bad=tuple(range(30)))))
    with pytest.raises(DataError, match=r"no video of .* decodes: (19|20) in a row failed"):
        take(load(source, batch_size=1, max_bad_share=0.5), 1)
