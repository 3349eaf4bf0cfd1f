"""Test mixes of datasets: shares, the order of each source, resume, ranks, and invalid mixes."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from hf_videomae.data import (
    ClipConfig,
    DataError,
    Mixture,
    MotionSource,
    build_loader,
    describe_source,
    open_mixture,
    open_source,
)
from hf_videomae.data.interleave import InterleaveSchedule, choose_next_source
from hf_videomae.data.sampler import Cursor, MapStyleSampler, RankInfo, SampleRef
from hf_videomae.data.stream_sampler import StreamSampler
from tests.helpers.datasets_on_disk import write_folder, write_parquet

CLIP_CONFIG = ClipConfig(num_frames=2, stride=2, image_size=16)
WEIGHTS = (6, 3, 1)


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Return a source with four shards and one with one: more than processes, and fewer."""
    rows = {"four": (6, 5, 6, 7), "one": (9,)}
    return [open_source(str(write_parquet(tmp_path_factory.mktemp(name), rows=rows[name]))) for name in rows]


@pytest.fixture(scope="module")
def mixture(streams: list[Any]) -> Mixture:
    """Return a mix of two streams and a map-style source."""
    return Mixture(parts=(streams[0], MotionSource(num_videos=16), streams[1]), weights=WEIGHTS)


def drawn_by(
    parts: Sequence[Any], processes: int = 1, cursors: list[Cursor] | None = None, *, steps: int, clips: int = 6
) -> tuple[list[list[list[SampleRef]]], list[Cursor]]:
    """Return the samples of each process in each step, and their cursors afterwards."""
    weights = WEIGHTS if len(parts) > 1 else (1,)
    sample_refs, after = [], []
    for rank in range(processes):
        share = RankInfo(batch_size=clips // processes, seed=0, rank=rank, world_size=processes)
        batch_sampler = StreamSampler(parts, share, weights=weights)
        batch_specs = batch_sampler.iter_batch_specs(
            batch_sampler.start if cursors is None else batch_sampler.merge_cursors(json.loads(json.dumps(cursors)))
        )
        taken = list(islice(batch_specs, steps))
        batch_specs.close()  # type: ignore[attr-defined]
        sample_refs.append([list(batch_sampler.resolve_samples(batch_spec)[0]) for batch_spec in taken])
        after.append(taken[-1].next_cursor)
    return sample_refs, after


def steps_of(sample_refs: list[list[list[SampleRef]]]) -> list[list[tuple[int, str]]]:
    """Return the epoch and id of all samples of each step."""
    return [
        sorted((sample_ref.epoch, sample_ref.sample.id) for sample_refs in step for sample_ref in sample_refs)
        for step in zip(*sample_refs, strict=True)
    ]


# The shares.


@pytest.mark.parametrize("seed", range(12))
def test_every_source_stays_within_one_draw_of_its_share(seed: int) -> None:
    chance = random.Random(seed)
    weights = [chance.choice([1, 2, 3, 10, 100, chance.randint(1, 1000)]) for _ in range(seed + 2)]
    drawn = [0] * len(weights)
    for slot in range(1, 600):
        drawn[choose_next_source(weights, drawn)] += 1
        assert all(abs(weight * slot / sum(weights) - n) < 1 for weight, n in zip(weights, drawn, strict=True))
    assert sum(drawn) == 599


@pytest.mark.parametrize(
    ("weights", "canonical_ranks"),
    [((1,), 4), ((1, 1), 2), ((6, 3, 1), 2), ((6, 3, 1), 4), ((1, 1, 1, 1), 2), ((1, 2, 4, 8, 16, 32), 3)],
)
def test_canonical_ranks_get_similar_counts_of_every_source(weights: tuple[int, ...], canonical_ranks: int) -> None:
    start = [[0] * canonical_ranks for _ in weights]
    schedule = InterleaveSchedule(weights, start, position=0, canonical_ranks=range(0))
    schedule.take(500 * canonical_ranks)
    assert [sum(column) for column in zip(*schedule.drawn_counts, strict=True)] == [500] * canonical_ranks
    assert all(max(row) - min(row) <= 3 for row in schedule.drawn_counts)


def test_slots_do_not_depend_on_start_or_reader() -> None:
    start = [[0] * 4 for _ in WEIGHTS]
    whole = InterleaveSchedule(WEIGHTS, start, position=0, canonical_ranks=range(4)).take(60)
    assert sorted(slot.at for slot in whole) == list(range(60))
    for position in (1, 7, 8, 23):
        slots = InterleaveSchedule(WEIGHTS, start, position=0, canonical_ranks=range(4))
        slots.take(position)
        again = InterleaveSchedule(WEIGHTS, slots.drawn_counts, position=position, canonical_ranks=range(1, 3))
        ahead = again.peek(1, 5)
        rest = again.take(60 - position)
        assert rest == [slot for slot in whole if slot.at >= position and slot.canonical_rank in (1, 2)]
        assert ahead == [slot for slot in rest if slot.canonical_rank == 1][:5]


# The order.


def test_mix_keeps_shares_and_order_of_each_source(mixture: Mixture, streams: list[Any]) -> None:
    (sample_refs,), _ = drawn_by(mixture.parts, steps=25)
    drawn = [sample_ref for step in sample_refs for sample_ref in step]
    for part, (source, weight) in enumerate(zip(mixture.parts, WEIGHTS, strict=True)):
        is_of = [sample_ref.sample.id.startswith(f"{source.name}:") for sample_ref in drawn]
        counts = [sum(is_of[: slot + 1]) - weight * (slot + 1) / 10 for slot in range(len(is_of))]
        assert max(map(abs, counts)) < 1, source.name
        own = [sample_ref for sample_ref, is_own in zip(drawn, is_of, strict=True) if is_own]
        alone = order_alone(source, len(own))
        assert [(sample_ref.epoch, sample_ref.sample.id) for sample_ref in own] == [
            (e, f"{source.name}:{id}") for e, id in alone
        ]
        assert part != 2 or own[-1].epoch == 1
    assert len({sample_ref.sample.id for sample_ref in drawn}) == 24 + 16 + 9


def order_alone(source: Any, count: int) -> list[tuple[int, str]]:
    share = RankInfo(batch_size=1, seed=0)
    batch_sampler = (
        MapStyleSampler(source, share) if isinstance(source, MotionSource) else StreamSampler([source], share)
    )
    batch_specs = batch_sampler.iter_batch_specs(batch_sampler.start)
    sample_refs = [
        sample_ref
        for batch_spec in islice(batch_specs, count)
        for sample_ref in batch_sampler.resolve_samples(batch_spec)[0]
    ]
    batch_specs.close()  # type: ignore[attr-defined]
    return [(sample_ref.epoch, sample_ref.sample.id) for sample_ref in sample_refs]


def test_two_ranks_are_disjoint_and_complete(mixture: Mixture) -> None:
    sample_refs, _ = drawn_by(mixture.parts, 2, steps=40)
    counts = Counter(pair for step in steps_of(sample_refs) for pair in step)
    assert set(counts.values()) == {1}
    first = {id for epoch, id in counts if epoch == 0}
    assert len(first) == 24 + 16 + 9
    for share, source in zip(mixture.shares, mixture.parts, strict=True):
        for rank in sample_refs:
            own = sum(sample_ref.sample.id.startswith(source.name + ":") for step in rank for sample_ref in step)
            assert abs(own - share * 120) <= 3


@pytest.mark.parametrize("numbers", [(1, 1), (2, 2), (1, 2, 3), (3, 1, 2), (2, 6, 1)])
def test_mix_resumes_with_any_number_of_processes(mixture: Mixture, numbers: tuple[int, ...]) -> None:
    straight, _ = drawn_by(mixture.parts, numbers[0], steps=4 * len(numbers))
    cursors: list[Cursor] | None = None
    taken = []
    for processes in numbers:
        for _ in range(2):
            sample_refs, cursors = drawn_by(mixture.parts, processes, cursors, steps=2)
            taken += steps_of(sample_refs)
    assert taken == steps_of(straight)


def test_mix_resumes_with_other_batch_sizes(mixture: Mixture) -> None:
    straight, _ = drawn_by(mixture.parts, 2, steps=6)
    sample_refs, cursors = drawn_by(mixture.parts, 2, steps=1)
    taken = steps_of(sample_refs)
    for processes, clips in ((1, 5), (5, 5), (1, 3), (2, 4), (1, 7)):
        sample_refs, cursors = drawn_by(mixture.parts, processes, cursors, steps=1, clips=clips)
        taken += steps_of(sample_refs)
    sample_refs, _ = drawn_by(mixture.parts, 2, cursors, steps=1)
    assert sorted(sum(taken + steps_of(sample_refs), [])) == sorted(sum(steps_of(straight), []))


# Batches.


@pytest.mark.parametrize("workers", [0, 1])
def test_mix_replaces_bad_videos(tmp_path: Path, workers: int) -> None:
    folder = write_folder(tmp_path / "folder", count=12)
    (folder / "class_0" / "004.mp4").write_bytes(b"this is no video" * 20)
    parquet = write_parquet(tmp_path / "parquet", rows=(5, 7), bad=(3,))
    mixture = open_mixture([str(folder), str(parquet)], weights=[1, 1])
    loader = build_loader(
        mixture, clip_config=CLIP_CONFIG, batch_size=4, seed=0, num_workers=workers, max_bad_share=0.2
    )
    assert loader.steps_per_epoch is None  # this Parquet does not say its size
    batches = list(islice(loader, 14))
    assert loader.epoch == 2
    assert all(len(batch["sample_ids"]) == 4 and "labels" not in batch for batch in batches)
    bad = {f"{folder}:class_0/004.mp4", f"{parquet}:data/train-00000-of-00002.parquet#3"}
    assert {entry["id"] for entry in loader.bad_videos} == bad
    assert not bad & {id for batch in batches for id in batch["sample_ids"]}
    again = build_loader(mixture, clip_config=CLIP_CONFIG, batch_size=4, seed=0, max_bad_share=0.2)
    assert [batch["sample_ids"] for batch in islice(again, 14)] == [batch["sample_ids"] for batch in batches]


# Opening.


def test_mixture_of_one_name_is_the_data_set(tmp_path: Path) -> None:
    assert isinstance(open_mixture("motion"), MotionSource) and isinstance(open_mixture(["motion"]), MotionSource)


def test_default_weights_are_the_sizes(tmp_path: Path) -> None:
    first, second = (str(write_folder(tmp_path / name, count=n)) for name, n in (("first", 4), ("second", 8)))
    mixture = open_mixture([first, second], require_labels=True)
    assert isinstance(mixture, Mixture) and mixture.weights == (1, 2) and mixture.num_samples == 12
    assert mixture.class_names == ["class_0", "class_1"]
    assert describe_source(open_mixture([first, second], weights=[0.6, 0.4])).splitlines() == [
        f"{first} + {second}: 12 videos, 2 classes",
        f"  60 % {first}: 4 videos, 2 classes, 1.8 passes over it in an epoch of the mix",
        f"  40 % {second}: 8 videos, 2 classes, 0.6 passes over it in an epoch of the mix",
    ]
    assert open_mixture([first, second], weights=(0.1, 0.3)).weights == (1, 3)  # type: ignore[union-attr]


def test_impossible_mixes_raise(tmp_path: Path) -> None:
    two, three = (str(write_folder(tmp_path / name, count=6, classes=n)) for name, n in (("two", 2), ("three", 3)))
    web = tmp_path / "web"
    with pytest.raises(DataError, match="two and .*three have different classes .'class_2' is a class of one of them"):
        open_mixture([two, three], require_labels=True)
    assert open_mixture([two, three]).class_names is None
    with pytest.raises(DataError, match="two is named twice; name it once, with a larger weight"):
        open_mixture([two, two])
    with pytest.raises(DataError, match="there are 1 weights for 2 datasets"):
        open_mixture([two, three], weights=[1])
    with pytest.raises(DataError, match="the weight 0 of a dataset is not above 0"):
        open_mixture([two, three], weights=[1, 0])
    with pytest.raises(DataError, match=r"two has 6 videos, too few for its 9 of a batch of 12; lower its weight"):
        build_loader(open_mixture([two, three], weights=[3, 1]), clip_config=CLIP_CONFIG, batch_size=12, seed=0)
    from tests.helpers.datasets_on_disk import write_webdataset

    with pytest.raises(DataError, match="web does not say how many videos it has.*--dataset_weights"):
        open_mixture([two, str(write_webdataset(web))])
    loader = build_loader(open_mixture([two, str(web)], weights=[1, 1]), clip_config=CLIP_CONFIG, batch_size=2, seed=0)
    assert loader.steps_per_epoch is None and len(next(iter(loader))["sample_ids"]) == 2


def test_position_in_other_mix_raises(mixture: Mixture) -> None:
    _, cursors = drawn_by(mixture.parts, steps=1)
    other = StreamSampler(mixture.parts, RankInfo(batch_size=6, seed=0), weights=(1, 1, 1))
    with pytest.raises(DataError, match="of 3 datasets by the weights 6 : 3 : 1, this is one of 3 by 1 : 1 : 1; give"):
        other.merge_cursors(cursors)
