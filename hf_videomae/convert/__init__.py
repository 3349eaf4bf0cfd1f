"""Checkpoints of every kind that a user may hold -> ours: the originals, V2's, transformers' own, image models."""

import os
from dataclasses import dataclass
from typing import Any

from transformers.utils import logging

from ..cards import Origin, inherited_licence, known_licence
from ..cards.scrubbing import public_path
from ..video_processing_videomae import VideoMAEVideoProcessor
from .files import Source, Weights, read_source
from .heads import name_classes, pick_classes, pick_named_classes
from .images import INFLATE, POSITIONS, Inflate, Positions, convert_image, is_image_model, timm_names
from .originals import Converted, convert_original
from .reference import compare_image, compare_original
from .report import Difference, Fate, Report
from .sampling import Sampling, choose_processor, find_sampling
from .saving import REPORT, save_conversion
from .stock import Problem, compare_with_before, compare_with_stock, convert_stock, find_problems, is_stock

logger = logging.get_logger("hf_videomae")


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A converted checkpoint: the model in evaluation mode, its processor, and what became of what."""

    model: Converted
    processor: VideoMAEVideoProcessor
    report: Report

    def save(self, out_dir: str | os.PathLike[str]) -> None:
        """Write weights, config.json, both processor files, conversion.json and README.md (the licence note)."""
        save_conversion(self.model, self.processor, self.report, out_dir)


def load_original_checkpoint(path: str | os.PathLike[str], **config_fields: Any) -> Converted:
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
    source = read_source(os.fspath(path))
    model, report = convert_original(source, config_fields)
    logger.info(report.lines()[-1])
    facts = find_sampling(source, model)
    if (facts.mode, facts.stride) != ("dense", 4):
        logger.warning(
            f"{source.name} samples its clips {facts.mode}, stride {facts.stride} ({facts.source}): make its "
            f"processor with VideoMAEVideoProcessor.from_config(model.config, sampling_mode={facts.mode!r}, "
            f"frame_stride={facts.stride})"
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
    sampling: Sampling | None = None,
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
        positions: of an inflated image model: `image` or `sinusoid`; see `hf_videomae.convert.images`.
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
    found = read_source(os.fspath(source), revision=revision)
    if is_stock(found.weights):
        model, report = _from_stock(found, config_fields, fix=fix, check=check)
    elif is_image_model(found.weights):
        model, report = _from_image(found, config_fields, inflate=inflate, positions=positions, check=check)
    else:
        model, report = _from_original(found, config_fields, check=check)
    report.warnings += _without_part(found, fix=fix, inflate=inflate, positions=positions)
    report.license = _licence(found, stated=license)
    if head_indices is not None:
        pick_classes(model, head_indices, report)
    if id2label is not None:
        name_classes(model, id2label, report)
    if classes is not None:
        pick_named_classes(model, classes, report)
    on_video = is_stock(found.weights) or not is_image_model(found.weights)
    processor = choose_processor(found, model, report, mode=sampling, stride=frame_stride, trained_on_video=on_video)
    return Conversion(model=model, processor=processor, report=report)


def _without_part(source: Source, *, fix: bool, inflate: Inflate, positions: Positions) -> list[str]:
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


def _licence(source: Source, *, stated: str | None) -> str | None:
    known = source.license or known_licence(source.name)
    return inherited_licence([Origin(name=public_path(source.name), licence=known)], stated=stated).name


def _from_stock(source: Source, fields: dict[str, Any], *, fix: bool, check: bool) -> tuple[Converted, Report]:
    model, report = convert_stock(source, fields, fix=fix)
    if not report.stock:
        report.unchecked = "positions are learned, which transformers' own class does not have"
    elif _can_compare(model, report, check=check):
        report.differences.append(compare_with_stock(model))
        moved = compare_with_before(model, source) if fix else None
        report.differences += [] if moved is None else [moved]
    return model, report


def _from_image(
    source: Source, fields: dict[str, Any], *, inflate: Inflate, positions: Positions, check: bool
) -> tuple[Converted, Report]:
    model, report, table = convert_image(source, fields, inflate=inflate, positions=positions)
    if _can_compare(model, report, check=check):
        names = timm_names(source.weights)
        weights: Weights = {names[key]: value for key, value in source.weights.items()}
        report.differences.append(compare_image(model, weights, position=table))
    return model, report


def _from_original(source: Source, fields: dict[str, Any], *, check: bool) -> tuple[Converted, Report]:
    model, report = convert_original(source, fields)
    if _can_compare(model, report, check=check):
        report.differences.append(compare_original(model, source.weights))
    return model, report


def _can_compare(model: Converted, report: Report, *, check: bool) -> bool:
    config = model.config
    if not check:
        report.unchecked = "as asked for"
    elif config.table_grid != config.grid:
        report.unchecked = "positions are interpolated, which no reference does"
    return report.unchecked is None


__all__ = [
    "INFLATE",
    "POSITIONS",
    "REPORT",
    "Conversion",
    "Difference",
    "Fate",
    "Problem",
    "Report",
    "convert_checkpoint",
    "find_problems",
    "load_original_checkpoint",
]
