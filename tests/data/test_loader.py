"""Test the loader: order of samples, exact resume, shuffle buffer, timing, from map-style and streamed sources."""

import gc
import json
import pickle
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_videomae.data import ClipConfig, DataError, MotionSource, Sample, open_source
from hf_videomae.data.canonical_rank import shuffle_with_buffer
from hf_videomae.data.clips import make_clips, stable_seed
from hf_videomae.data.sampler import RankInfo
from hf_videomae.data.stage_timer import StageTimer
from hf_videomae.data.stream_sampler import StreamSampler
from tests.helpers.datasets_on_disk import write_folder, write_parquet
from tests.helpers.loaders import assert_same, ids, load, take

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


def test_batch_has_documented_shapes(source: Any) -> None:
    settings = ClipConfig(
        num_frames=4, stride=2, image_size=(32, 48), grid=(2, 2, 4), mask_ratio=0.75, decoder_mask_type="running_cell"
    )
    (batch,) = take(load(source, clip_config=settings), 1)
    assert batch["pixel_values"].shape == (3, 4, 3, 32, 48) and batch["pixel_values"].dtype == torch.float32
    assert batch["pixel_values"].is_contiguous()
    assert batch["bool_masked_pos"].shape == batch["bool_decoder_masked_pos"].shape == (3, 16)
    assert batch["bool_masked_pos"].sum(1).tolist() == [12, 12, 12]
    assert not torch.equal(batch["bool_masked_pos"][0], batch["bool_masked_pos"][1])
    assert batch["labels"].shape == (3,) and len(batch["sample_ids"]) == 3
    # Normalized with ImageNet's values, the mean of the images is near 0.
    assert batch["pixel_values"].mean().abs() < 1


def test_labels_match_samples(motion: MotionSource) -> None:
    for batch in take(load(motion), 4):
        assert batch["labels"].tolist() == [int(name.split("/")[1]) % 8 for name in batch["sample_ids"]]


def test_unlabeled_source_without_grid_has_only_pixels(tmp_path: Path) -> None:
    write_folder(tmp_path, count=3, classes=1)
    settings = ClipConfig(num_frames=4, stride=2, image_size=32)
    (batch,) = take(load(open_source(str(tmp_path)), clip_config=settings), 1)
    assert set(batch) == {"pixel_values", "sample_ids"}


@pytest.mark.parametrize("augment", ["multi_scale_crop", "random_resized_crop", "center_crop"])
def test_gray_clip_is_luma_of_color_clip(motion: MotionSource, augment: str) -> None:
    options: dict[str, Any] = {"num_frames": 4, "stride": 2, "image_size": (32, 16), "augment": augment}
    color, gray = (
        make_clips(
            motion[0], clip_config=ClipConfig(**options, image_mean=(0,) * n, image_std=(1,) * n), seed=0, epoch=0
        )[0]
        for n in (3, 1)
    )
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    assert color["pixel_values"].shape == (4, 3, 32, 16)
    assert 0 <= color["pixel_values"].min() and color["pixel_values"].max() <= 1
    torch.testing.assert_close(gray["pixel_values"], (color["pixel_values"] * weights).sum(1, keepdim=True))


def test_flip_mirrors_whole_clip(motion: MotionSource) -> None:
    options: dict[str, Any] = {"num_frames": 4, "stride": 2, "image_size": 32, "augment": "center_crop"}
    plain, flipped = (
        make_clips(motion[0], clip_config=ClipConfig(**options, flip=flip), seed=0, epoch=0)[0]["pixel_values"]
        for flip in (0.0, 1.0)
    )
    assert torch.equal(plain.flip(-1), flipped)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stride": 0}, "stride is 0"),
        ({"augment": "crop"}, "augment is 'crop'; choose one of multi_scale_crop"),
        ({"flip": 2}, "flip is 2"),
        ({"image_mean": (0.5, 0.5)}, "videos have 3 color channels"),
        ({"image_std": (0, 1, 1)}, "every value must be above 0"),
        ({"grid": (2, 2, 2), "mask_ratio": 1.5}, "mask ratio 1.5"),
    ],
)
def test_invalid_clip_config_raises(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipConfig(**wrong)


def test_clip_config_from_model_config() -> None:
    from hf_videomae import VideoMAEConfig

    settings = ClipConfig.from_config(VideoMAEConfig.from_preset("tiny", task="pretraining"), stride=2, flip=0.5)
    assert (settings.num_frames, settings.size, settings.grid, settings.flip) == (8, (64, 64), (4, 4, 4), 0.5)


# Order.


def test_every_epoch_is_data_set_in_new_order(source: Any) -> None:
    size = len(source) if isinstance(source, MotionSource) else sum(ROWS)
    drawn = ids(take(load(source), 2 * size // 3 + 1))
    first, second = drawn[:size], drawn[size : 2 * size]
    assert sorted(first) == sorted(second) and len(set(first)) == size
    assert first != second
    other = ids(take(load(source, seed=1), size // 3))
    assert other != first[: len(other)]


def test_order_mixes_shards(parquet: Any) -> None:
    drawn = ids(take(load(parquet), 6))
    files = [name.split("#")[0] for name in drawn]
    assert drawn != sorted(drawn)
    assert len(set(files[:7])) > 1  # the shuffle buffer mixes shards


def test_each_epoch_draws_new_clips_and_masks(motion: MotionSource) -> None:
    batches = take(load(motion, batch_size=20), 2)
    places = [
        [batch["sample_ids"].index(sample.id) for sample in map(motion.__getitem__, range(20))] for batch in batches
    ]
    clips = [batch["pixel_values"][place] for batch, place in zip(batches, places, strict=True)]
    masks = [batch["bool_masked_pos"][place] for batch, place in zip(batches, places, strict=True)]
    # Two epochs may draw the same crop, and there are only four of these small masks.
    assert (clips[0] != clips[1]).flatten(1).any(1).sum() >= 18
    assert (masks[0] != masks[1]).any(1).sum() >= 8


def test_epoch_is_counted(motion: MotionSource) -> None:
    loader = load(motion, batch_size=10)
    assert loader.steps_per_epoch == 2
    epochs = []
    for _ in islice(loader, 5):
        epochs.append(loader.epoch)
    assert epochs == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("workers", [1, 2])
def test_number_of_workers_changes_nothing(source: Any, workers: int) -> None:
    assert_same(take(load(source), 8), take(load(source, num_workers=workers), 8))


def test_spawned_workers_change_nothing(source: Any) -> None:
    assert_same(take(load(source), 2), take(load(source, num_workers=1, start_method="spawn"), 2))


def test_pickled_sampler_has_no_streams(parquet: Any) -> None:
    sampler = StreamSampler([parquet], RankInfo(batch_size=2, seed=0))
    assert pickle.loads(pickle.dumps(sampler))._streams == [None] and sampler._streams == [parquet]


def test_global_random_state_is_neither_used_nor_changed(motion: MotionSource) -> None:
    before = torch.get_rng_state(), random.getstate()
    first = take(load(motion, num_workers=1), 2)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    torch.manual_seed(123)
    assert_same(first, take(load(motion), 2))


def test_ranks_together_equal_one_large_rank(motion: MotionSource) -> None:
    ranks = [take(load(motion, batch_size=2, rank=rank, world_size=2), 5) for rank in range(2)]
    whole = take(load(motion, batch_size=4), 5)
    together = [a["sample_ids"] + b["sample_ids"] for a, b in zip(*ranks, strict=True)]
    assert together == [batch["sample_ids"] for batch in whole]
    assert sorted(ids(ranks[0]) + ids(ranks[1])) == sorted(motion[index].id for index in range(20))
    assert torch.equal(ranks[1][0]["pixel_values"], whole[0]["pixel_values"][2:])


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_stream_ranks_share_nothing(parquet: Any, world_size: int) -> None:
    """Ranks share shards (2 and 3 ranks, 3 shards), or samples if shards are too few (5 ranks)."""
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


def test_iterating_again_continues(motion: MotionSource) -> None:
    loader = load(motion)
    assert_same(take(load(motion), 4), take(loader, 2) + take(loader, 2))


def test_map_style_resume_reads_no_earlier_sample(motion: MotionSource) -> None:
    class Counting(MotionSource):
        asked = 0

        def __getitem__(self, index: int) -> Sample:
            Counting.asked += 1
            return super().__getitem__(index)

    loader = load(Counting(num_videos=20))
    loader.load_state_dict({**loader.state_dict(), "cursor": {"position": 300_000}})
    take(loader, 1)
    assert Counting.asked == 3


def test_position_in_other_data_raises(motion: MotionSource, parquet: Any) -> None:
    state = load(motion).state_dict()
    with pytest.raises(DataError, match="another kind of dataset"):
        load(parquet).load_state_dict(state)
    with pytest.raises(DataError, match="has 24 videos, but had 20 when the position was saved"):
        load(MotionSource(num_videos=24)).load_state_dict(state)
    ranks = [load(parquet, rank=rank, world_size=2) for rank in range(2)]
    for loader in ranks:
        take(loader, 1)
    with pytest.raises(
        DataError, match="lacks a part of .* that this process must read; resume from a complete check"
    ):
        alone = load(parquet)
        alone.load_state_dict(ranks[0].state_dict())
        take(alone, 1)
    take(ranks[1], 1)
    with pytest.raises(DataError, match=r"positions of the processes differ \(6 and 12\)"):
        load(parquet).load_states([loader.state_dict() for loader in ranks])


def test_seeds_do_not_depend_on_the_process() -> None:
    code = "from hf_videomae.data.clips import stable_seed; print(stable_seed(1, 'a', 2))"
    environment = {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert answer.stdout.strip() == str(stable_seed(1, "a", 2)), answer.stderr


# The shuffle buffer.


def test_shuffle_buffer_is_bounded_in_bytes() -> None:
    sizes = random.Random(0)
    samples = [Sample(id=str(index), video=bytes(sizes.randrange(1, 100))) for index in range(400)]
    read, given = 0, 0

    def reading():
        nonlocal read
        for sample in samples:
            read += sample.num_bytes
            yield sample

    order = []
    for sample in shuffle_with_buffer(reading(), rng=random.Random(1), max_bytes=1000):
        # One video is read before another leaves the buffer.
        assert read - given <= 1000 + 100
        given += sample.num_bytes
        order.append(int(sample.id))
    assert sorted(order) == list(range(400)) and order != sorted(order)


class Live(bytes):
    """A video that counts as held until its last reference is gone."""

    held = most = 0

    def __init__(self, size: int) -> None:
        Live.held += size
        Live.most = max(Live.most, Live.held)

    def __del__(self) -> None:
        Live.held -= len(self)


class LiveSource:
    name, class_names, num_shards, num_samples = "live", None, 4, 400
    largest = 100

    def read_shard(self, shard: int, *, retry_seconds: float | None = None) -> Iterator[Sample]:
        sizes = random.Random(shard)
        for row in range(100):
            yield Sample(id=f"{shard}#{row}", video=Live(sizes.randrange(1, self.largest + 1)))


def test_stream_holds_only_shuffle_buffer_and_pending_batches() -> None:
    """Count all live videos, wherever they are held, over three epochs of 20 kB each."""
    Live.held = Live.most = 0
    buffer_bytes, batch = 2000, 4
    batch_sampler = StreamSampler(
        [LiveSource()], RankInfo(batch_size=batch, seed=0), shuffle_buffer_bytes=buffer_bytes
    )
    batch_specs = batch_sampler.iter_batch_specs(batch_sampler.start)
    names = [sample_ref.sample.id for batch_spec in islice(batch_specs, 300) for sample_ref in batch_spec.sample_refs]
    batch_specs.close()  # type: ignore[attr-defined]
    assert len(set(names[:400])) == 400
    # The batch in use, the waiting one, the one being read, its replacement, and the video entering the buffer.
    assert buffer_bytes - LiveSource.largest < Live.most <= buffer_bytes + (3 * batch + 2) * LiveSource.largest
    del batch_specs, batch_sampler
    deadline = time.monotonic() + 10
    while Live.held and time.monotonic() < deadline:  # the thread that reads ahead ends in its own time
        gc.collect()
        time.sleep(0.01)
    assert Live.held == 0


def test_video_larger_than_shuffle_buffer_passes() -> None:
    samples = [Sample(id=str(index), video=bytes(50)) for index in range(3)]
    assert [sample.id for sample in shuffle_with_buffer(iter(samples), rng=random.Random(0), max_bytes=10)] == [
        "0",
        "1",
        "2",
    ]


def test_small_shuffle_buffer_covers_epoch(parquet: Any) -> None:
    drawn = ids(take(load(parquet, shuffle_buffer_bytes=30_000), 6))
    assert len(set(drawn)) == sum(ROWS)


# Where the time goes.


@pytest.mark.parametrize("workers", [0, 2])
def test_seconds_are_counted_by_stage(source: Any, workers: int) -> None:
    loader = load(source, num_workers=workers)
    assert loader.seconds == {}
    began = time.perf_counter()
    batches = iter(loader)
    next(batches)
    first = dict(loader.seconds)
    next(batches)
    # The stages of all workers, divided by their number, fit into the wall-clock time.
    work = {part: value for part, value in loader.seconds.items() if part != "read"}
    assert 0 < sum(work.values()) < time.perf_counter() - began
    batches.close()
    assert work.keys() == {"fetch", "decode", "transform", "collate"}
    assert ("read" in first) == (source.name != "motion")
    assert all(first[part] < value for part, value in loader.seconds.items() if part != "read")


def test_failed_stage_counts_its_time() -> None:
    timer = StageTimer()
    with pytest.raises(KeyError), timer("decode"):
        time.sleep(0.01)
        raise KeyError
    timer.add({"decode": 1.0, "read": 4.0}, share=0.5)
    assert timer.seconds["decode"] > 0.51 and timer.seconds["read"] == 2.0


# Refusals.


def test_too_few_videos_for_batch_raise(motion: MotionSource, parquet: Any) -> None:
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
def test_invalid_options_raise(motion: MotionSource, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(motion, **wrong)


# Other data of the same size.


def folder_of(root: Path, first: int, *, names: str = "{}.mp4") -> str:
    """Write six videos into a folder."""
    for number in range(6):
        path = root / names.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(MotionSource()[first + number].video))
    return str(root)


@pytest.mark.fault
def test_position_in_equally_many_other_videos_raises(tmp_path: Path) -> None:
    saved = load(open_source(folder_of(tmp_path / "a", 0))).state_dict()
    for name, other in (("names", "x{}.mp4"), ("sizes", "{}.mp4")):
        source = open_source(folder_of(tmp_path / name, 8, names=other))
        with pytest.raises(DataError, match=f"saved in .*/a, and this is .*/{name}: its files have other {name}"):
            load(source).load_state_dict(json.loads(json.dumps(saved)))


@pytest.mark.fault
def test_position_survives_moved_folder_repaired_file_and_old_state(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", 0)
    loader = load(open_source(folder))
    batches = iter(loader)
    next(batches)
    saved = json.loads(json.dumps(loader.state_dict()))
    expected = [next(batches)["sample_ids"] for _ in range(3)]
    moved = Path(folder).rename(tmp_path / "b")
    (moved / "3.mp4").write_bytes(bytes(MotionSource()[11].video))
    older = {name: value for name, value in saved.items() if name != "identity"}
    for state in (saved, older):
        resumed = load(open_source(str(moved)))
        resumed.load_state_dict(state)
        batches = iter(resumed)
        assert [next(batches)["sample_ids"] for _ in range(3)] == expected


@pytest.mark.fault
def test_position_in_other_hub_data_set_raises(hub: Any) -> None:
    for name in ("org/one", "org/two"):
        write_parquet(hub.dataset(name), rows=(6,))
    saved = load(open_source("org/one")).state_dict()
    load(open_source("org/one")).load_state_dict(saved)
    with pytest.raises(DataError, match="saved in org/one, and this is org/two: it is another dataset of the Hub"):
        load(open_source("org/two")).load_state_dict(saved)
