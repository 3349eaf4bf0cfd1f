"""Build `report.json` and describe it in lines of text."""

from collections import Counter
from typing import Any

from ..cards import redact_text
from ..provenance import package_versions
from ..video.encoding import find_encoder
from .entries import SkippedVideo
from .scan import InputDataset
from .shards import MEGABYTE, PreparedVideo, Shard


def build_report(
    input_dataset: InputDataset,
    rows: list[PreparedVideo],
    skipped: list[SkippedVideo],
    *,
    shards: list[Shard],
    sizes: dict[str, int],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Return what was found, kept and left out, and where it is.

    Args:
        input_dataset: the source.
        rows: the videos that were kept.
        skipped: the videos that were not.
        shards: where the kept ones are.
        sizes: bytes of each shard's file.
        settings: of the prepared dataset, flat.
    """
    notes = [{"path": row.id, "note": row.made.note} for row in rows if row.made.note]
    return {
        "source": input_dataset.name,
        "origin": input_dataset.origin,
        "input": input_dataset.read_options,
        "fingerprint": input_dataset.fingerprint,
        "settings": settings,
        "found": len(rows) + len(skipped),
        "kept": len(rows),
        "dropped": len(skipped),
        "dropped_because": dict(Counter(video.reason for video in skipped).most_common(20)),
        "kept_with_a_note": notes,
        "mapped_from_hdr": sum(bool(row.made.hdr) for row in rows),
        "classes": _class_counts(input_dataset, rows),
        "unlabelled": input_dataset.no_labels_reason,
        "read_as": [redact_text(note) for note in input_dataset.notes],
        "splits": {split: _summarize_split(split, shards, sizes) for split in sorted({row.split for row in rows})},
        "encoder": find_encoder(),
        "versions": package_versions(),
    }


def _summarize_split(split: str, shards: list[Shard], sizes: dict[str, int]) -> dict[str, Any]:
    split_shards = [shard for shard in shards if shard.rows[0].split == split]
    rows = [row for shard in split_shards for row in shard.rows]
    return {
        "videos": len(rows),
        "seconds": round(sum(row.made.num_frames / (row.made.fps or 25) for row in rows), 2),
        "bytes": sum(shard.num_bytes for shard in split_shards),
        "shards": [
            {"file": shard.file, "videos": len(shard.rows), "bytes": shard.num_bytes, "file_bytes": sizes[shard.file]}
            for shard in split_shards
        ],
    }


def _class_counts(input_dataset: InputDataset, rows: list[PreparedVideo]) -> dict[str, int] | None:
    if input_dataset.class_names is None:
        return None
    labels = [row.label if isinstance(row.label, tuple) else (row.label,) for row in rows]
    counts = Counter(number for numbers in labels for number in numbers)
    return {name: counts[number] for number, name in enumerate(input_dataset.class_names)}


def describe_report(report: dict[str, Any]) -> list[str]:
    """Return what was made, as lines of text."""
    lines = []
    for name, split in report["splits"].items():
        shards = split["shards"]
        low, high = (choose(shard["bytes"] for shard in shards) / MEGABYTE for choose in (min, max))
        lines.append(
            f"{name}: {split['videos']} videos, {split['seconds'] / 60:.1f} minutes, "
            f"{split['bytes'] / MEGABYTE:.1f} MB in {_pluralize(len(shards), 'shard')} of {low:.2f} to {high:.2f} MB; "
            f"enough for {_pluralize(len(shards), 'process')} with shards of their own; for more, give --num_shards"
        )
    if report["unlabelled"]:
        lines.append(f"no labels: {report['unlabelled']}")
    elif report["classes"]:
        lines.append(f"{len(report['classes'])} classes")
    damaged = len(report["kept_with_a_note"])
    if damaged:
        lines.append(f"{damaged} damaged videos were kept; report.json holds what their decoder said")
    mapped = report.get("mapped_from_hdr")
    if mapped:
        lines.append(f"{_pluralize(mapped, 'HDR video')} mapped to standard range (BT.709)")
    for reason, count in report["dropped_because"].items():
        lines.append(f"left out: {count} of {report['found']}: {reason}")
    return lines


def _pluralize(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}{'es' if name.endswith('s') else 's'}"
