"""Test how `prepare` reads index files and lists: as in training, but bad rows are left out instead of refused."""

from pathlib import Path

import pytest

from hf_videomae.cli import main
from hf_videomae.data import DataError, open_source
from hf_videomae.prepare.scan import open_input_dataset

pytestmark = pytest.mark.fault

A, B, C = "run/0.mp4", "jump/1.mp4", "jump/2.mp4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (A, B, C):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"video")
    return tmp_path / "set"


def read(folder: Path, text: str, **options) -> tuple[dict[str, object], dict[str, str]]:
    """Return the label of each video, and the reason of each row that was left out."""
    (folder / "index.csv").write_text(text)
    raw = open_input_dataset(str(folder), **options)
    names = raw.class_names
    kept = {f"{video.split}:{video.id}": video.label if names is None else names[video.label] for video in raw.videos}
    return kept, {video.path: video.reason for video in raw.refused}


def test_cells_and_headers_are_read_as_in_training(folder: Path) -> None:
    kept, dropped = read(folder, f" Path , LABEL,Split\n{A} , run , Train\n{B},jump,TEST\n{C},jump, val \n")
    assert kept == {f"train:{A}": "run", f"test:{B}": "jump", f"validation:{C}": "jump"} and not dropped


def test_bad_rows_are_left_out_and_named(folder: Path) -> None:
    secret = folder.parent / "secret.mp4"
    secret.write_bytes(b"video")
    (folder / "link.mp4").symlink_to(secret)
    (folder / "live.m3u8").write_text(f"#EXTM3U\n{A}\n")
    rows = [f"{A},run,train", f"{B},None,train", f"{C},jump,", "link.mp4,run,train", f"{secret},run,train"]
    rows += ["live.m3u8,run,train", "http://127.0.0.1/x.mp4,run,train", ",run,train"]
    kept, dropped = read(folder, "path,label,split\n" + "\n".join(rows) + "\n")
    assert kept == {f"train:{A}": "run"}
    words = {
        B: "has no label, though others have",
        C: "has no split, though other rows have one",
        "link.mp4": "--allow_paths",
        str(secret): "--allow_paths",
        "live.m3u8": "playlist",
        "http://127.0.0.1/x.mp4": "URL",
        "row 8": "no path",
    }
    assert dropped.keys() == words.keys()
    assert all(word in dropped[path] for path, word in words.items())
    kept, dropped = read(folder, f"path,label\n{secret},run\n{A},jump\n", allow_paths=[str(folder.parent)])
    assert sorted(kept.values()) == ["jump", "run"] and not dropped


def test_several_classes_per_row_are_refused_without_problem_type(folder: Path) -> None:
    with pytest.raises(DataError, match="--problem_type multi_label_classification"):
        read(folder, f"path,label\n{A},run;jump\n{B},jump\n")
    raw = open_input_dataset(str(folder), label_kind="multi_label_classification")
    assert {video.id: video.label for video in raw.videos} == {A: (0, 1), B: (0,)}


def test_list_file_named_by_user(folder: Path) -> None:
    (folder.parent / "val_list.csv").write_text(f"set/{A} 1\n{folder / B} 0\n")
    raw = open_input_dataset(str(folder.parent / "val_list.csv"))
    assert [(video.split, video.id, video.label) for video in raw.videos] == [
        ("validation", f"set/{B}", 0),
        ("validation", f"set/{A}", 1),
    ]
    training = open_source(str(folder.parent / "val_list.csv"))
    assert {training[place].id for place in range(2)} == {f"set/{A}", f"set/{B}"}
    with pytest.raises(DataError, match="leave --index"):
        open_input_dataset(str(folder.parent / "val_list.csv"), index="index.csv")


def test_times_in_original_upload_are_not_segments(folder: Path) -> None:
    (folder / "index.csv").write_text(f"path,label,youtube_id,time_start,time_end\n{A},run,x,1,2\n{B},jump,y,1,2\n")
    raw = open_input_dataset(str(folder))
    assert all(video.trim is None for video in raw.videos) and "original upload" in raw.notes[0]


def test_refused_index_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "index.csv").write_text(f"path,label\n{A},run,fast\n")
    with pytest.raises(SystemExit) as caught:
        main(["prepare", str(folder), str(folder.parent / "out")])
    error = capsys.readouterr().err.strip().splitlines()
    assert caught.value.code == 2 and len(error) == 1 and "row 1 has 3 cells for 2 columns" in error[0]
