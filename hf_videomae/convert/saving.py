"""Save a converted checkpoint: weights, configuration, processors, the report and the license note."""

import contextlib
import os
import shutil
from pathlib import Path

from ..cards import CardError, code_span, to_yaml, with_checksum, write_readme
from ..cards.header import license_header_fields
from ..filesystem import create_folder, sync_folder, wrap_write_errors
from ..provenance import package_versions, utc_timestamp
from ..redaction import redact_path
from ..run_files import write_json
from ..video_processing_videomae import VideoMAEVideoProcessor
from .key_report import ConversionReport
from .originals import ConvertedModel

REPORT_FILE = "conversion.json"
_LEARNED_POSITIONS_NOTE = (
    "The position embeddings are a learned table: load the model with `hf_videomae`. Stock transformers drops the "
    "table and gives other numbers.\n\n"
)


def save_conversion(
    model: ConvertedModel, processor: VideoMAEVideoProcessor, report: ConversionReport, out_dir: str | os.PathLike[str]
) -> None:
    """Write the checkpoint; keep a README.md that somebody wrote or edited.

    Raises:
        ValueError: if `out_dir` cannot be created or written, or is the folder that was converted.
    """
    folder = Path(out_dir)
    if folder.resolve() == Path(report.source).resolve():
        raise ValueError(f"{folder} is the source itself, which would be overwritten; give another directory")
    create_folder(folder, flag="OUT_DIR")
    unfinished = folder / ".unfinished-model"
    try:
        with wrap_write_errors(
            "the checkpoint", folder, needed_bytes=sum(weight.nbytes for weight in model.parameters())
        ):
            shutil.rmtree(unfinished, ignore_errors=True)
            model.save_pretrained(unfinished)
            processor.save_pretrained(unfinished)
            for path in unfinished.iterdir():
                path.replace(folder / path.name)
            sync_folder(folder)
            write_json(
                folder / REPORT_FILE, {**report.to_dict(), "written": utc_timestamp(), "versions": package_versions()}
            )
            with contextlib.suppress(CardError):
                write_readme(folder, render_license_card(report))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # frees space if the disk is full


def render_license_card(report: ConversionReport) -> str:
    """Return the note on where the weights come from and their license, with a header that tools read."""
    fields = license_header_fields(report.license)
    header = f"---\n{to_yaml(**fields).strip()}\n---\n\n" if fields else ""
    hashes = "".join(f"- {code_span(name)}: SHA-256 `{digest}`\n" for name, digest in report.hashes.items())
    origin = code_span(redact_path(report.source)) + (
        f", commit {code_span(report.revision)}" if report.revision else ""
    )
    return with_checksum(
        f"{header}# Converted weights\n\n"
        f"Converted from {origin} ({report.kind}). What became of every weight: `{REPORT_FILE}`.\n\n{hashes}\n"
        f"{'' if report.stock else _LEARNED_POSITIONS_NOTE}"
        f"## License\n\n{_license_text(report)}\n"
    )


def _license_text(report: ConversionReport) -> str:
    if report.license is not None:
        return (
            f"{report.license}, the license of the weights that these were converted from: conversion changes nothing."
        )
    return (
        "Not stated by the source: conversion changes nothing, so the license of the original weights holds. Those "
        "published as `MCG-NJU/videomae-*` and `OpenGVLab/VideoMAEv2-*`, on the Hub or elsewhere, are CC-BY-NC-4.0. "
        "Convert with `--license` to state it."
    )
