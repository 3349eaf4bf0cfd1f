"""Load the endless batches of one rank: ordered by a sampler, built by workers, counted in the training process.

The way of a video from `--dataset` to the model's input:

1. `open_source` (`open.py`) opens the data set as a source.
2. `build_loader` (here) picks the sampler: `MapStyleSampler` for a folder, `StreamSampler` for streams and mixes.
3. The sampler yields a `BatchSpec` per step, in the training process (`sampler.py`, `stream_sampler.py`).
4. A worker builds the batch (`batch_builder.py`): it decodes and augments each clip and draws its masks (`clips.py`),
   replaces bad videos, and collates.
5. `Loader` hands the batch out, counts bad videos, and remembers the position for a resume.
"""

import atexit
import inspect
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch.utils.data import DataLoader

from ..errors import DataError
from ..video.hdr import hdr_counter
from .batch_builder import BadVideoPolicy, BatchBuilder, TooFewReplacementsError, WorkerResult
from .canonical_rank import SHUFFLE_BUFFER_BYTES
from .clips import Batch, ClipConfig
from .fingerprint import DatasetFingerprint, check_same_dataset, fingerprint_dataset
from .labels import LabelEncoder
from .sampler import BatchSampler, MapStyleSampler, RankInfo
from .source import AnyData, Mixture, Source, num_videos
from .stage_timer import StageTimer
from .stream_sampler import StreamSampler
from .workers import Workers

# A share of bad videos says little before this many were seen (or all of a smaller data set).
_MIN_SEEN_FOR_BAD_SHARE = 50
# So many bad videos in a row mean that none decodes: if half of all were bad, one draw in a million would see this.
_MAX_CONSECUTIVE_BAD = 20
_STATE_VERSION = 1


@dataclass(kw_only=True)
class BadVideoTracker:
    """Count the bad videos of one rank, in the training process over all workers.

    Attributes:
        name: of the data set.
        max_share: share of bad videos above which the run stops.
        size: number of videos; None if it is not known.
        drawn: videos drawn so far.
        by_id: each bad video by its id: `path`, `id`, `reason`.
    """

    name: str
    max_share: float
    size: int | None
    drawn: int = 0
    by_id: dict[str, dict[str, str]] = field(default_factory=dict)

    def record(self, result: WorkerResult) -> None:
        """Remember the bad videos of a batch, each once."""
        for entry in result.bad:
            self.by_id.setdefault(entry["id"], entry)

    def check_bad_share(self, result: WorkerResult, *, batch: Batch) -> None:
        """Count one batch, and raise `DataError` when too many of the videos seen are bad.

        The videos seen are those drawn, up to the size of the data set.
        """
        self.drawn += len(batch["sample_ids"]) + len(result.bad)
        seen = max(self.drawn, _MIN_SEEN_FOR_BAD_SHARE)
        if self.size is not None:
            seen = min(seen, self.size)
        if len(self.by_id) > self.max_share * seen:
            first = next(iter(self.by_id.values()))
            raise DataError(
                f"{len(self.by_id)} of the first {min(self.drawn, seen)} videos of {self.name} cannot be decoded, "
                f"more than the share of {self.max_share:g} allowed; the first is {first['path']} "
                f"({first['reason']}): repair or remove them, or raise --max_bad_share"
            )


class Loader:
    """The endless batches of one rank; made by `build_loader`.

    Each batch is a dict of `pixel_values` (B, T, C, H, W) float32, normalized; `bool_masked_pos` (B, N) bool if the
    clip config has a grid; `bool_decoder_masked_pos` (B, N) bool if it has a decoder mask; `sample_ids`, B strings;
    and `labels` of a labeled source. With R = `clips_per_video` * `num_sample`, the tensors have B * R rows, those of
    one video next to each other. B is the batch size, or less if bad videos are skipped, and never 0.

    Iterating again continues at the first batch that was not handed out.

    Attributes:
        steps_per_epoch: whole batches in one pass over the data, or None if its size is not known.
        seconds: time by stage for the batches handed out so far (see `stage_timer.py`). Times of workers are summed
            and divided by the number of workers: a stage close to the wall-clock time is the bottleneck.
    """

    def __init__(
        self,
        batch_sampler: BatchSampler,
        batch_builder: BatchBuilder,
        *,
        bad_videos: BadVideoTracker,
        fingerprint: DatasetFingerprint,
        num_workers: int,
        prefetch: int,
        pin_memory: bool,
        start_method: str | None,
    ) -> None:
        self._batch_sampler, self._batch_builder = batch_sampler, batch_builder
        self._bad_videos, self._fingerprint = bad_videos, fingerprint
        self._num_workers, self._start_method = num_workers, start_method
        self._options: dict[str, Any] = {"pin_memory": pin_memory}
        if num_workers:
            self._options["prefetch_factor"] = prefetch
        self._cursor, self._step = batch_sampler.start, 0
        self.steps_per_epoch = batch_sampler.steps_per_epoch
        self._timer = StageTimer()
        self.seconds: Mapping[str, float] = self._timer.seconds

    @property
    def epoch(self) -> int:
        """Return the epoch of the next sample, counted from 0."""
        return self._batch_sampler.epoch(self._cursor)

    @property
    def bad_videos(self) -> list[dict[str, str]]:
        """Return each bad video of this rank, once: `path`, `id`, `reason`."""
        return list(self._bad_videos.by_id.values())

    def __iter__(self) -> Iterator[Batch]:
        batches = self._iter_batches()
        _open_iterators.add(batches)
        return batches

    def _iter_batches(self) -> Generator[Batch, None, None]:
        workers = Workers(self._num_workers, start_method=self._start_method)
        try:
            for result in self._iter_results(workers):
                self._bad_videos.record(result)
                if result.batch is None:
                    raise result.error_type(result.error)
                self._bad_videos.check_bad_share(result, batch=result.batch)
                hdr_counter.add(result.hdr)
                self._timer.add(result.seconds, share=1 / max(1, self._num_workers))
                self._timer.add({"read": result.read_seconds} if result.read_seconds else {})
                self._cursor, self._step = result.next_cursor, self._step + 1
                yield result.batch
        finally:
            workers.exit_on_stop_signal()

    def _iter_results(self, workers: Workers) -> Iterator[WorkerResult]:
        """Yield what workers build. If a stream ran out of replacements, continue at the same batch with more."""
        while True:
            # A generator of its own keeps the process's global random state untouched.
            options: dict[str, Any] = {**workers.options, **self._options, "generator": torch.Generator()}
            batch_specs: Any = self._batch_sampler.iter_batch_specs(self._cursor)  # iterated in this process
            for result in workers.results(
                DataLoader(
                    self._batch_builder,
                    batch_size=None,
                    sampler=batch_specs,
                    collate_fn=_return_unchanged,
                    **options,
                )
            ):
                if result.error_type is TooFewReplacementsError and self._batch_sampler.add_replacements(
                    self._batch_builder.max_consecutive_bad
                ):
                    break
                yield result

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last batch that was handed out, JSON-able."""
        return {
            "version": _STATE_VERSION,
            "source": self._bad_videos.name,
            "identity": self._fingerprint,
            "size": self._bad_videos.size,
            "step": self._step,
            "cursor": dict(self._cursor),
            "drawn": self._bad_videos.drawn,
            "bad_videos": self.bad_videos,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume at this rank's saved position, with the next iteration.

        Raises:
            DataError: for a position in other data.
        """
        self._restore([state], own_state=state)

    def load_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Resume a run with any number of processes, so that no sample is skipped or repeated.

        Args:
            states: the `state_dict` of each of the run's processes, in their order.

        Raises:
            DataError: for a position in other data.
        """
        rank_info = self._batch_sampler.rank_info
        is_same_world = len(states) == rank_info.world_size
        own_state = states[rank_info.rank] if is_same_world else _split_bad_videos(states, rank_info)
        self._restore(states, own_state=own_state)

    def _restore(self, states: Sequence[dict[str, Any]], *, own_state: dict[str, Any]) -> None:
        for state in states:
            self._check_state(state)
        self._cursor = self._batch_sampler.merge_cursors([state["cursor"] for state in states])
        self._step = states[0]["step"]
        self._bad_videos.drawn = own_state["drawn"]
        self._bad_videos.by_id = {entry["id"]: entry for entry in own_state["bad_videos"]}

    def _check_state(self, state: dict[str, Any]) -> None:
        """Raise `DataError` for a position in other data. Earlier releases saved only the number of videos."""
        if state.get("version") != _STATE_VERSION or state["cursor"].keys() != self._batch_sampler.start.keys():
            raise DataError("the saved position belongs to another kind of data set or version; start a new run")
        if state["size"] != self._bad_videos.size:
            name, size = self._bad_videos.name, self._bad_videos.size
            raise DataError(
                f"{name} has {size} videos, but had {state['size']} when the position was saved: the run cannot "
                f"resume exactly; restore the data set, or start a new run from the weights"
            )
        check_same_dataset(state.get("identity"), self._fingerprint)


def _split_bad_videos(states: Sequence[dict[str, Any]], rank_info: RankInfo) -> dict[str, Any]:
    """Return one rank's part of `drawn` and `bad_videos` of a run with other ranks: the sums stay what they were."""
    drawn = sum(state["drawn"] for state in states)
    by_id = {entry["id"]: entry for state in states for entry in state["bad_videos"]}
    return {
        "drawn": len(range(rank_info.rank, drawn, rank_info.world_size)),
        "bad_videos": list(by_id.values())[rank_info.rank :: rank_info.world_size],
    }


_open_iterators: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()


@atexit.register
def _close_open_iterators() -> None:
    """Close iterators left open while the modules that they need are still there."""
    for batches in list(_open_iterators):
        if inspect.getgeneratorstate(batches) != inspect.GEN_RUNNING:
            batches.close()


def _return_unchanged(result: Any) -> Any:
    return result


def build_loader(
    source: AnyData,
    *,
    clip_config: ClipConfig,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    start_step: int = 0,
    max_bad_share: float = 0.1,
    on_bad_video: BadVideoPolicy = "replace",
    shuffle_buffer_bytes: int = SHUFFLE_BUFFER_BYTES,
    prefetch: int = 2,
    pin_memory: bool = False,
    start_method: str | None = None,
    labels: LabelEncoder | None = None,
) -> Loader:
    """Build the loader of one rank.

    The order of the samples depends on (seed, epoch, rank, world size), a sample's clip, crop and masks on (seed,
    epoch, sample id), and neither on the number of workers. A run resumed with another number of processes
    (`Loader.load_states`) keeps its order. A bad video is counted, listed in `Loader.bad_videos`, and replaced by
    another sample of the same rank, unless `on_bad_video` says otherwise.

    Args:
        source: by `open_source` or `open_mixture`.
        clip_config: what the model wants.
        batch_size: clips per step of this rank.
        seed: of order, clips, crops and masks.
        rank: of this process.
        world_size: number of training processes.
        num_workers: processes that decode; 0 decodes in this one.
        start_step: steps to leave out; `Loader.load_state_dict` is the better way to resume.
        max_bad_share: share of undecodable videos above which the run stops; 0 stops at the first.
        on_bad_video: `replace`; `skip`: the batch is made of the others (of one replacement if there are none), so it
            may be smaller, and all ranks take the same steps; `raise`: the run stops.
        shuffle_buffer_bytes: encoded videos held to shuffle, for each streamed source.
        prefetch: batches that each worker keeps ready.
        pin_memory: for copies to a GPU in the background.
        start_method: of the workers: `fork`, `spawn` or `forkserver`; None for the platform's.
        labels: every sample must have a label of this kind, for training on labels.

    Raises:
        DataError: for too few videos for one batch of all ranks; while iterating, for too many bad ones, or the first.
        VideoBackendError: while iterating, when no decoder works on this machine.
    """
    _check_options(max_bad_share=max_bad_share, num_workers=num_workers, prefetch=prefetch, on_bad_video=on_bad_video)
    rank_info = RankInfo(batch_size=batch_size, seed=seed, rank=rank, world_size=world_size)
    batch_sampler: BatchSampler
    if isinstance(source, Source):
        batch_sampler = MapStyleSampler(source, rank_info, start_step=start_step)
    else:
        parts, weights = (source.parts, source.weights) if isinstance(source, Mixture) else ((source,), (1,))
        batch_sampler = StreamSampler(
            parts, rank_info, weights=weights, start_step=start_step, shuffle_buffer_bytes=shuffle_buffer_bytes
        )
    batch_builder = BatchBuilder(
        batch_sampler=batch_sampler,
        clip_config=clip_config,
        seed=seed,
        name=source.name,
        labels=source.class_names is not None if labels is None else labels,
        # If nearly all may be bad, a longer row of bad ones is no proof.
        max_consecutive_bad=_MAX_CONSECUTIVE_BAD if max_bad_share <= 0.5 else 10 * _MAX_CONSECUTIVE_BAD,
        on_bad_video=on_bad_video,
    )
    return Loader(
        batch_sampler,
        batch_builder,
        bad_videos=BadVideoTracker(name=source.name, max_share=max_bad_share, size=num_videos(source)),
        fingerprint=fingerprint_dataset(source),
        num_workers=num_workers,
        prefetch=prefetch,
        pin_memory=pin_memory,
        start_method=start_method,
    )


def _check_options(*, max_bad_share: float, num_workers: int, prefetch: int, on_bad_video: str) -> None:
    if not 0 <= max_bad_share <= 1:
        raise DataError(f"max_bad_share is {max_bad_share}; it is a share, from 0 to 1")
    if num_workers < 0:
        raise DataError(f"num_workers is {num_workers}; give 0 to decode in the training process, or more")
    if prefetch < 1:
        raise DataError(f"prefetch is {prefetch}; each worker prepares at least 1 batch ahead")
    if on_bad_video not in get_args(BadVideoPolicy):
        raise DataError(f"on_bad_video is {on_bad_video!r}; choose one of {', '.join(get_args(BadVideoPolicy))}")
