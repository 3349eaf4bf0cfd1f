"""Choose how clips of a converted model are sampled: as it was trained, or by an assumption that the report names."""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..video.sampling_protocols import (
    KINETICS,
    PROTOCOL_BY_NUM_CLASSES,
    SSV2,
    SamplingProtocol,
    find_sampling_protocol,
)
from ..video_processing_videomae import VideoMAEVideoProcessor
from .checkpoint_files import SourceCheckpoint, read_optional_json
from .key_report import ConversionReport
from .originals import ConvertedModel
from .stock import is_stock

SamplingMode = Literal["dense", "uniform"]
_PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")
_SPARSE_DATASETS = ("Kinetics-400", "MIT")  # V2's code reads sparse_sample for these only


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How clips of a model are sampled, and where that is known from.

    Attributes:
        mode: `dense` or `uniform`.
        stride: frame stride of dense clips.
        views: of its test, clips x crops; None if not known.
        source: where this is known from.
        assumed: whether it is an assumption.
    """

    mode: SamplingMode
    stride: int
    views: str | None
    source: str
    assumed: bool = False


def infer_sampling(
    source: SourceCheckpoint, model: ConvertedModel, *, mode: SamplingMode | None = None, stride: int | None = None
) -> SamplingConfig:
    """Return how clips are sampled: as the user says, as the training arguments say, or what is assumed.

    Args:
        source: the checkpoint.
        model: the converted model.
        mode, stride: the user's choice; None: as found.
    """
    inferred = _sampling_from_args(source.training) or _default_sampling(source, model)
    if mode is None and stride is None:
        return inferred
    overrides = ", ".join(part for part in (mode, None if stride is None else f"stride {stride}") if part)
    views = inferred.views if mode in (None, inferred.mode) else (SSV2 if mode == "uniform" else KINETICS).views
    return SamplingConfig(
        mode=mode or inferred.mode, stride=stride or inferred.stride, views=views, source=f"{overrides}, as requested"
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
    """Return the processor of a converted model, and record in the report how it samples and why.

    Args:
        source: the checkpoint; its own processor is used if it fits the model.
        model: the converted model.
        report: the sampling is recorded in it.
        mode, stride: the user's choice; None: as found.
        trained_on_video: False for an image model, which has never sampled clips.
    """
    own = _load_own_processor(source, model)
    has_override = mode is not None or stride is not None
    if own is not None and source.folder and _has_sampling(source.folder) and not has_override:
        config = SamplingConfig(
            mode=own.clip_sampler.mode, stride=own.frame_stride, views=None, source="its processor"
        )
        _record_sampling(report, config)
        return own
    config = infer_sampling(source, model, mode=mode, stride=stride)
    if trained_on_video or has_override:
        _record_sampling(report, config)
    sampling = {"sampling_mode": config.mode, "frame_stride": config.stride}
    if own is None:
        return VideoMAEVideoProcessor.from_config(model.config, **sampling)
    changed: VideoMAEVideoProcessor = VideoMAEVideoProcessor.from_dict(
        {**own.to_dict(), **sampling, "frame_seconds": None}
    )
    return changed


def _record_sampling(report: ConversionReport, config: SamplingConfig) -> None:
    """Record in the report how the model samples, as an assumption if nobody says."""
    report.sampling = asdict(config)
    if not config.assumed:
        return
    if config.mode == "uniform":
        how, other = "uniform over the whole video", "--sampling dense"
    else:
        how = f"dense with stride {config.stride}"
        other = "--sampling uniform, as on Something-Something"
    tested = f"test it with --views {config.views}" if config.views else "test it so"
    report.assumed.append(
        f"frames are sampled {how}: {config.source}; {tested}. If it was trained otherwise, convert with {other}"
    )


def _load_own_processor(source: SourceCheckpoint, model: ConvertedModel) -> VideoMAEVideoProcessor | None:
    """Return the source's processor, if it is that of a video model of this size; otherwise None."""
    if source.folder is None or not source.preprocessor or not is_stock(source.weights):
        return None
    processor: VideoMAEVideoProcessor = VideoMAEVideoProcessor.from_pretrained(source.folder)
    height, width = model.config.image_height_width
    fits = dict(processor.crop_size or {}) == {"height": height, "width": width}
    return processor if fits and processor.num_frames == model.config.num_frames else None


def _has_sampling(folder: Path) -> bool:
    """Return whether a processor says how it samples, as ours do and stock's do not."""
    return any("sampling_mode" in read_optional_json(folder / name) for name in _PROCESSORS)


def _sampling_from_args(training: argparse.Namespace | None) -> SamplingConfig | None:
    """Return the sampling in the arguments of the original training scripts; None if they do not name it."""
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
    """Return the sampling of the published models with these classes or this name, otherwise that of Kinetics."""
    names: list[str] = []
    if hasattr(model, "classifier"):
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
    """Return the name that may tell the dataset: of a file called `checkpoint.pth`, that of its folder."""
    path = Path(source.name)
    if path.is_file() and find_sampling_protocol(path.stem) is None:
        return path.resolve().parent.name
    return path.stem if path.is_file() else source.name


def _is_positive_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
