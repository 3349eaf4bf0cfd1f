"""Test resume with another number of processes: the same samples, none skipped, none repeated."""

import json
from collections import Counter
from itertools import islice
from typing import Any

import pytest

from hf_videomae.data import ClipConfig, Loader, MotionSource, build_loader, open_source
from hf_videomae.data.sampler import Cursor, RankInfo, SampleRef
from hf_videomae.data.stream_sampler import StreamSampler
from tests.helpers.datasets_on_disk import write_folder, write_parquet

CLIP_CONFIG = ClipConfig(num_frames=2, stride=2, image_size=16)
ROWS = {"few": (10, 10), "many": (4, 4, 4, 4, 4)}
SIZE = 20


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a source with two shards: fewer than most numbers of processes here."""
    return open_source(str(write_parquet(tmp_path_factory.mktemp("few"), rows=ROWS["few"])))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a source with five shards: more than processes, and never the same number for each."""
    return open_source(str(write_parquet(tmp_path_factory.mktemp("many"), rows=ROWS["many"])))


@pytest.fixture(scope="module")
def motion() -> MotionSource:
    return MotionSource(num_videos=SIZE)


@pytest.fixture(params=["motion", "few", "many"])
def source(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def ranks_of(source: Any, processes: int, *, clips: int = 12, **options: Any) -> list[Loader]:
    assert clips % processes == 0
    shares: dict[str, Any] = {"batch_size": clips // processes, "world_size": processes, "seed": 3, **options}
    return [build_loader(source, clip_config=CLIP_CONFIG, rank=rank, **shares) for rank in range(processes)]


def steps_of(loaders: list[Loader], steps: int) -> list[list[str]]:
    """Return the samples of all processes in each step."""
    taken = []
    for loader in loaders:
        batches = iter(loader)
        taken.append([batch["sample_ids"] for batch in islice(batches, steps)])
        batches.close()  # type: ignore[attr-defined]
    return [sorted(name for ids in step for name in ids) for step in zip(*taken, strict=True)]


def states_of(loaders: list[Loader]) -> list[dict[str, Any]]:
    """Return the states as loaded from a checkpoint."""
    states: list[dict[str, Any]] = json.loads(json.dumps([loader.state_dict() for loader in loaders]))
    return states


def resumed(source: Any, loaders: list[Loader], processes: int, **options: Any) -> list[Loader]:
    states, after = states_of(loaders), ranks_of(source, processes, **options)
    for loader in after:
        loader.load_states(states)
    return after


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4), (4, 2), (3, 2)])
def test_resume_on_other_world_size_repeats_uninterrupted_steps(source: Any, before: int, after: int) -> None:
    straight = steps_of(ranks_of(source, before), 4)
    first = ranks_of(source, before)
    taken = steps_of(first, 1)
    second = resumed(source, first, after)
    taken += steps_of(second, 1)
    # And back, with the states of all ranks of the second run.
    taken += steps_of(resumed(source, second, before), 2)
    assert taken == straight
    assert len({name for step in straight for name in step}) == SIZE


@pytest.mark.parametrize(("before", "after", "clips"), [(2, 1, 4), (2, 4, 8), (3, 2, 4), (2, 3, 9)])
def test_resume_with_other_batch_size_keeps_order(source: Any, before: int, after: int, clips: int) -> None:
    """After 12 samples, the run continues in the same order with steps of another size."""
    total = {4: 24, 8: 36, 9: 48}[clips]
    straight = steps_of(ranks_of(source, before), total // 12)
    first = ranks_of(source, before)
    taken = steps_of(first, 1)
    second = resumed(source, first, after, clips=clips)
    while sum(map(len, taken)) < total:
        taken += steps_of(second, 1)
        # Resume at every step.
        second = resumed(source, second, after, clips=clips)
    assert Counter(sum(taken, [])) == Counter(sum(straight, []))
    assert all(len(step) == clips for step in taken[1:])


def drawn_by(
    source: Any, processes: int, cursors: list[Cursor] | None, *, steps: int
) -> tuple[list[SampleRef], list[Cursor]]:
    """Return the samples that the processes draw in some steps of 12, and their cursors afterwards."""
    sample_refs, after = [], []
    for rank in range(processes):
        batch_sampler = StreamSampler(
            [source], RankInfo(batch_size=12 // processes, seed=0, rank=rank, world_size=processes)
        )
        batch_specs = batch_sampler.iter_batch_specs(
            batch_sampler.start if cursors is None else batch_sampler.merge_cursors(cursors)
        )
        for batch_spec in islice(batch_specs, steps):
            sample_refs += list(batch_sampler.resolve_samples(batch_spec)[0])
        after.append(batch_spec.next_cursor)
        batch_specs.close()  # type: ignore[attr-defined]
    return sample_refs, after


@pytest.mark.parametrize("numbers", [(2, 1, 4, 2), (3, 2, 1, 6), (1, 3, 2, 1)])
@pytest.mark.parametrize("shards", ["few", "many"])
def test_every_epoch_has_every_sample_once(request: pytest.FixtureRequest, shards: str, numbers: tuple[int]) -> None:
    """Canonical ranks with unequal shards end their epochs at different steps."""
    source, cursors = request.getfixturevalue(shards), None
    sample_refs: list[SampleRef] = []
    for processes in numbers:
        more, cursors = drawn_by(source, processes, cursors, steps=2)
        sample_refs += more
    counts = Counter((sample_ref.epoch, sample_ref.sample.id) for sample_ref in sample_refs)
    assert set(counts.values()) == {1} and len(counts) == 8 * 12
    whole = [epoch for epoch in range(5) if sum(place == epoch for place, _ in counts) == SIZE]
    assert whole[:3] == [0, 1, 2]


def test_bad_videos_are_split_over_new_ranks(tmp_path: Any) -> None:
    source = open_source(str(write_folder(tmp_path, count=24)))
    for name in ("class_0/004.mp4", "class_1/011.mp4", "class_1/017.mp4"):
        (tmp_path / name).write_bytes(b"this is no video" * 20)
    first = ranks_of(source, 2, max_bad_share=0.3)
    steps_of(first, 2)
    states = states_of(first)
    bad = {entry["id"] for state in states for entry in state["bad_videos"]}
    assert len(bad) == 3
    for processes in (1, 3, 4):
        again = states_of(resumed(source, first, processes, max_bad_share=0.3))
        found = [entry["id"] for state in again for entry in state["bad_videos"]]
        assert sorted(found) == sorted(bad)
        assert sum(state["drawn"] for state in again) == sum(state["drawn"] for state in states)
    assert [state["bad_videos"] for state in states_of(resumed(source, first, 2))] == [s["bad_videos"] for s in states]
