"""How the clips of a converted model are sampled: as it was trained, or what was assumed instead."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..modeling_videomae import VideoMAEForVideoClassification
from ..records import read_json
from ..video.protocols import BY_NUMBER, KINETICS, SSV2, Protocol, protocol_of
from ..video_processing_videomae import VideoMAEVideoProcessor
from .files import Source
from .originals import Converted
from .report import Report
from .stock import is_stock

Sampling = Literal["dense", "uniform"]
_PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")
_SPARSE_SETS = ("Kinetics-400", "MIT")  # V2's code reads sparse_sample for these alone


@dataclass(frozen=True, kw_only=True)
class SamplingFacts:
    """How a model samples.

    Attributes:
        mode: `dense` or `uniform`.
        stride: of dense clips.
        views: of its test, clips x crops; None where nobody says.
        source: where that is from.
        assumed: whether nobody says how it was trained.
    """

    mode: Sampling
    stride: int
    views: str | None
    source: str
    assumed: bool = False


def find_sampling(
    source: Source, model: Converted, *, mode: Sampling | None = None, stride: int | None = None
) -> SamplingFacts:
    """Return how a checkpoint's clips are sampled: as the user says, its training arguments, or what is assumed.

    Args:
        source: what was read.
        model: what it became.
        mode, stride: as the user says; None: as found.
    """
    found = _by_arguments(source.training)
    if found is None:
        found = _assumed(source, model)
    if mode is None and stride is None:
        return found
    said = ", ".join(part for part in (mode, None if stride is None else f"stride {stride}") if part)
    views = found.views if mode in (None, found.mode) else (SSV2 if mode == "uniform" else KINETICS).views
    return SamplingFacts(
        mode=mode or found.mode, stride=stride or found.stride, views=views, source=f"{said}, as asked for"
    )


def choose_processor(
    source: Source,
    model: Converted,
    report: Report,
    *,
    mode: Sampling | None = None,
    stride: int | None = None,
    trained_on_video: bool = True,
) -> VideoMAEVideoProcessor:
    """Return the processor of a converted model, and put into the report how it samples and who says so.

    Args:
        source: what was read; its own processor is taken where it fits the model.
        model: what it became.
        report: told of what was assumed.
        mode, stride: as the user says; None: as found.
        trained_on_video: False for an image model, which has never sampled anything.
    """
    own = _own_processor(source, model)
    asked = mode is not None or stride is not None
    if own is not None and _states_sampling(source) and not asked:
        facts = SamplingFacts(mode=own.clip_plan.mode, stride=own.frame_stride, views=None, source="its processor")
        tell_sampling(report, facts)
        return own
    facts = find_sampling(source, model, mode=mode, stride=stride)
    if trained_on_video or asked:
        tell_sampling(report, facts)
    sampling = {"sampling_mode": facts.mode, "frame_stride": facts.stride}
    if own is None:
        return VideoMAEVideoProcessor.from_config(model.config, **sampling)
    changed: VideoMAEVideoProcessor = VideoMAEVideoProcessor.from_dict(
        {**own.to_dict(), **sampling, "frame_seconds": None}
    )
    return changed


def tell_sampling(report: Report, facts: SamplingFacts) -> None:
    """Put how the model samples into the report: as an assumption where nobody says."""
    how = "uniform over the whole video" if facts.mode == "uniform" else f"dense with stride {facts.stride}"
    report.sampling = {"mode": facts.mode, "stride": facts.stride, "views": facts.views, "source": facts.source}
    report.sampling["assumed"] = facts.assumed
    if facts.assumed:
        other = "--sampling dense" if facts.mode == "uniform" else "--sampling uniform, as on Something-Something"
        tested = f"test it with --views {facts.views}" if facts.views else "test it so"
        report.assumed.append(
            f"frames are sampled {how}: {facts.source}; {tested}. If it was trained otherwise, convert with {other}"
        )


def _own_processor(source: Source, model: Converted) -> VideoMAEVideoProcessor | None:
    """Return the source's processor where it is that of a video model of this size."""
    if source.folder is None or not source.preprocessor or not is_stock(source.weights):
        return None
    found: VideoMAEVideoProcessor = VideoMAEVideoProcessor.from_pretrained(source.folder)
    height, width = model.config.image_height_width
    fits = dict(found.crop_size or {}) == {"height": height, "width": width}
    return found if fits and found.num_frames == model.config.num_frames else None


def _states_sampling(source: Source) -> bool:
    """Return whether a processor of the source says how it samples, as ours do and stock's do not."""
    return source.folder is not None and any("sampling_mode" in _read(source.folder / name) for name in _PROCESSORS)


def _by_arguments(training: argparse.Namespace | None) -> SamplingFacts | None:
    """Read the arguments of the original training scripts; None where they do not speak of sampling."""
    known: dict[str, Any] = {} if training is None else vars(training)
    name, rate = known.get("data_set"), known.get("sampling_rate")
    if name is None and not _is_count(rate):
        return None
    sparse = bool(known.get("sparse_sample")) and name in (*_SPARSE_SETS, None)
    uniform = sparse or str(name).casefold().startswith(("ssv", "something", "sth"))
    segments, crops = known.get("test_num_segment"), known.get("test_num_crop")
    views = f"{segments}x{crops}" if _is_count(segments) and _is_count(crops) else None
    told = {"data_set": name, "sampling_rate": rate, "sparse_sample": known.get("sparse_sample")}
    text = ", ".join(f"{key} {value}" for key, value in told.items() if value is not None)
    return SamplingFacts(
        mode="uniform" if uniform else "dense",
        stride=int(rate) if _is_count(rate) and rate else KINETICS.stride,
        views=views,
        source=f"the training arguments in the file ({text})",
    )


def _assumed(source: Source, model: Converted) -> SamplingFacts:
    """Take what the published models with these classes or this name have, else what those of Kinetics have."""
    names: list[str] = []
    if isinstance(model, VideoMAEForVideoClassification):
        names = list((model.config.id2label or {}).values())
    named = protocol_of(_name_of(source), names)
    if named is not None:
        why = f"its classes or its name are those of {named.name}, and the file holds no training arguments"
        return _facts(named, why)
    by_number = BY_NUMBER.get(len(names))
    if by_number is not None:
        why = f"{len(names)} classes are those of {by_number.name}, and the file holds no training arguments"
        return _facts(by_number, why)
    return _facts(KINETICS, "as published for Kinetics; the file holds no training arguments")


def _facts(protocol: Protocol, why: str) -> SamplingFacts:
    return SamplingFacts(mode=protocol.mode, stride=protocol.stride, views=protocol.views, source=why, assumed=True)


def _name_of(source: Source) -> str:
    """Return the name that may tell the data: of a file called `checkpoint.pth`, that of its folder."""
    path = Path(source.name)
    if path.is_file() and protocol_of(path.stem) is None:
        return path.resolve().parent.name
    return path.stem if path.is_file() else source.name


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _read(path: Path) -> dict[str, Any]:
    return read_json(path, remedy="download it again, or take it out of the folder") if path.is_file() else {}


__all__ = ["Sampling", "SamplingFacts", "choose_processor", "find_sampling", "tell_sampling"]
