"""A converted checkpoint on disk: weights, configuration, processors, the report and the licence note."""

import contextlib
import os
import shutil
from pathlib import Path

from ..cards import CardError, code_span, signed, to_yaml, write_card_file
from ..cards.header import licence_fields
from ..cards.scrubbing import public_path
from ..records import now, versions, write_json
from ..storage import make_folder, sync_folder, writing
from ..video_processing_videomae import VideoMAEVideoProcessor
from .originals import Converted
from .report import Report

REPORT = "conversion.json"
_OURS_ALONE = (
    "The positions are a table of this model's own: load it with `hf_videomae`. Stock transformers leaves the table "
    "out and gives other numbers.\n\n"
)


def save_conversion(
    model: Converted, processor: VideoMAEVideoProcessor, report: Report, out_dir: str | os.PathLike[str]
) -> None:
    """Write the checkpoint; a README.md that somebody wrote or edited is left as it is.

    Raises:
        ValueError: where `out_dir` cannot be made or written, or is the folder that was converted.
    """
    folder = Path(out_dir)
    if folder.resolve() == Path(report.source).resolve():
        raise ValueError(f"{folder} is the source itself, which would be written over; give another directory")
    make_folder(folder, flag="OUT_DIR")
    unfinished = folder / ".unfinished-model"
    try:
        with writing("the checkpoint", folder, needs=sum(weight.nbytes for weight in model.parameters())):
            shutil.rmtree(unfinished, ignore_errors=True)
            model.save_pretrained(unfinished)
            processor.save_pretrained(unfinished)
            for path in unfinished.iterdir():
                path.replace(folder / path.name)
            sync_folder(folder)
            write_json(folder / REPORT, {**report.to_dict(), "written": now(), "versions": versions()})
            with contextlib.suppress(CardError):
                write_card_file(folder, license_note(report))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # gives room back where the disk is full


def license_note(report: Report) -> str:
    """The note on where the weights come from and what licence they carry, with a header that tools read."""
    fields = licence_fields(report.license)
    header = f"---\n{to_yaml(**fields).strip()}\n---\n\n" if fields else ""
    hashes = "".join(f"- {code_span(name)}: SHA-256 `{digest}`\n" for name, digest in report.hashes.items())
    origin = code_span(public_path(report.source)) + (
        f", commit {code_span(report.revision)}" if report.revision else ""
    )
    return signed(
        f"{header}# Converted weights\n\n"
        f"Converted from {origin} ({report.kind}). What became of every weight: `{REPORT}`.\n\n{hashes}\n"
        f"{'' if report.stock else _OURS_ALONE}"
        f"## Licence\n\n{_license_text(report)}\n"
    )


def _license_text(report: Report) -> str:
    if report.license is not None:
        return (
            f"{report.license}, the licence of the weights that these were converted from: conversion changes nothing."
        )
    return (
        "Not stated by the source: conversion changes nothing, so the licence of the original weights holds. Those "
        "published as `MCG-NJU/videomae-*` and `OpenGVLab/VideoMAEv2-*`, on the Hub or elsewhere, are CC-BY-NC-4.0. "
        "Convert with `--license` to state it."
    )


__all__ = ["REPORT", "license_note", "save_conversion"]
