"""How the clips of a converted model are sampled: as it was trained, or what was assumed instead."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..modeling_videomae import VideoMAEForVideoClassification
from ..run_files import read_json
from ..video.sampling_protocols import (
    KINETICS,
    PROTOCOL_BY_NUM_CLASSES,
    SSV2,
    SamplingProtocol,
    find_sampling_protocol,
)
from ..video_processing_videomae import VideoMAEVideoProcessor
from .checkpoint_files import SourceCheckpoint
from .key_report import ConversionReport
from .originals import ConvertedModel
from .stock import is_stock

SamplingMode = Literal["dense", "uniform"]
_PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")
_SPARSE_DATASETS = ("Kinetics-400", "MIT")  # V2's code reads sparse_sample for these alone


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How a model samples.

    Attributes:
        mode: `dense` or `uniform`.
        stride: of dense clips.
        views: of its test, clips x crops; None where nobody says.
        source: where that is from.
        assumed: whether nobody says how it was trained.
    """

    mode: SamplingMode
    stride: int
    views: str | None
    source: str
    assumed: bool = False


def infer_sampling(
    source: SourceCheckpoint, model: ConvertedModel, *, mode: SamplingMode | None = None, stride: int | None = None
) -> SamplingConfig:
    """Return how a checkpoint's clips are sampled: as the user says, its training arguments, or what is assumed.

    Args:
        source: what was read.
        model: what it became.
        mode, stride: as the user says; None: as found.
    """
    found = _sampling_from_args(source.training)
    if found is None:
        found = _default_sampling(source, model)
    if mode is None and stride is None:
        return found
    overrides = ", ".join(part for part in (mode, None if stride is None else f"stride {stride}") if part)
    views = found.views if mode in (None, found.mode) else (SSV2 if mode == "uniform" else KINETICS).views
    return SamplingConfig(
        mode=mode or found.mode, stride=stride or found.stride, views=views, source=f"{overrides}, as asked for"
    )


def choose_processor(
    source: SourceCheckpoint,
    model: ConvertedModel,
    report: ConversionReport,
    *,
    mode: SamplingMode | None = None,
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
    own = _load_own_processor(source, model)
    has_override = mode is not None or stride is not None
    if own is not None and _has_sampling(source) and not has_override:
        sampling_info = SamplingConfig(
            mode=own.clip_sampler.mode, stride=own.frame_stride, views=None, source="its processor"
        )
        record_sampling(report, sampling_info)
        return own
    sampling_info = infer_sampling(source, model, mode=mode, stride=stride)
    if trained_on_video or has_override:
        record_sampling(report, sampling_info)
    sampling = {"sampling_mode": sampling_info.mode, "frame_stride": sampling_info.stride}
    if own is None:
        return VideoMAEVideoProcessor.from_config(model.config, **sampling)
    changed: VideoMAEVideoProcessor = VideoMAEVideoProcessor.from_dict(
        {**own.to_dict(), **sampling, "frame_seconds": None}
    )
    return changed


def record_sampling(report: ConversionReport, sampling_info: SamplingConfig) -> None:
    """Put how the model samples into the report: as an assumption where nobody says."""
    how = (
        "uniform over the whole video"
        if sampling_info.mode == "uniform"
        else f"dense with stride {sampling_info.stride}"
    )
    report.sampling = {
        "mode": sampling_info.mode,
        "stride": sampling_info.stride,
        "views": sampling_info.views,
        "source": sampling_info.source,
    }
    report.sampling["assumed"] = sampling_info.assumed
    if sampling_info.assumed:
        other = (
            "--sampling dense" if sampling_info.mode == "uniform" else "--sampling uniform, as on Something-Something"
        )
        tested = f"test it with --views {sampling_info.views}" if sampling_info.views else "test it so"
        report.assumed.append(
            f"frames are sampled {how}: {sampling_info.source}; {tested}. If it was trained otherwise, convert with {other}"
        )


def _load_own_processor(source: SourceCheckpoint, model: ConvertedModel) -> VideoMAEVideoProcessor | None:
    """Return the source's processor where it is that of a video model of this size."""
    if source.folder is None or not source.preprocessor or not is_stock(source.weights):
        return None
    found: VideoMAEVideoProcessor = VideoMAEVideoProcessor.from_pretrained(source.folder)
    height, width = model.config.image_height_width
    fits = dict(found.crop_size or {}) == {"height": height, "width": width}
    return found if fits and found.num_frames == model.config.num_frames else None


def _has_sampling(source: SourceCheckpoint) -> bool:
    """Return whether a processor of the source says how it samples, as ours do and stock's do not."""
    return source.folder is not None and any("sampling_mode" in _read(source.folder / name) for name in _PROCESSORS)


def _sampling_from_args(training: argparse.Namespace | None) -> SamplingConfig | None:
    """Read the arguments of the original training scripts; None where they do not speak of sampling."""
    known: dict[str, Any] = {} if training is None else vars(training)
    name, rate = known.get("data_set"), known.get("sampling_rate")
    if name is None and not _is_positive_int(rate):
        return None
    sparse = bool(known.get("sparse_sample")) and name in (*_SPARSE_DATASETS, None)
    uniform = sparse or str(name).casefold().startswith(("ssv", "something", "sth"))
    segments, crops = known.get("test_num_segment"), known.get("test_num_crop")
    views = f"{segments}x{crops}" if _is_positive_int(segments) and _is_positive_int(crops) else None
    stated_args = {"data_set": name, "sampling_rate": rate, "sparse_sample": known.get("sparse_sample")}
    text = ", ".join(f"{key} {value}" for key, value in stated_args.items() if value is not None)
    return SamplingConfig(
        mode="uniform" if uniform else "dense",
        stride=int(rate) if _is_positive_int(rate) and rate else KINETICS.stride,
        views=views,
        source=f"the training arguments in the file ({text})",
    )


def _default_sampling(source: SourceCheckpoint, model: ConvertedModel) -> SamplingConfig:
    """Take what the published models with these classes or this name have, else what those of Kinetics have."""
    names: list[str] = []
    if isinstance(model, VideoMAEForVideoClassification):
        names = list((model.config.id2label or {}).values())
    named = find_sampling_protocol(_dataset_hint(source), names)
    if named is not None:
        why = f"its classes or its name are those of {named.name}, and the file holds no training arguments"
        return _from_protocol(named, why)
    by_number = PROTOCOL_BY_NUM_CLASSES.get(len(names))
    if by_number is not None:
        why = f"{len(names)} classes are those of {by_number.name}, and the file holds no training arguments"
        return _from_protocol(by_number, why)
    return _from_protocol(KINETICS, "as published for Kinetics; the file holds no training arguments")


def _from_protocol(protocol: SamplingProtocol, why: str) -> SamplingConfig:
    return SamplingConfig(mode=protocol.mode, stride=protocol.stride, views=protocol.views, source=why, assumed=True)


def _dataset_hint(source: SourceCheckpoint) -> str:
    """Return the name that may tell the data: of a file called `checkpoint.pth`, that of its folder."""
    path = Path(source.name)
    if path.is_file() and find_sampling_protocol(path.stem) is None:
        return path.resolve().parent.name
    return path.stem if path.is_file() else source.name


def _is_positive_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _read(path: Path) -> dict[str, Any]:
    return read_json(path, remedy="download it again, or take it out of the folder") if path.is_file() else {}


__all__ = ["SamplingMode", "SamplingConfig", "choose_processor", "infer_sampling", "record_sampling"]
