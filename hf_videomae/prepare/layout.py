"""What lies where in a prepared set, and whether it is whole."""

import json
from pathlib import Path
from typing import Any

from ..cards.markdown import CARD_FILE

REPORT_FILE, DROPPED_FILE, VIDEOS_FILE, CARD = "report.json", "dropped.jsonl", "videos.jsonl", CARD_FILE
METADATA_FILE_NAMES = (CARD, DROPPED_FILE, VIDEOS_FILE)


def read_report(folder: Path) -> dict[str, Any] | None:
    """`report.json` of a prepared set, or None where there is none of ours."""
    file = folder / REPORT_FILE
    return parse_report(file.read_text(encoding="utf-8")) if file.exists() else None


def parse_report(text: str) -> dict[str, Any] | None:
    """The text of a `report.json`; None where it is none of ours."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and "fingerprint" in found and "splits" in found else None


def list_shards(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The shards that a report lists: `file`, `videos`, `bytes`, `file_bytes`."""
    return [shard for split in report["splits"].values() for shard in split["shards"]]


def find_complete_shards(report: dict[str, Any], folder: Path) -> list[Path]:
    """The shards of a report that are there, as they were written."""
    paths = [(folder / shard["file"], shard["file_bytes"]) for shard in list_shards(report)]
    return [path for path, size in paths if path.exists() and path.stat().st_size == size]


def is_complete(report: dict[str, Any], folder: Path) -> bool:
    """Whether everything is there that a report promises."""
    listed = all((folder / name).exists() for name in METADATA_FILE_NAMES)
    return listed and len(find_complete_shards(report, folder)) == len(list_shards(report))
