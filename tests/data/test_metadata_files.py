"""Test index files below the top of a dataset: the Hub's videofolder layout."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from hf_videomae.data import DataError, Source, open_source, source_notes
from hf_videomae.prepare.scan import open_input_dataset

pytestmark = pytest.mark.fault

ROWS = [("run/0.mp4", "A"), ("jump/0.mp4", "B")]


def write(root: Path, files: Mapping[str, str]) -> str:
    """Write videos of both classes in both splits, and further files."""
    for path in [f"{split}/{video}" for split in ("train", "test") for video, _ in ROWS]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    for path, text in files.items():
        (root / path).write_text(text)
    return str(root)


def table(kind: str, *, column: str = "label") -> str:
    if kind == "csv":
        return "\n".join([f"file_name,{column}", *(f"{path},{label}" for path, label in ROWS)]) + "\n"
    return "".join(json.dumps({"file_name": path, column: label}) + "\n" for path, label in ROWS)


def labels_of(source: object) -> dict[str, str]:
    assert isinstance(source, Source) and source.class_names is not None
    samples = [source[index] for index in range(len(source))]
    return {sample.id: source.class_names[sample.label] for sample in samples}  # type: ignore[index]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_table_in_each_split_gives_labels(tmp_path: Path, kind: str) -> None:
    root = write(tmp_path, {f"{split}/metadata.{kind}": table(kind) for split in ("train", "test")})
    for split in ("train", "test"):
        source = open_source(root, split=split, require_labels=True)
        assert labels_of(source) == {f"{split}/jump/0.mp4": "B", f"{split}/run/0.mp4": "A"}
        assert f"{split}/metadata.{kind}" in source_notes(source)[0]
    raw = open_input_dataset(root)
    assert raw.class_names == ["A", "B"] and {video.split for video in raw.videos} == {"train", "test"}


def test_parquet_table_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    root = write(tmp_path, {})
    for split in ("train", "test"):
        columns = {"file_name": [path for path, _ in ROWS], "label": [label for _, label in ROWS]}
        parquet.write_table(pyarrow.table(columns), tmp_path / split / "metadata.parquet")
    assert labels_of(open_source(root, require_labels=True)) == {"train/jump/0.mp4": "B", "train/run/0.mp4": "A"}


def test_table_of_captions_leaves_classes_to_folders(tmp_path: Path) -> None:
    root = write(tmp_path, {f"{split}/metadata.csv": table("csv", column="text") for split in ("train", "test")})
    source = open_source(root, require_labels=True)
    assert labels_of(source) == {"train/jump/0.mp4": "jump", "train/run/0.mp4": "run"}
    assert any("no column `label`" in note for note in source_notes(source))


def test_unlisted_videos_are_counted(tmp_path: Path) -> None:
    root = write(tmp_path, {f"{split}/metadata.csv": table("csv") for split in ("train", "test")})
    (tmp_path / "train" / "run" / "1.mp4").write_bytes(b"")
    source = open_source(root)
    assert len(source) == 2 and any("left out: 1 videos" in note for note in source_notes(source))  # type: ignore[arg-type]


def test_missing_video_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, {"train/metadata.csv": table("csv") + "gone.mp4,A\n"})
    with pytest.raises(DataError, match=r"train/metadata\.csv.*gone\.mp4"):
        open_source(root)
    raw = open_input_dataset(write(tmp_path, {"test/metadata.csv": table("csv")}))
    assert [drop.path for drop in raw.refused] == ["train/gone.mp4"]


def test_table_of_one_class_only_raises(tmp_path: Path) -> None:
    root = write(tmp_path, {"train/run/metadata.csv": "file_name,label\n0.mp4,A\n"})
    with pytest.raises(DataError, match=r"train/run/metadata\.csv.*train/jump/0\.mp4"):
        open_source(root)


def test_table_without_paths_is_skipped(tmp_path: Path) -> None:
    source = open_source(write(tmp_path, {"train/run/metadata.csv": "fps,width\n25,320\n"}), require_labels=True)
    assert labels_of(source) == {"train/jump/0.mp4": "jump", "train/run/0.mp4": "run"}
    assert "is not read" in source_notes(source)[0]


def test_table_with_splits_in_only_folder_is_read(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / f"{number}.mp4").write_bytes(b"")
    (tmp_path / "set" / "index.csv").write_text("path,label,split\n0.mp4,x,train\n1.mp4,y,train\n2.mp4,x,test\n")
    assert labels_of(open_source(str(tmp_path))) == {"set/0.mp4": "x", "set/1.mp4": "y"}
    assert labels_of(open_source(str(tmp_path), split="test")) == {"set/2.mp4": "x"}
