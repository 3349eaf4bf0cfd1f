"""The order of samples, exact resume, and bad videos, from seekable and from streamed sources."""

import gc
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from datasets_on_disk import write_folder, write_parquet

from hf_videomae.data import ClipSettings, DataError, Loader, MotionSource, Sample, build_loader, open_source
from hf_videomae.data.collate import make_clips, stable_seed
from hf_videomae.data.lanes import LanePlan
from hf_videomae.data.order import Share, permutation, shuffle_window
from hf_videomae.data.stopwatch import Stopwatch
from hf_videomae.video.decoding import VideoBackendError

SETTINGS = ClipSettings(num_frames=4, stride=2, image_size=32, grid=(2, 2, 2), mask_ratio=0.75)
ROWS = (7, 5, 6)


@pytest.fixture(scope="module")
def motion() -> MotionSource:
    return MotionSource(num_videos=20)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> Any:
    return open_source(str(write_parquet(tmp_path_factory.mktemp("parquet"), rows=ROWS)))


@pytest.fixture(params=["motion", "parquet"])
def source(request) -> Any:
    return request.getfixturevalue(request.param)


def load(source: Any, **options: Any) -> Loader:
    options = {"settings": SETTINGS, "batch_size": 3, "seed": 0, **options}
    return build_loader(source, **options)


def take(loader: Loader, steps: int) -> list[dict[str, Any]]:
    batches = iter(loader)
    taken = list(islice(batches, steps))
    batches.close()
    return taken


def ids(batches: list[dict[str, Any]]) -> list[str]:
    return [name for batch in batches for name in batch["sample_ids"]]


def assert_same(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> None:
    assert ids(a) == ids(b)
    for one, other in zip(a, b, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one if name != "sample_ids")


def test_a_batch(source: Any) -> None:
    settings = ClipSettings(
        num_frames=4, stride=2, image_size=(32, 48), grid=(2, 2, 4), mask_ratio=0.75, decoder_mask_type="running_cell"
    )
    (batch,) = take(load(source, settings=settings), 1)
    assert batch["pixel_values"].shape == (3, 4, 3, 32, 48) and batch["pixel_values"].dtype == torch.float32
    assert batch["pixel_values"].is_contiguous()
    assert batch["bool_masked_pos"].shape == batch["bool_decoder_masked_pos"].shape == (3, 16)
    assert batch["bool_masked_pos"].sum(1).tolist() == [12, 12, 12]
    assert not torch.equal(batch["bool_masked_pos"][0], batch["bool_masked_pos"][1])
    assert batch["labels"].shape == (3,) and len(batch["sample_ids"]) == 3
    # Normalised with ImageNet's numbers: the pictures' mean is near the middle.
    assert batch["pixel_values"].mean().abs() < 1


def test_labels_belong_to_their_samples(motion: MotionSource) -> None:
    for batch in take(load(motion), 4):
        assert batch["labels"].tolist() == [int(name.split("/")[1]) % 8 for name in batch["sample_ids"]]


def test_an_unlabelled_source_gives_no_labels_and_no_grid_no_masks(tmp_path: Path) -> None:
    write_folder(tmp_path, count=3, classes=1)
    settings = ClipSettings(num_frames=4, stride=2, image_size=32)
    (batch,) = take(load(open_source(str(tmp_path)), settings=settings), 1)
    assert set(batch) == {"pixel_values", "sample_ids"}


@pytest.mark.parametrize("augment", ["multi_scale_crop", "random_resized_crop", "center_crop"])
def test_augmentations_and_grey_clips(motion: MotionSource, augment: str) -> None:
    options: dict[str, Any] = {"num_frames": 4, "stride": 2, "image_size": (32, 16), "augment": augment}
    colour, grey = (
        make_clips(
            motion[0], settings=ClipSettings(**options, image_mean=(0,) * n, image_std=(1,) * n), seed=0, epoch=0
        )[0]
        for n in (3, 1)
    )
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    assert colour["pixel_values"].shape == (4, 3, 32, 16)
    assert 0 <= colour["pixel_values"].min() and colour["pixel_values"].max() <= 1
    torch.testing.assert_close(grey["pixel_values"], (colour["pixel_values"] * weights).sum(1, keepdim=True))


def test_flip_is_of_the_whole_clip(motion: MotionSource) -> None:
    options: dict[str, Any] = {"num_frames": 4, "stride": 2, "image_size": 32, "augment": "center_crop"}
    plain, flipped = (
        make_clips(motion[0], settings=ClipSettings(**options, flip=flip), seed=0, epoch=0)[0]["pixel_values"]
        for flip in (0.0, 1.0)
    )
    assert torch.equal(plain.flip(-1), flipped)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stride": 0}, "stride is 0"),
        ({"augment": "crop"}, "augment is 'crop'; choose one of multi_scale_crop"),
        ({"flip": 2}, "flip is 2"),
        ({"image_mean": (0.5, 0.5)}, "videos have 3 colour channels"),
        ({"image_std": (0, 1, 1)}, "every value must be above 0"),
        ({"grid": (2, 2, 2), "mask_ratio": 1.5}, "mask ratio 1.5"),
    ],
)
def test_settings_refuse_nonsense(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipSettings(**wrong)


def test_settings_from_a_config() -> None:
    from hf_videomae import VideoMAEConfig

    settings = ClipSettings.from_config(VideoMAEConfig.from_preset("tiny", task="pretraining"), stride=2, flip=0.5)
    assert (settings.num_frames, settings.size, settings.grid, settings.flip) == (8, (64, 64), (4, 4, 4), 0.5)


# Order.


def test_every_epoch_is_the_data_set_and_no_two_are_alike(source: Any) -> None:
    size = len(source) if isinstance(source, MotionSource) else sum(ROWS)
    drawn = ids(take(load(source), 2 * size // 3 + 1))
    first, second = drawn[:size], drawn[size : 2 * size]
    assert sorted(first) == sorted(second) and len(set(first)) == size
    assert first != second
    other = ids(take(load(source, seed=1), size // 3))
    assert other != first[: len(other)]


def test_the_order_is_not_the_files(parquet: Any) -> None:
    drawn = ids(take(load(parquet), 6))
    files = [name.split("#")[0] for name in drawn]
    assert drawn != sorted(drawn)
    assert len(set(files[:7])) > 1  # the window mixes shards


def test_an_epoch_draws_new_clips_of_a_sample(motion: MotionSource) -> None:
    batches = take(load(motion, batch_size=20), 2)
    places = [
        [batch["sample_ids"].index(sample.id) for sample in map(motion.__getitem__, range(20))] for batch in batches
    ]
    clips = [batch["pixel_values"][place] for batch, place in zip(batches, places, strict=True)]
    masks = [batch["bool_masked_pos"][place] for batch, place in zip(batches, places, strict=True)]
    # A clip may happen to be cut alike twice, and of these small masks there are only four.
    assert (clips[0] != clips[1]).flatten(1).any(1).sum() >= 18
    assert (masks[0] != masks[1]).any(1).sum() >= 8


def test_the_epoch_is_counted(motion: MotionSource) -> None:
    loader = load(motion, batch_size=10)
    assert loader.steps_per_epoch == 2
    epochs = []
    for _ in islice(loader, 5):
        epochs.append(loader.epoch)
    assert epochs == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(source: Any, workers: int) -> None:
    assert_same(take(load(source), 8), take(load(source, num_workers=workers), 8))


def test_spawned_workers_change_nothing(source: Any) -> None:
    assert_same(take(load(source), 2), take(load(source, num_workers=1, start_method="spawn"), 2))


def test_the_global_random_state_is_neither_used_nor_touched(motion: MotionSource) -> None:
    before = torch.get_rng_state(), random.getstate()
    first = take(load(motion, num_workers=1), 2)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    torch.manual_seed(123)
    assert_same(first, take(load(motion), 2))


def test_ranks_share_nothing_and_together_are_one_large_rank(motion: MotionSource) -> None:
    ranks = [take(load(motion, batch_size=2, rank=rank, world_size=2), 5) for rank in range(2)]
    whole = take(load(motion, batch_size=4), 5)
    together = [a["sample_ids"] + b["sample_ids"] for a, b in zip(*ranks, strict=True)]
    assert together == [batch["sample_ids"] for batch in whole]
    assert sorted(ids(ranks[0]) + ids(ranks[1])) == sorted(motion[index].id for index in range(20))
    assert torch.equal(ranks[1][0]["pixel_values"], whole[0]["pixel_values"][2:])


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_ranks_of_a_stream_share_nothing(parquet: Any, world_size: int) -> None:
    """Shards are dealt out (2 and 3 ranks of 3 shards), or samples where shards are too few (5 ranks)."""
    epochs = []
    for rank in range(world_size):
        loader = load(parquet, batch_size=1, rank=rank, world_size=world_size)
        first = []
        for batch in loader:
            first += batch["sample_ids"] if loader.epoch == 0 else []
            if loader.epoch > 0:
                break
        epochs.append(first)
    counts = Counter(name for epoch in epochs for name in epoch)
    assert len(counts) == sum(ROWS) and set(counts.values()) == {1}


# Resume.


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_exact_twice(source: Any, workers: int) -> None:
    whole = take(load(source), 16)
    taken, state = [], None
    for steps in (3, 6, 7):
        loader = load(source, num_workers=workers)
        if state is not None:
            loader.load_state_dict(json.loads(state))
        taken += take(loader, steps)
        state = json.dumps(loader.state_dict())
    assert_same(whole, taken)


def test_a_start_step_leaves_out_what_came_before(source: Any) -> None:
    assert_same(take(load(source), 9)[7:], take(load(source, start_step=7), 2))


def test_iterating_again_goes_on(motion: MotionSource) -> None:
    loader = load(motion)
    assert_same(take(load(motion), 4), take(loader, 2) + take(loader, 2))


def test_resume_of_seekable_data_reads_nothing_before(motion: MotionSource) -> None:
    class Counting(MotionSource):
        asked = 0

        def __getitem__(self, index: int) -> Sample:
            Counting.asked += 1
            return super().__getitem__(index)

    take(load(Counting(num_videos=20), start_step=100_000), 1)
    assert Counting.asked == 3


def test_a_position_in_other_data_is_refused(motion: MotionSource, parquet: Any) -> None:
    state = load(motion).state_dict()
    with pytest.raises(DataError, match="another kind of data set"):
        load(parquet).load_state_dict(state)
    with pytest.raises(DataError, match="has 24 videos, but had 20 when the position was saved"):
        load(MotionSource(num_videos=24)).load_state_dict(state)
    ranks = [load(parquet, rank=rank, world_size=2) for rank in range(2)]
    for loader in ranks:
        take(loader, 1)
    with pytest.raises(DataError, match="lacks a part of .* that this process is to read; resume from a whole check"):
        alone = load(parquet)
        alone.load_state_dict(ranks[0].state_dict())
        take(alone, 1)
    take(ranks[1], 1)
    with pytest.raises(DataError, match=r"positions of the processes differ \(6 and 12\)"):
        load(parquet).load_states([loader.state_dict() for loader in ranks])


def test_seeds_do_not_depend_on_the_process() -> None:
    code = "from hf_videomae.data.collate import stable_seed; print(stable_seed(1, 'a', 2))"
    environment = {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert answer.stdout.strip() == str(stable_seed(1, "a", 2)), answer.stderr


# The window.


def test_the_window_is_bounded_in_bytes() -> None:
    sizes = random.Random(0)
    samples = [Sample(id=str(index), video=bytes(sizes.randrange(1, 100))) for index in range(400)]
    read, given = 0, 0

    def reading():
        nonlocal read
        for sample in samples:
            read += sample.num_bytes
            yield sample

    order = []
    for sample in shuffle_window(reading(), rng=random.Random(1), max_bytes=1000):
        # One video is read before another makes room for it.
        assert read - given <= 1000 + 100
        given += sample.num_bytes
        order.append(int(sample.id))
    assert sorted(order) == list(range(400)) and order != sorted(order)


class Live(bytes):
    """A video that counts as held until the last reference to it is gone."""

    held = most = 0

    def __init__(self, size: int) -> None:
        Live.held += size
        Live.most = max(Live.most, Live.held)

    def __del__(self) -> None:
        Live.held -= len(self)


class LiveSource:
    name, class_names, num_shards, num_samples = "live", None, 4, 400
    largest = 100

    def read_shard(self, shard: int, *, patience: float | None = None) -> Iterator[Sample]:
        sizes = random.Random(shard)
        for row in range(100):
            yield Sample(id=f"{shard}#{row}", video=Live(sizes.randrange(1, self.largest + 1)))


def test_a_stream_holds_its_window_and_the_batches_under_way_and_no_more() -> None:
    """Everything that is alive is counted, wherever it is held, over three epochs of 20 kB each."""
    Live.held = Live.most = 0
    window, batch = 2000, 4
    plan = LanePlan([LiveSource()], Share(batch_size=batch, seed=0), window_bytes=window)
    jobs = plan.jobs(plan.start)
    names = [draw.sample.id for job in islice(jobs, 300) for draw in job.draws]
    jobs.close()  # type: ignore[attr-defined]
    assert len(set(names[:400])) == 400
    # The batch in use, the one that waits, the one that is read; its spare, and the video that is to find room.
    assert window - LiveSource.largest < Live.most <= window + (3 * batch + 2) * LiveSource.largest
    del jobs, plan
    deadline = time.monotonic() + 10
    while Live.held and time.monotonic() < deadline:  # the thread that reads ahead ends in its own time
        gc.collect()
        time.sleep(0.01)
    assert Live.held == 0


def test_a_video_larger_than_the_window_passes() -> None:
    samples = [Sample(id=str(index), video=bytes(50)) for index in range(3)]
    assert [sample.id for sample in shuffle_window(iter(samples), rng=random.Random(0), max_bytes=10)] == [
        "0",
        "1",
        "2",
    ]


def test_a_small_window_still_covers_the_epoch(parquet: Any) -> None:
    drawn = ids(take(load(parquet, window_bytes=30_000), 6))
    assert len(set(drawn)) == sum(ROWS)


# Bad videos.


def break_files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).write_bytes(b"this is no video" * 20)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_video_is_replaced_counted_and_listed_once(tmp_path: Path, workers: int) -> None:
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


def test_replacement_and_account_survive_a_resume(tmp_path: Path) -> None:
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
def test_bad_videos_of_a_stream(tmp_path: Path, workers: int) -> None:
    source = open_source(str(write_parquet(tmp_path, rows=(10, 10), bad=(3, 14))))
    loader = load(source, batch_size=2, num_workers=workers)
    batches = take(loader, 20)
    names = {"data/train-00000-of-00002.parquet#3", "data/train-00001-of-00002.parquet#4"}
    assert {entry["path"] for entry in loader.bad_videos} == names
    assert not names & set(ids(batches)) and len(set(ids(batches))) == 18
    assert_same(batches, take(load(source, batch_size=2), 20))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["folder", "stream"])
def test_skipping_leaves_smaller_batches_of_the_others(tmp_path: Path, workers: int, kind: str) -> None:
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
        # The very clips that they would have been.
        pairs = zip(full["sample_ids"], full["pixel_values"], strict=True)
        rows = {(name, clip.sum().item()) for name, clip in pairs}
        assert {(n, c.sum().item()) for n, c in zip(batch["sample_ids"], batch["pixel_values"], strict=True)} <= rows
    found = [{entry["id"]: entry for entry in loader.bad_videos} for loader in (replaced, skipped)]
    assert found[0] == found[1] and len(found[0]) == 3


def test_a_batch_without_a_good_video_gets_one_replacement(tmp_path: Path) -> None:
    write_folder(tmp_path, count=20)
    source = open_source(str(tmp_path))
    first = ids(take(load(source), 1))
    break_files(tmp_path, *first)
    loader = load(source, on_bad_video="skip", max_bad_share=0.5)
    batch, later = take(loader, 2)
    assert len(batch["sample_ids"]) == 1 and batch["sample_ids"][0] in later["sample_ids"]
    assert {entry["id"] for entry in loader.bad_videos} == set(first)


def test_skipping_goes_on_exactly(tmp_path: Path) -> None:
    write_folder(tmp_path, count=12)
    break_files(tmp_path, "class_0/004.mp4")
    source = open_source(str(tmp_path))
    whole = take(load(source, on_bad_video="skip"), 12)
    first, second = load(source, on_bad_video="skip"), load(source, on_bad_video="skip")
    taken = take(first, 5)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert_same(whole, taken + take(second, 7))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_video_may_end_the_run(tmp_path: Path, workers: int) -> None:
    write_folder(tmp_path, count=100)
    break_files(tmp_path, "class_0/004.mp4", "class_1/011.mp4")
    source = open_source(str(tmp_path))
    order = [source[int(index)].id for index in permutation(100, seed=0, epoch=0)]
    first = min(("class_0/004.mp4", "class_1/011.mp4"), key=order.index)
    loader = load(source, on_bad_video="raise", num_workers=workers)
    with pytest.raises(DataError, match=r"cannot be decoded \(.+\): mend it, or .* --on_bad_video replace") as caught:
        take(loader, 34)
    assert str(caught.value).startswith(str(tmp_path / first)) and "\n" not in str(caught.value)
    assert [entry["id"] for entry in loader.bad_videos] == [first]
    assert loader.state_dict()["step"] == order.index(first) // 3


def test_too_many_bad_videos_stop_the_run(tmp_path: Path) -> None:
    write_folder(tmp_path, count=20)
    break_files(tmp_path, *(f"class_{index % 2}/{index:03d}.mp4" for index in range(0, 20, 4)))
    source = open_source(str(tmp_path))
    with pytest.raises(
        DataError, match="more than the share of 0.1 allowed; the first is .*class_0.*raise --max_bad_share"
    ):
        take(load(source), 20)
    loader = load(source, max_bad_share=0.25)
    assert len(take(loader, 20)) == 20 and len(loader.bad_videos) == 5


def test_no_bad_video_allowed_stops_at_the_first(tmp_path: Path) -> None:
    write_folder(tmp_path, count=100)
    break_files(tmp_path, "class_0/004.mp4")
    loader = load(open_source(str(tmp_path)), max_bad_share=0, batch_size=10)
    with pytest.raises(DataError, match="1 of the first .* videos"):
        take(loader, 11)
    assert len(loader.bad_videos) == 1


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_a_folder_where_no_video_decodes_fails_at_once(tmp_path: Path, workers: int, share: float) -> None:
    (tmp_path / "a").mkdir()
    break_files(tmp_path, *(f"a/{index:03d}.mp4" for index in range(300)))
    began = time.monotonic()
    with pytest.raises(DataError, match="no video of .* decodes: .* in a row failed, the last is .*mp4") as caught:
        take(load(open_source(str(tmp_path)), num_workers=workers, max_bad_share=share), 1)
    assert time.monotonic() - began < 10
    assert "\n" not in str(caught.value)


def test_no_row_of_a_stream_decodes(tmp_path: Path) -> None:
    source = open_source(str(write_parquet(tmp_path, rows=(4, 4), bad=tuple(range(8)))))
    with pytest.raises(DataError, match="no video of .* decodes"):
        take(load(source, batch_size=2), 1)


def test_a_file_that_vanished_is_a_bad_video(tmp_path: Path) -> None:
    write_folder(tmp_path, count=12)
    source = open_source(str(tmp_path))
    (tmp_path / "class_0" / "004.mp4").unlink()
    loader = load(source)
    assert len(take(loader, 8)) == 8
    assert [entry["id"] for entry in loader.bad_videos] == ["class_0/004.mp4"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_decoder_is_never_a_bad_video(monkeypatch, motion: MotionSource, workers: int) -> None:
    def no_decoder(*args: object, **options: object) -> None:
        raise VideoBackendError("no decoder; install FFmpeg")

    monkeypatch.setattr("hf_videomae.data.collate.decode_clip", no_decoder)
    loader = load(motion, num_workers=workers, max_bad_share=1.0)
    with pytest.raises(VideoBackendError, match="^no decoder; install FFmpeg$"):
        take(loader, 1)
    assert loader.bad_videos == []


# Where the time goes.


@pytest.mark.parametrize("workers", [0, 2])
def test_the_seconds_of_each_part(source: Any, workers: int) -> None:
    loader = load(source, num_workers=workers)
    assert loader.seconds == {}
    began = time.perf_counter()
    batches = iter(loader)
    next(batches)
    first = dict(loader.seconds)
    next(batches)
    # The parts of all workers, divided by their number, fit into the time that passed.
    work = {part: value for part, value in loader.seconds.items() if part != "read"}
    assert 0 < sum(work.values()) < time.perf_counter() - began
    batches.close()
    assert work.keys() == {"fetch", "decode", "transform", "collate"}
    assert ("read" in first) == (source.name != "motion")
    assert all(first[part] < value for part, value in loader.seconds.items() if part != "read")


def test_what_fails_takes_its_time_too() -> None:
    watch = Stopwatch()
    with pytest.raises(KeyError), watch("decode"):
        time.sleep(0.01)
        raise KeyError
    watch.add({"decode": 1.0, "read": 4.0}, share=0.5)
    assert watch.seconds["decode"] > 0.51 and watch.seconds["read"] == 2.0


# Refusals.


def test_too_few_videos_for_a_batch(motion: MotionSource, parquet: Any) -> None:
    with pytest.raises(
        DataError, match=r"motion has 20 videos, too few for one batch of 24 \(12 x 2 processes\); lower"
    ):
        load(motion, batch_size=12, world_size=2)
    with pytest.raises(
        DataError, match="18 videos for process 0 of 1, too few for one batch of 19; lower --batch_size"
    ):
        take(load(parquet, batch_size=19), 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch size is 0"),
        ({"rank": 2, "world_size": 2}, "rank 2 is not one of 2"),
        ({"max_bad_share": 1.5}, "max_bad_share is 1.5"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"prefetch": 0}, "prefetch is 0; each worker prepares at least 1"),
        ({"on_bad_video": "ignore"}, "on_bad_video is 'ignore'; choose one of replace, skip, raise"),
    ],
)
def test_options_that_cannot_work(motion: MotionSource, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(motion, **wrong)


# Processes.


def test_workers_survive_the_group_s_signals() -> None:
    """Ctrl-C and SIGTERM go to the whole group; the training process, which handles them, still gets its batches."""
    code = """
import os, signal
from hf_videomae.data import ClipSettings, MotionSource, build_loader
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)
settings = ClipSettings(num_frames=4, stride=2, image_size=32)
loader = build_loader(MotionSource(num_videos=20), settings=settings, batch_size=2, seed=0, num_workers=2)
batches = iter(loader)
next(batches)
os.killpg(os.getpgid(0), signal.SIGINT)
os.killpg(os.getpgid(0), signal.SIGTERM)
print(sum(len(next(batches)["sample_ids"]) for _ in range(12)))
batches.close()
"""
    began = time.monotonic()
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=60,
    )
    assert (answer.stdout.strip(), answer.returncode) == ("24", 0), answer.stderr
    assert time.monotonic() - began < 30
    assert "Traceback" not in answer.stderr


def test_a_worker_ends_with_a_training_process_that_is_killed() -> None:
    """Also one that waits for the rest of a job: it holds the other end of its pipe itself, which so never closes."""
    code = """
import multiprocessing, os, time
from hf_videomae.data.stream import _keep_working
def work():
    _keep_working(0)
    rest, held = os.pipe()
    print(os.getpid(), flush=True)
    os.read(rest, 1)
multiprocessing.get_context("fork").Process(target=work).start()
time.sleep(600)
"""
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        worker = psutil.Process(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
    try:
        worker.wait(timeout=30)
    finally:
        if worker.is_running():
            worker.kill()
