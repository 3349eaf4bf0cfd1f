"""Name the files of a prepared dataset and check that all of them exist."""

import json
from pathlib import Path
from typing import Any

from ..cards.markdown import CARD_FILE

REPORT_FILE, DROPPED_FILE, VIDEOS_FILE, CARD = "report.json", "dropped.jsonl", "videos.jsonl", CARD_FILE
METADATA_FILE_NAMES = (CARD, DROPPED_FILE, VIDEOS_FILE)


def read_report(folder: Path) -> dict[str, Any] | None:
    """Return `report.json` of a prepared dataset; None if there is none."""
    file = folder / REPORT_FILE
    return parse_report(file.read_text(encoding="utf-8")) if file.exists() else None


def parse_report(text: str) -> dict[str, Any] | None:
    """Return the report in the text of a `report.json`; None if it is not one of ours."""
    try:
        report = json.loads(text)
    except json.JSONDecodeError:
        return None
    return report if isinstance(report, dict) and "fingerprint" in report and "splits" in report else None


def list_shards(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the shards that a report lists: `file`, `videos`, `bytes`, `file_bytes`."""
    return [shard for split in report["splits"].values() for shard in split["shards"]]


def find_complete_shards(report: dict[str, Any], folder: Path) -> list[Path]:
    """Return the shards of a report that exist in the size they were written."""
    paths = [(folder / shard["file"], shard["file_bytes"]) for shard in list_shards(report)]
    return [path for path, size in paths if path.exists() and path.stat().st_size == size]


def is_complete(report: dict[str, Any], folder: Path) -> bool:
    """Return whether every file that a report lists exists."""
    listed = all((folder / name).exists() for name in METADATA_FILE_NAMES)
    return listed and len(find_complete_shards(report, folder)) == len(list_shards(report))
