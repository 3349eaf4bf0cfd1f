"""Load the endless batches of one rank: ordered by a sampler, built by workers, counted in the training process.

The way of a video from `--dataset` to the model's input:

1. `open_source` (`open.py`) opens the dataset as a source.
2. `build_loader` (here) picks the sampler: `MapStyleSampler` for a folder, `StreamSampler` for streams and mixes.
3. The sampler yields a `BatchSpec` per step, in the training process (`sampler.py`, `stream_sampler.py`).
4. A worker (`workers.py`) builds the batch (`batch_builder.py`): it decodes and augments each clip and draws its masks
   (`clips.py`), replaces bad videos, and collates.
5. `Loader` hands the batch out, counts bad videos, and remembers the position for a resume.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, get_args

from ..errors import DataError
from .batch_builder import BadVideoPolicy, BatchBuilder, TooFewReplacementsError
from .canonical_rank import SHUFFLE_BUFFER_BYTES
from .clips import Batch, ClipConfig
from .fingerprint import DatasetFingerprint, check_same_dataset, fingerprint_dataset
from .labels import LabelEncoder
from .sampler import BatchSampler, MapStyleSampler, RankInfo
from .source import AnyData, Mixture, Source, num_videos
from .stage_timer import StageTimer
from .stream_sampler import StreamSampler
from .workers import run_in_workers

# A share of bad videos says little before this many were seen (or all of a smaller dataset).
_MIN_SEEN_FOR_BAD_SHARE = 50
# So many bad videos in a row mean that none decodes: if half of all were bad, one draw in a million would see this.
_MAX_CONSECUTIVE_BAD = 20
_STATE_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class LoaderOptions(RankInfo):
    """How one rank loads its part of the data.

    Attributes:
        batch_size: clips per step of this rank.
        seed: of order, clips, crops and masks.
        rank: of this process.
        world_size: number of training processes.
        num_workers: processes that decode; 0 decodes in this one.
        max_bad_share: share of undecodable videos above which the run stops; 0 stops at the first.
        on_bad_video: `replace`; `skip`: the batch is made of the others (of one replacement if there are none), so it
            may be smaller, and all ranks take the same steps; `raise`: the run stops.
        shuffle_buffer_bytes: encoded videos held to shuffle, for each streamed source.
        prefetch: batches that each worker keeps ready.
        pin_memory: for copies to a GPU in the background.
        start_method: of the workers: `fork`, `spawn` or `forkserver`; None for the platform's.

    Raises:
        DataError: for a value that cannot work.
    """

    num_workers: int = 0
    max_bad_share: float = 0.1
    on_bad_video: BadVideoPolicy = "replace"
    shuffle_buffer_bytes: int = SHUFFLE_BUFFER_BYTES
    prefetch: int = 2
    pin_memory: bool = False
    start_method: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_bad_share <= 1:
            raise DataError(f"max_bad_share is {self.max_bad_share}; it is a share, from 0 to 1")
        if self.num_workers < 0:
            raise DataError(f"num_workers is {self.num_workers}; give 0 to decode in the training process, or more")
        if self.prefetch < 1:
            raise DataError(f"prefetch is {self.prefetch}; each worker prepares at least 1 batch ahead")
        if self.on_bad_video not in get_args(BadVideoPolicy):
            choices = ", ".join(get_args(BadVideoPolicy))
            raise DataError(f"on_bad_video is {self.on_bad_video!r}; choose one of {choices}")


@dataclass(kw_only=True)
class BadVideoTracker:
    """Count the bad videos of one rank, in the training process over all workers.

    Attributes:
        name: of the dataset.
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

    def record(self, bad: Sequence[dict[str, str]]) -> None:
        """Remember the bad videos of a batch, each once."""
        for entry in bad:
            self.by_id.setdefault(entry["id"], entry)

    def check_bad_share(self, *, num_drawn: int) -> None:
        """Count the videos drawn for one batch, and raise `DataError` when too many of the videos seen are bad.

        The videos seen are those drawn, up to the size of the dataset.
        """
        self.drawn += num_drawn
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
        options: LoaderOptions,
    ) -> None:
        self._batch_sampler, self._batch_builder = batch_sampler, batch_builder
        self._bad_videos, self._fingerprint, self._options = bad_videos, fingerprint, options
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

    def __iter__(self) -> Generator[Batch, None, None]:
        options = self._options
        while True:
            results = run_in_workers(
                self._batch_builder,
                self._batch_sampler.iter_batch_specs(self._cursor),
                num_workers=options.num_workers,
                prefetch=options.prefetch,
                pin_memory=options.pin_memory,
                start_method=options.start_method,
            )
            with closing(results):
                for result in results:
                    if result.error_type is TooFewReplacementsError and self._batch_sampler.add_replacements(
                        self._batch_builder.max_consecutive_bad
                    ):
                        break  # continue at the same batch
                    self._bad_videos.record(result.bad)
                    batch, next_cursor, read_seconds = result.unwrap()
                    self._bad_videos.check_bad_share(num_drawn=len(batch["sample_ids"]) + len(result.bad))
                    self._timer.add(result.timer.seconds, share=1 / max(1, options.num_workers))
                    self._timer.add({"read": read_seconds} if read_seconds else {})
                    self._cursor, self._step = next_cursor, self._step + 1
                    yield batch

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
            raise DataError("the saved position belongs to another kind of dataset or version; start a new run")
        if state["size"] != self._bad_videos.size:
            name, size = self._bad_videos.name, self._bad_videos.size
            raise DataError(
                f"{name} has {size} videos, but had {state['size']} when the position was saved: the run cannot "
                f"resume exactly; restore the dataset, or start a new run from the weights"
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


def build_loader(
    source: AnyData, *, clip_config: ClipConfig, labels: LabelEncoder | None = None, **options: Any
) -> Loader:
    """Build the loader of one rank.

    The order of the samples depends on (seed, epoch, rank, world size), a sample's clip, crop and masks on (seed,
    epoch, sample id), and neither on the number of workers. A run resumed with another number of processes
    (`Loader.load_states`) keeps its order. A bad video is counted, listed in `Loader.bad_videos`, and replaced by
    another sample of the same rank, unless `on_bad_video` says otherwise.

    Args:
        source: by `open_source` or `open_mixture`.
        clip_config: what the model wants.
        labels: every sample must have a label of this kind, for training on labels.
        options: attributes of `LoaderOptions`, at least `batch_size` and `seed`.

    Raises:
        DataError: for an option that cannot work, and too few videos for one batch of all ranks; while iterating, for
            too many bad ones, or the first.
        VideoBackendError: while iterating, when no decoder works on this machine.
    """
    loader_options = LoaderOptions(**options)
    max_bad_share = loader_options.max_bad_share
    batch_sampler: BatchSampler
    if isinstance(source, Source):
        batch_sampler = MapStyleSampler(source, loader_options)
    else:
        parts, weights = (source.parts, source.weights) if isinstance(source, Mixture) else ((source,), (1,))
        batch_sampler = StreamSampler(
            parts, loader_options, weights=weights, shuffle_buffer_bytes=loader_options.shuffle_buffer_bytes
        )
    batch_builder = BatchBuilder(
        batch_sampler=batch_sampler,
        clip_config=clip_config,
        seed=loader_options.seed,
        name=source.name,
        labels=source.class_names is not None if labels is None else labels,
        # If nearly all may be bad, a longer row of bad ones is no proof.
        max_consecutive_bad=_MAX_CONSECUTIVE_BAD if max_bad_share <= 0.5 else 10 * _MAX_CONSECUTIVE_BAD,
        on_bad_video=loader_options.on_bad_video,
    )
    return Loader(
        batch_sampler,
        batch_builder,
        bad_videos=BadVideoTracker(name=source.name, max_share=max_bad_share, size=num_videos(source)),
        fingerprint=fingerprint_dataset(source),
        options=loader_options,
    )
