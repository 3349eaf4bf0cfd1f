"""Convert checkpoints to this package's models: the original VideoMAE's, V2's, transformers', and image models."""

import os
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from transformers.utils import logging

from ..cards import Ancestor, inherit_license, known_checkpoint_license
from ..redaction import redact_path
from ..video_processing_videomae import VideoMAEVideoProcessor
from .checkpoint_files import SourceCheckpoint, StateDict, read_checkpoint_source
from .class_selection import select_classes
from .inflation import INFLATE, POSITIONS, Inflate, Positions, convert_image, is_image_model, timm_names
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

Kind: TypeAlias = Literal["stock", "image", "original"]  # whose code gave the weights their names


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A converted checkpoint: the model in evaluation mode, its processor and the report."""

    model: ConvertedModel
    processor: VideoMAEVideoProcessor
    report: ConversionReport

    def save(self, out_dir: str | os.PathLike[str]) -> None:
        """Write weights, config.json, both processor files, conversion.json and README.md (the license note)."""
        save_conversion(self.model, self.processor, self.report, out_dir)


def load_original_checkpoint(path: str | os.PathLike[str], **config_fields: Any) -> ConvertedModel:
    """Return a checkpoint of the original VideoMAE or V2 code as one of our models, in evaluation mode.

    The architecture is inferred from the weights: widths and depths from their shapes, the number of heads from the
    published sizes. What the weights do not tell (16 frames, 224 pixels, normalized targets, LayerNorm eps 1e-6) is
    as published, or as the training arguments in the file or the `config.json` of a V2 repository say. Every weight
    of the file is used, or the conversion fails and names it.

    Args:
        path: a `.pth`, `.pt`, `.bin` or `.safetensors` file, a folder with one, or a V2 repository on the Hub.
        **config_fields: fields of `VideoMAEConfig` that override what was inferred. Needed for sizes that were never
            published: `num_attention_heads`, `decoder_num_attention_heads`, `image_size`, `num_frames`.

    Returns:
        `VideoMAEForPreTraining` for a pre-trained file (it has a decoder), `VideoMAEForVideoClassification` for one
        with a classifier or an `fc_norm` (without a head, `num_labels=0`: its logits are the pooled features),
        `VideoMAEModel` for an encoder alone.

    Raises:
        ValueError: for a file that is missing, unreadable or not of these repositories, weights that have no place in
            the model, or a size whose number of heads is not known.
    """
    source = read_checkpoint_source(os.fspath(path))
    model, report = convert_original(source, config_fields)
    logger.info(report.lines()[-1])
    sampling = infer_sampling(source, model)
    if (sampling.mode, sampling.stride) != ("dense", 4):
        logger.warning(
            f"{source.name} samples its clips {sampling.mode}, stride {sampling.stride} ({sampling.source}): make its "
            f"processor with VideoMAEVideoProcessor.from_config(model.config, sampling_mode={sampling.mode!r}, "
            f"frame_stride={sampling.stride})"
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
    """Return a checkpoint of any supported kind as one of our models, with its processor and a report of every key.

    Args:
        source: a file, a folder, or `org/name` on the Hub: of the original VideoMAE or V2 code, a V2 repository,
            transformers' VideoMAE, or an image model (transformers' ViT, ViTMAE, DeiT, or timm's names).
        fix: correct a wrong `config.json` of transformers' VideoMAE; the report names what is wrong in any case.
        inflate: how to make the 2-D patch embedding 3-D: `mean` or `center`.
        positions: position embeddings of an inflated image model: `image` or `sinusoid`; see
            `hf_videomae.convert.inflation`.
        head_indices: rows of the classifier to keep, in this order (V2's K710 heads).
        id2label: class names; with `head_indices`, those of the selected classes.
        classes: names of the classes to keep, in this order; looked up after `id2label` was applied.
        sampling: `dense` or `uniform`: how clips are sampled; None: as the file's training arguments, its classes or
            its name say.
        frame_stride: of dense clips; None: likewise.
        license: of the weights, in the Hub's spelling, if the source does not state it; a non-commercial one stays.
        revision: branch, tag or commit on the Hub.
        check: run one random clip through our model and a reference, and report the largest difference.
        **config_fields: fields of `VideoMAEConfig` that override what was found.

    Raises:
        ValueError: with one line that says what came, what is wanted and what to do.
    """
    if classes is not None and head_indices is not None:
        raise ValueError("classes and head_indices both say which classes to keep: give one of them")
    checkpoint = read_checkpoint_source(os.fspath(source), revision=revision)
    kind = _find_kind(checkpoint.weights)
    if kind == "stock":
        model, report = _from_stock(checkpoint, config_fields, fix=fix, check=check)
    elif kind == "image":
        model, report = _from_image(checkpoint, config_fields, inflate=inflate, positions=positions, check=check)
    else:
        model, report = _from_original(checkpoint, config_fields, check=check)
    report.warnings += _unused_option_warnings(checkpoint, kind, fix=fix, inflate=inflate, positions=positions)
    report.license = _resolve_license(checkpoint, requested=license)
    select_classes(model, report, indices=head_indices, id2label=id2label, names=classes)
    processor = choose_processor(
        checkpoint, model, report, mode=sampling, stride=frame_stride, trained_on_video=kind != "image"
    )
    return Conversion(model=model, processor=processor, report=report)


def _find_kind(weights: StateDict) -> Kind:
    if is_stock(weights):
        return "stock"
    return "image" if is_image_model(weights) else "original"


def _unused_option_warnings(
    source: SourceCheckpoint, kind: Kind, *, fix: bool, inflate: Inflate, positions: Positions
) -> list[str]:
    """Return a line for each option that has no effect here, and for weights of the file that are not converted."""
    lines, name = [], source.name
    if fix and kind != "stock":
        lines.append(f"--fix has no effect: it corrects a config.json of transformers' VideoMAE, which {name} is not")
    if (inflate, positions) != ("mean", "image") and kind != "image":
        lines.append(f"--inflate and --positions have no effect: they are for image models, which {name} is not")
    if source.left_out:
        others = " and ".join(source.left_out)
        lines.append(
            f"{name} also holds other weights, which were left out: {others}; save them separately to convert them"
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
        report.unchecked = "as requested"
    elif config.table_grid != config.grid:
        report.unchecked = "positions are interpolated, which the reference does not do"
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
