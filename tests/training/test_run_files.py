"""Test the files of a run: JSON lines and JSON that are written completely or not at all."""

import json
from pathlib import Path

import pytest

from hf_videomae import run_files
from hf_videomae.errors import RunError


def test_jsonl_lines_after_resumed_step_are_dropped(tmp_path: Path) -> None:
    lines = run_files.JsonlWriter(tmp_path / "m.jsonl")
    for step in (1, 2, 3):
        lines.write({"step": step})
    with lines.path.open("a") as file:
        file.write('{"step": 4, "lo')  # killed while writing
    again = run_files.JsonlWriter(tmp_path / "m.jsonl", truncate_after=2)
    again.write({"step": 3, "new": True})
    assert run_files.read_jsonl(again.path) == [{"step": 1}, {"step": 2}, {"step": 3, "new": True}]


def test_broken_jsonl_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(RunError, match="line 2, is not JSON"):
        run_files.read_jsonl(path)


def test_json_file_is_replaced_atomically(tmp_path: Path) -> None:
    run_files.write_json(tmp_path / "run.json", {"status": "running"})
    run_files.write_json(tmp_path / "run.json", {"status": "finished"})
    assert run_files.read_run_status(tmp_path) == "finished" and len(list(tmp_path.iterdir())) == 1
    assert json.loads((tmp_path / "run.json").read_text()) == {"status": "finished"}
