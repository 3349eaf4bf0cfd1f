"""What was made of what: `report.json`, and the lines that a person reads."""

from collections import Counter
from typing import Any

from ...cards import public_text
from ...records import versions
from ...video.encoding import encoder
from .entries import Dropped
from .inputs import RawSet
from .shards import MEGABYTE, Row, Shard


def make_report(
    raw: RawSet,
    rows: list[Row],
    dropped: list[Dropped],
    *,
    shards: list[Shard],
    sizes: dict[str, int],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """What was found, kept and left out, and where it lies.

    Args:
        raw: what was to be prepared.
        rows: what was kept.
        dropped: what was not.
        shards: where it is.
        sizes: bytes of each shard's file.
        settings: of the set, flat.
    """
    notes = [{"path": row.id, "note": row.made.note} for row in rows if row.made.note]
    return {
        "source": raw.name,
        "origin": raw.origin,
        "input": raw.asked,
        "fingerprint": raw.fingerprint,
        "settings": settings,
        "found": len(rows) + len(dropped),
        "kept": len(rows),
        "dropped": len(dropped),
        "dropped_because": dict(Counter(drop.reason for drop in dropped).most_common(20)),
        "kept_with_a_note": notes,
        "mapped_from_hdr": sum(bool(row.made.hdr) for row in rows),
        "classes": _class_counts(raw, rows),
        "unlabelled": raw.unlabelled,
        "read_as": [public_text(note) for note in raw.notes],
        "splits": {split: _of_split(split, shards, sizes) for split in sorted({row.split for row in rows})},
        "encoder": encoder(),
        "versions": versions(),
    }


def _of_split(split: str, shards: list[Shard], sizes: dict[str, int]) -> dict[str, Any]:
    own = [shard for shard in shards if shard.rows[0].split == split]
    rows = [row for shard in own for row in shard.rows]
    return {
        "videos": len(rows),
        "seconds": round(sum(row.made.num_frames / (row.made.fps or 25) for row in rows), 2),
        "bytes": sum(shard.num_bytes for shard in own),
        "shards": [
            {"file": shard.file, "videos": len(shard.rows), "bytes": shard.num_bytes, "file_bytes": sizes[shard.file]}
            for shard in own
        ],
    }


def _class_counts(raw: RawSet, rows: list[Row]) -> dict[str, int] | None:
    if raw.class_names is None:
        return None
    labels = [row.label if isinstance(row.label, tuple) else (row.label,) for row in rows]
    counts = Counter(number for numbers in labels for number in numbers)
    return {name: counts[number] for number, name in enumerate(raw.class_names)}


def describe_report(report: dict[str, Any]) -> list[str]:
    """What was made, in lines for people."""
    lines = []
    for name, split in report["splits"].items():
        shards = split["shards"]
        low, high = (choose(shard["bytes"] for shard in shards) / MEGABYTE for choose in (min, max))
        lines.append(
            f"{name}: {split['videos']} videos, {split['seconds'] / 60:.1f} minutes, "
            f"{split['bytes'] / MEGABYTE:.1f} MB in {_count(len(shards), 'shard')} of {low:.2f} to {high:.2f} MB; "
            f"enough for {_count(len(shards), 'process')} with shards of their own, for more: --num_shards"
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
        lines.append(f"{_count(mapped, 'HDR video')} mapped to standard range (BT.709)")
    for reason, count in report["dropped_because"].items():
        lines.append(f"left out: {count} of {report['found']}: {reason}")
    return lines


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}{'es' if name.endswith('s') else 's'}"
