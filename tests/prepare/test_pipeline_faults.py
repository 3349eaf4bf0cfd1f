"""Test preparing on a full disk, and two calls into one folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hf_videomae.data import DataError
from hf_videomae.folder_lock import lock_folder
from hf_videomae.prepare import prepare
from tests.helpers.datasets_on_disk import write_folder
from tests.helpers.small_disk import small_disk

pytestmark = pytest.mark.fault


def test_full_disk_drops_no_video_and_same_call_continues(tmp_path: Path) -> None:
    videos = write_folder(tmp_path / "videos", count=8)
    with small_disk(tmp_path / "disk", megabytes=0.06) as disk:
        with pytest.raises(DataError, match=r"the dataset cannot be written to .*No space left on device") as caught:
            prepare(str(videos), disk / "set", jobs=1)
        assert "\n" not in str(caught.value) and "the same command continues" in str(caught.value)
        assert not list(disk.rglob("*.unfinished")) and not (disk / "set/.lock").exists()
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        done = prepare(str(videos), disk / "set", jobs=1)
        assert done.reused > 0 and (done.report["kept"], done.report["found"]) == (8, 8)
        assert (disk / "set/dropped.jsonl").read_text() == ""


def test_second_call_into_same_folder_is_refused(tmp_path: Path) -> None:
    videos = write_folder(tmp_path / "videos", count=4)
    (tmp_path / "set").mkdir()
    code = f"""
from hf_videomae.folder_lock import lock_folder
lock = lock_folder({str(tmp_path / "set")!r})
print("ready", flush=True)
input()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "ready\n"
    try:
        with pytest.raises(DataError, match=f"is in use by another run .*process {other.pid} on"):
            prepare(str(videos), tmp_path / "set", jobs=1)
    finally:
        other.kill()
        other.wait()
    assert prepare(str(videos), tmp_path / "set", jobs=1).report["kept"] == 4
    assert json.loads((tmp_path / "set/report.json").read_text())["kept"] == 4
    lock_folder(tmp_path / "set").release()
