"""An endless stream of batches for one rank: drawn by a plan, made by workers, counted in the training process."""

import atexit
import ctypes
import inspect
import sys
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, get_args

import torch
from torch.utils.data import DataLoader, Dataset

from ..credentials import redact_credentials
from ..errors import DataError
from ..video._source import resolve_source
from ..video.decoding import VideoBackendError, VideoDecodeError
from ..video.hdr import Transfer, hdr_counter
from .clips import Batch, ClipConfig, collate, make_clips
from .fingerprint import DatasetFingerprint, check_same_dataset, fingerprint_dataset
from .labels import LabelEncoder
from .sampler import (
    SHUFFLE_BUFFER_BYTES,
    BatchSampler,
    BatchSpec,
    Cursor,
    MapStyleSampler,
    RankInfo,
    SampleRef,
)
from .source import AnyData, Mixture, Sample, Source, num_videos
from .stage_timer import StageTimer
from .stream_sampler import StreamSampler
from .url_videos import retry_video
from .workers import Workers

BadVideoPolicy = Literal["replace", "skip", "raise"]
"""What a bad video does to its batch: another takes its place, the batch is made without it, or the run stops."""

# A share of bad videos says little before this many were seen (or all of a smaller data set).
_MIN_SEEN_FOR_BAD_SHARE = 50
# So many bad videos in a row mean that none decodes: if half of all were bad, one draw in a million would see this.
_MAX_CONSECUTIVE_BAD = 20
_STATE_VERSION = 1
ClipList = list[dict[str, torch.Tensor]]
# glibc keeps what decoding frees in pieces: without this a worker grew by a gigabyte in 500 batches.
TRIM_EVERY_NUM_VIDEOS = 25
# A training's batches differ in size a hundredfold, and about as much as was made lies idle: so by their bytes.
_TRIM_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True)
class WorkerResult:
    """What a worker sends: a batch and its bad videos, or the error that ends the run.

    An error raised in a worker would arrive wrapped into a traceback; users shall read its one line.
    """

    after: Cursor
    batch: Batch | None = None
    bad: tuple[dict[str, str], ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    read_seconds: float = 0.0
    hdr: Mapping[str, Transfer] = field(default_factory=dict)
    error: str = ""
    error_type: type[Exception] = DataError


class TooFewReplacementsError(DataError):
    """Fewer videos than it takes to say that none decodes were at hand to replace a bad one."""


class BatchBuilder(Dataset[WorkerResult]):
    """Jobs -> batches, in any process. No decoder outlives its clip, so that none is shared between processes."""

    def __init__(
        self,
        batch_sampler: BatchSampler,
        *,
        settings: ClipConfig,
        seed: int,
        name: str,
        labels: LabelEncoder | bool,
        max_consecutive_bad: int,
        on_bad: BadVideoPolicy,
    ) -> None:
        self.batch_sampler, self.settings, self.seed = batch_sampler, settings, seed
        self.name, self.labels, self.max_consecutive_bad, self.on_bad = name, labels, max_consecutive_bad, on_bad
        self._bytes = 0
        self._timer = StageTimer()

    def __getitem__(self, batch_spec: BatchSpec) -> WorkerResult:
        bad: list[dict[str, str]] = []
        self._timer = StageTimer()
        if self._bytes >= _TRIM_BYTES:
            self._bytes = 0
            trim_malloc()
        try:
            batch = self._build_batch(batch_spec, bad)
        except (DataError, VideoBackendError) as error:
            return WorkerResult(after=batch_spec.after, bad=tuple(bad), error=str(error), error_type=type(error))
        seconds = self._timer.seconds
        times: dict[str, Any] = {"seconds": seconds, "read_seconds": batch_spec.read_seconds}
        return WorkerResult(after=batch_spec.after, batch=batch, bad=tuple(bad), hdr=hdr_counter.take(), **times)

    def _build_batch(self, batch_spec: BatchSpec, bad: list[dict[str, str]]) -> Batch:
        sample_refs, replacements = map(self._time_fetches, self.batch_sampler.sample_refs(batch_spec))
        clips: list[ClipList] = []
        samples = []
        for sample_ref in sample_refs:
            result = self._decode_clips(sample_ref, bad)
            if result is None and self.on_bad == "replace":
                sample_ref, result = self._decode_replacement(replacements, bad)
            if result is not None:
                clips.append(result)
                samples.append(sample_ref.sample)
        if not clips:
            # No rank may have nothing: the others would wait for it in vain.
            sample_ref, result = self._decode_replacement(replacements, bad)
            clips, samples = [result], [sample_ref.sample]
        with self._timer("collate"):
            batch = collate(clips, samples, labels=self.labels)
        self._bytes += batch["pixel_values"].nbytes
        return batch

    def _time_fetches(self, sample_refs: Iterator[SampleRef]) -> Iterator[SampleRef]:
        """Some sources make a sample the moment it is asked for."""
        while True:
            with self._timer("fetch"):
                sample_ref = next(sample_refs, None)
            if sample_ref is None:
                return
            yield sample_ref

    def _decode_clips(self, sample_ref: SampleRef, bad: list[dict[str, str]]) -> ClipList | None:
        sample = sample_ref.sample

        def decode(sample: Sample) -> ClipList:
            with self._timer("fetch"):
                here = _download_video(sample)
            return make_clips(here, settings=self.settings, seed=self.seed, epoch=sample_ref.epoch, timer=self._timer)

        try:
            return retry_video(sample, decode)
        except (VideoDecodeError, OSError) as error:
            # A file that vanished, or that may not be read, is as bad as a broken one.
            reason = error.reason if isinstance(error, VideoDecodeError) else str(error)
            path, reason = sample.location, redact_credentials(reason)
            bad.append({"path": path, "id": sample.id, "reason": reason})
        if self.on_bad == "raise":
            raise DataError(
                f"{path} of {self.name} cannot be decoded ({reason}): mend it, or go on without it by "
                f"--on_bad_video replace or skip, from the last checkpoint with --resume"
            )
        return None

    def _decode_replacement(
        self, replacements: Iterator[SampleRef], bad: list[dict[str, str]]
    ) -> tuple[SampleRef, ClipList]:
        num_consecutive_bad = 1
        for sample_ref in islice(replacements, self.max_consecutive_bad - 1):
            if any(entry["id"] == sample_ref.sample.id for entry in bad):
                continue  # tried already: a stream has few samples at hand, and goes around them
            result = self._decode_clips(sample_ref, bad)
            if result is not None:
                return sample_ref, result
            num_consecutive_bad += 1
        kind = TooFewReplacementsError if num_consecutive_bad < self.max_consecutive_bad else DataError
        raise kind(
            f"no video of {self.name} decodes: {num_consecutive_bad} in a row failed, the last is {bad[-1]['path']} "
            f"({bad[-1]['reason']}); check the files with a video player"
        )


def _download_video(sample: Sample) -> Sample:
    """A sample whose video is here: a file, or bytes; a large one on a server that gives parts of it is decoded there.

    Raises:
        VideoDecodeError: when it cannot be downloaded.
    """
    if isinstance(sample.video, str) and "://" in sample.video:
        found = resolve_source(sample.video)
        return sample if found.is_remote else replace(sample, video=found.data)
    return sample


@dataclass(kw_only=True)
class BadVideoTracker:
    """The account of bad videos of one rank, kept in the training process over all workers."""

    name: str
    max_share: float
    size: int | None
    drawn: int = 0
    found: dict[str, dict[str, str]] = field(default_factory=dict)

    def note(self, result: WorkerResult) -> None:
        """Remember what is bad in a batch, each video once."""
        for entry in result.bad:
            self.found.setdefault(entry["id"], entry)

    def check_bad_share(self, result: WorkerResult, *, batch: Batch) -> None:
        """Count one batch, and stop the run when too many of the videos seen are bad.

        What was drawn is what was seen, up to the size of the data set.
        """
        self.drawn += len(batch["sample_ids"]) + len(result.bad)
        seen = (
            max(self.drawn, _MIN_SEEN_FOR_BAD_SHARE)
            if self.size is None
            else min(max(self.drawn, _MIN_SEEN_FOR_BAD_SHARE), self.size)
        )
        if len(self.found) > self.max_share * seen:
            first = next(iter(self.found.values()))
            raise DataError(
                f"{len(self.found)} of the first {min(self.drawn, seen)} videos of {self.name} cannot be decoded, "
                f"more than the share of {self.max_share:g} allowed; the first is {first['path']} "
                f"({first['reason']}): mend or remove them, or raise --max_bad_share"
            )


class Loader:
    """Batches of one rank, for ever; by `build_loader`.

    Each is a dict of `pixel_values` (B, T, C, H, W) float32, normalised; `bool_masked_pos` (B, N) bool with a grid in
    the settings; `bool_decoder_masked_pos` (B, N) bool with a decoder mask; `sample_ids`, B strings; and `labels` of a
    labelled source. With R = `clips_per_video` * `num_sample` in the settings the tensors have B * R rows, those of
    one video side by side. B is the batch size, or less where bad videos are skipped, and never 0.

    Iterating goes on where the last iteration stopped: at the first batch that was not handed out.

    Attributes:
        steps_per_epoch: whole batches in one pass over the data, or None where its size is not known.
        seconds: what the batches handed out so far took, by part (see `hf_videomae.data.stage_timer`). Of what workers
            do side by side it is the sum over them, divided by their number: a part that comes near the time that
            passed holds up the training.
    """

    def __init__(
        self,
        batch_sampler: BatchSampler,
        batch_builder: BatchBuilder,
        *,
        account: BadVideoTracker,
        identity: DatasetFingerprint,
        num_workers: int,
        prefetch: int,
        pin_memory: bool,
        start_method: str | None,
    ) -> None:
        self._batch_sampler, self._batch_builder, self._account, self._fingerprint = (
            batch_sampler,
            batch_builder,
            account,
            identity,
        )
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
        """The epoch of the next sample, counted from 0."""
        return self._batch_sampler.epoch(self._cursor)

    @property
    def bad_videos(self) -> list[dict[str, str]]:
        """Each bad video that this rank met, once: `path`, `id`, `reason`."""
        return list(self._account.found.values())

    def __iter__(self) -> Iterator[Batch]:
        batches = self._batches()
        _open_iterators.add(batches)
        return batches

    def _batches(self) -> Generator[Batch, None, None]:
        workers = Workers(self._num_workers, start_method=self._start_method)
        try:
            for result in self._iter_results(workers):
                self._account.note(result)
                if result.batch is None:
                    raise result.error_type(result.error)
                self._account.check_bad_share(result, batch=result.batch)
                hdr_counter.add(result.hdr)
                self._timer.add(result.seconds, share=1 / max(1, self._num_workers))
                self._timer.add({"read": result.read_seconds} if result.read_seconds else {})
                self._cursor, self._step = result.after, self._step + 1
                yield result.batch
        finally:
            workers.exit_on_stop_signal()

    def _iter_results(self, workers: Workers) -> Iterator[WorkerResult]:
        """The batches; where a stream had too few videos at hand to replace a bad one, it is read again with more."""
        while True:
            for result in self._worker_results(workers):
                if result.error_type is TooFewReplacementsError and self._batch_sampler.add_replacements(
                    self._batch_builder.max_consecutive_bad
                ):
                    break
                yield result

    def _worker_results(self, workers: Workers) -> Iterator[WorkerResult]:
        # The generator of its own keeps the process's global random state untouched.
        loader: Any = DataLoader(
            self._batch_builder,
            batch_size=None,
            sampler=_BatchSpecSampler(self._batch_sampler, self._cursor),
            collate_fn=_return_unchanged,
            generator=torch.Generator(),
            **workers.options,
            **self._options,
        )
        return workers.results(loader)

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch that was handed out, JSON-able; batches in preparation do not count."""
        return {
            "version": _STATE_VERSION,
            "source": self._account.name,
            "identity": self._fingerprint,
            "size": self._account.size,
            "step": self._step,
            "cursor": dict(self._cursor),
            "drawn": self._account.drawn,
            "bad_videos": self.bad_videos,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at this rank's saved position, with the next iteration.

        Raises:
            DataError: for a position in other data than these.
        """
        self._restore([state], account=state)

    def load_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on where a run stood, whatever the number of its processes; no sample is left out or repeated.

        Args:
            states: the `state_dict` of each of its processes, in their order.

        Raises:
            DataError: for a position in other data than these.
        """
        share = self._batch_sampler.share
        self._restore(
            states, account=states[share.rank] if len(states) == share.world_size else _account(states, share)
        )

    def _restore(self, states: Sequence[dict[str, Any]], *, account: dict[str, Any]) -> None:
        for state in states:
            self._check_state(state)
        self._cursor = self._batch_sampler.merge_cursors([state["cursor"] for state in states])
        self._step = states[0]["step"]
        self._account.drawn = account["drawn"]
        self._account.found = {entry["id"]: entry for entry in account["bad_videos"]}

    def _check_state(self, state: dict[str, Any]) -> None:
        """Refuse a position in other data; states of earlier releases say no more of them than their number."""
        if state.get("version") != _STATE_VERSION or state["cursor"].keys() != self._batch_sampler.start.keys():
            raise DataError(
                "the saved position in the data is of another kind of data set or version; start a new run"
            )
        if state["size"] != self._account.size:
            raise DataError(
                f"{self._account.name} has {self._account.size} videos, but had {state['size']} when the position was "
                f"saved: the run cannot go on exactly; restore the data set, or start a new run from the weights"
            )
        check_same_dataset(state.get("identity"), self._fingerprint)


def _account(states: Sequence[dict[str, Any]], share: RankInfo) -> dict[str, Any]:
    """One rank's part of the account of other ranks: their sum stays what it was, each bad video is in one part."""
    drawn = sum(state["drawn"] for state in states)
    found = {entry["id"]: entry for state in states for entry in state["bad_videos"]}
    return {
        "drawn": len(range(share.rank, drawn, share.world_size)),
        "bad_videos": list(found.values())[share.rank :: share.world_size],
    }


_open_iterators: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()


@atexit.register
def _close_open_iterators() -> None:
    """What the program left open, before multiprocessing ends its processes with the one SIGTERM that they survive."""
    for batches in list(_open_iterators):
        if inspect.getgeneratorstate(batches) != inspect.GEN_RUNNING:
            batches.close()


class _BatchSpecSampler:
    """A plan's jobs, as the `sampler` of a DataLoader: it iterates them in the training process."""

    def __init__(self, batch_sampler: BatchSampler, cursor: Cursor) -> None:
        self.batch_sampler, self.cursor = batch_sampler, cursor

    def __iter__(self) -> Iterator[BatchSpec]:
        return self.batch_sampler.batch_specs(self.cursor)


def trim_malloc() -> None:
    """Return freed memory to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _return_unchanged(result: Any) -> Any:
    return result


def build_loader(
    source: AnyData,
    *,
    settings: ClipConfig,
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
    """The batches of one rank.

    The order of the samples depends on (seed, epoch, rank, world size), a sample's clip, crop and masks on (seed,
    epoch, sample id), and neither on the number of workers. A run that goes on with another number of processes
    (`Loader.load_states`) keeps its order. A bad video is counted and listed in `Loader.bad_videos`, and its place in
    the batch is taken by another sample of the same rank, unless `on_bad_video` says otherwise.

    Args:
        source: by `open_source` or `open_mixture`.
        settings: what the model wants.
        batch_size: clips per step of this rank.
        seed: of order, clips, crops and masks.
        rank: of this process.
        world_size: number of training processes.
        num_workers: processes that decode; 0 decodes in this one.
        start_step: steps to leave out; `Loader.load_state_dict` is the better way to resume.
        max_bad_share: share of undecodable videos above which the run stops; 0 stops at the first.
        on_bad_video: `replace`; `skip`: the batch is made of the others (of one replacement where there are none), so
            it may be smaller, and all ranks take the same steps; `raise`: the run stops.
        shuffle_buffer_bytes: encoded videos held to shuffle a streamed source (of a mix: each).
        prefetch: batches that each worker keeps ready.
        pin_memory: for copies to a GPU in the background.
        start_method: of the workers: `fork`, `spawn` or `forkserver`; None for the platform's.
        labels: every sample must have a label of this kind, for training on labels.

    Raises:
        DataError: for too few videos for one batch of all ranks; while iterating, for too many bad ones, or the first.
        VideoBackendError: while iterating, when no decoder works on this machine.
    """
    _check_options(max_bad_share=max_bad_share, num_workers=num_workers, prefetch=prefetch, on_bad_video=on_bad_video)
    share = RankInfo(batch_size=batch_size, seed=seed, rank=rank, world_size=world_size)
    batch_sampler = _make_batch_sampler(
        source, share, start_step=start_step, shuffle_buffer_bytes=shuffle_buffer_bytes
    )
    size = num_videos(source)
    # Where nearly all may be bad, a longer row of bad ones is no proof.
    max_consecutive_bad = _MAX_CONSECUTIVE_BAD if max_bad_share <= 0.5 else 10 * _MAX_CONSECUTIVE_BAD
    batch_builder = BatchBuilder(
        batch_sampler,
        settings=settings,
        seed=seed,
        name=source.name,
        labels=source.class_names is not None if labels is None else labels,
        max_consecutive_bad=max_consecutive_bad,
        on_bad=on_bad_video,
    )
    return Loader(
        batch_sampler,
        batch_builder,
        account=BadVideoTracker(name=source.name, max_share=max_bad_share, size=size),
        identity=fingerprint_dataset(source),
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


def _make_batch_sampler(
    source: AnyData, share: RankInfo, *, start_step: int, shuffle_buffer_bytes: int
) -> BatchSampler:
    if isinstance(source, Source):
        return MapStyleSampler(source, share, start_step=start_step)
    parts, weights = (source.parts, source.weights) if isinstance(source, Mixture) else ((source,), (1,))
    return StreamSampler(
        parts, share, weights=weights, start_step=start_step, shuffle_buffer_bytes=shuffle_buffer_bytes
    )
