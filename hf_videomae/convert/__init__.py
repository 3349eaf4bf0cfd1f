"""Checkpoints of every kind that a user may hold -> ours: the originals, V2's, transformers' own, image models."""

import os
from dataclasses import dataclass
from typing import Any

from transformers.utils import logging

from ..cards import Ancestor, inherit_license, known_checkpoint_license
from ..redaction import redact_path
from ..video_processing_videomae import VideoMAEVideoProcessor
from .checkpoint_files import SourceCheckpoint, StateDict, read_checkpoint_source
from .class_selection import select_classes_by_index, select_classes_by_name, set_class_names
from .inflation import (
    INFLATE,
    POSITIONS,
    Inflate,
    Positions,
    convert_image,
    is_image_model,
    timm_names,
)
from .key_report import ConversionReport, Difference, KeyMapping
from .originals import ConvertedModel, convert_original
from .reference import compare_image, compare_original
from .sampling_config import SamplingMode, choose_processor, infer_sampling
from .saving import REPORT_FILE, save_conversion
from .stock import (
    ConfigProblem,
    compare_with_stock,
    compare_with_unfixed,
    convert_stock,
    find_config_problems,
    is_stock,
)

logger = logging.get_logger("hf_videomae")


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A converted checkpoint: the model in evaluation mode, its processor, and what became of what."""

    model: ConvertedModel
    processor: VideoMAEVideoProcessor
    report: ConversionReport

    def save(self, out_dir: str | os.PathLike[str]) -> None:
        """Write weights, config.json, both processor files, conversion.json and README.md (the licence note)."""
        save_conversion(self.model, self.processor, self.report, out_dir)


def load_original_checkpoint(path: str | os.PathLike[str], **config_fields: Any) -> ConvertedModel:
    """A checkpoint of the original code as our model, in evaluation mode.

    The architecture is read off the weights: widths and depths from their shapes, heads from the published sizes. What
    no weight tells (frames 16, 224 pixels, normalised targets, LayerNorm eps 1e-6) is as published, or as the training
    arguments in the file or the `config.json` of a V2 repository say. Every weight of the file is used, or the
    conversion fails naming it.

    Args:
        path: a `.pth`, `.pt`, `.bin` or `.safetensors` file, a folder with one, or a V2 repository of the Hub.
        **config_fields: fields of `VideoMAEConfig`, over what was inferred. Needed for sizes that were never
            published: `num_attention_heads`, `decoder_num_attention_heads`, `image_size`, `num_frames`.

    Returns:
        `VideoMAEForPreTraining` for a pre-trained file (it has a decoder), `VideoMAEForVideoClassification` for one
        with a classifier or an `fc_norm` (without a head, `num_labels=0`: its logits are the pooled features),
        `VideoMAEModel` for an encoder alone.

    Raises:
        ValueError: for a file that is missing, unreadable or not of these repositories, weights that cannot be placed,
            or a size whose heads are not known.
    """
    source = read_checkpoint_source(os.fspath(path))
    model, report = convert_original(source, config_fields)
    logger.info(report.lines()[-1])
    sampling_info = infer_sampling(source, model)
    if (sampling_info.mode, sampling_info.stride) != ("dense", 4):
        logger.warning(
            f"{source.name} samples its clips {sampling_info.mode}, stride {sampling_info.stride} ({sampling_info.source}): make its "
            f"processor with VideoMAEVideoProcessor.from_config(model.config, sampling_mode={sampling_info.mode!r}, "
            f"frame_stride={sampling_info.stride})"
        )
    return model


def convert_checkpoint(
    source: str | os.PathLike[str],
    *,
    fix: bool = False,
    inflate: Inflate = "mean",
    positions: Positions = "image",
    head_indices: list[int] | None = None,
    id2label: dict[int, str] | None = None,
    classes: list[str] | None = None,
    sampling: SamplingMode | None = None,
    frame_stride: int | None = None,
    license: str | None = None,
    revision: str | None = None,
    check: bool = True,
    **config_fields: Any,
) -> Conversion:
    """A checkpoint of any supported kind as our model, with its processor and a report of every key.

    Args:
        source: a file, a folder, or `org/name` on the Hub: of the original VideoMAE or V2 code, of a V2 repository, of
            transformers' VideoMAE, or an image model (transformers' ViT, ViTMAE, DeiT, or timm's names).
        fix: mend a wrong `config.json` of transformers' VideoMAE; it is named in the report in any case.
        inflate: how a 2-D patch embedding becomes 3-D: `mean` or `center`.
        positions: of an inflated image model: `image` or `sinusoid`; see `hf_videomae.convert.inflation`.
        head_indices: rows of the classifier to keep, in this order (V2's K710 heads).
        id2label: names of the classes, of the picked ones where `head_indices` is given.
        classes: names of the classes to keep, in this order; found by name, after `id2label` has named them.
        sampling: `dense` or `uniform`: how clips are sampled; as the file's training arguments, its classes or its
            name say where it is None.
        frame_stride: of dense clips, likewise.
        license: of the weights, in the Hub's spelling, where the source does not say it; one without commercial use
            stays.
        revision: branch, tag or commit on the Hub.
        check: run one random clip through our model and a reference, and report the largest difference.
        **config_fields: fields of `VideoMAEConfig`, over what was found.

    Raises:
        ValueError: with one line that says what came, what is wanted and what to do.
    """
    if classes is not None and head_indices is not None:
        raise ValueError("classes and head_indices both say which classes to keep: give one of them")
    found = read_checkpoint_source(os.fspath(source), revision=revision)
    if is_stock(found.weights):
        model, report = _from_stock(found, config_fields, fix=fix, check=check)
    elif is_image_model(found.weights):
        model, report = _from_image(found, config_fields, inflate=inflate, positions=positions, check=check)
    else:
        model, report = _from_original(found, config_fields, check=check)
    report.warnings += _unused_option_warnings(found, fix=fix, inflate=inflate, positions=positions)
    report.license = _resolve_license(found, requested=license)
    if head_indices is not None:
        select_classes_by_index(model, head_indices, report)
    if id2label is not None:
        set_class_names(model, id2label, report)
    if classes is not None:
        select_classes_by_name(model, classes, report)
    is_video_model = is_stock(found.weights) or not is_image_model(found.weights)
    processor = choose_processor(
        found, model, report, mode=sampling, stride=frame_stride, trained_on_video=is_video_model
    )
    return Conversion(model=model, processor=processor, report=report)


def _unused_option_warnings(
    source: SourceCheckpoint, *, fix: bool, inflate: Inflate, positions: Positions
) -> list[str]:
    """What was asked for, or lies in the file, and plays no part in the conversion."""
    lines, name = [], source.name
    if fix and not is_stock(source.weights):
        lines.append(f"--fix plays no part: it mends a config.json of transformers' VideoMAE, and {name} is none")
    if (inflate, positions) != ("mean", "image") and (is_stock(source.weights) or not is_image_model(source.weights)):
        lines.append(f"--inflate and --positions play no part: they are for image models, and {name} is none")
    if source.left_out:
        others = " and ".join(source.left_out)
        lines.append(
            f"{name} holds other weights, too, which were left out: {others}; save them alone to convert them"
        )
    return lines


def _resolve_license(source: SourceCheckpoint, *, requested: str | None) -> str | None:
    known = source.license or known_checkpoint_license(source.name)
    return inherit_license([Ancestor(name=redact_path(source.name), license=known)], requested=requested).name


def _from_stock(
    source: SourceCheckpoint, fields: dict[str, Any], *, fix: bool, check: bool
) -> tuple[ConvertedModel, ConversionReport]:
    model, report = convert_stock(source, fields, fix=fix)
    if not report.stock:
        report.unchecked = "positions are learned, which transformers' own class does not have"
    elif _can_compare(model, report, check=check):
        report.differences.append(compare_with_stock(model))
        change = compare_with_unfixed(model, source) if fix else None
        report.differences += [] if change is None else [change]
    return model, report


def _from_image(
    source: SourceCheckpoint, fields: dict[str, Any], *, inflate: Inflate, positions: Positions, check: bool
) -> tuple[ConvertedModel, ConversionReport]:
    model, report, table = convert_image(source, fields, inflate=inflate, positions=positions)
    if _can_compare(model, report, check=check):
        names = timm_names(source.weights)
        weights: StateDict = {names[key]: value for key, value in source.weights.items()}
        report.differences.append(compare_image(model, weights, position=table))
    return model, report


def _from_original(
    source: SourceCheckpoint, fields: dict[str, Any], *, check: bool
) -> tuple[ConvertedModel, ConversionReport]:
    model, report = convert_original(source, fields)
    if _can_compare(model, report, check=check):
        report.differences.append(compare_original(model, source.weights))
    return model, report


def _can_compare(model: ConvertedModel, report: ConversionReport, *, check: bool) -> bool:
    config = model.config
    if not check:
        report.unchecked = "as asked for"
    elif config.table_grid != config.grid:
        report.unchecked = "positions are interpolated, which no reference does"
    return report.unchecked is None


__all__ = [
    "INFLATE",
    "POSITIONS",
    "REPORT_FILE",
    "Conversion",
    "Difference",
    "KeyMapping",
    "ConfigProblem",
    "ConversionReport",
    "convert_checkpoint",
    "find_config_problems",
    "load_original_checkpoint",
]
