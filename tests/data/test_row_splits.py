"""Test files that hold training and test videos together, and videos listed in two splits."""

import io
import tarfile
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from hf_videomae.data import DataError, num_videos, open_source, source_notes
from hf_videomae.prepare.scan import open_input_dataset

pytestmark = pytest.mark.fault


def write_parquet(root: Path, splits: list[str], *, name: str = "data.parquet", column: str = "split") -> str:
    root.mkdir(exist_ok=True)
    table = {"video": [b"video"] * len(splits), "label": ["run", "jump"] * (len(splits) // 2), column: splits}
    parquet.write_table(pyarrow.table(table), root / name)
    return str(root)


def write_tar(root: Path, keys: list[str], *, name: str = "000.tar") -> str:
    root.mkdir(exist_ok=True)
    with tarfile.open(root / name, "w") as archive:
        for number, key in enumerate(keys):
            for ending, content in (("mp4", b"video"), ("cls", str(number % 2).encode())):
                entry = tarfile.TarInfo(f"{key}.{ending}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return str(root)


@pytest.mark.parametrize("column", ["split", "Subset"])
@pytest.mark.parametrize("splits", [["train", "train", "test", "test"], ["Training", "val"]])
def test_parquet_with_split_column_raises(tmp_path: Path, column: str, splits: list[str]) -> None:
    dataset = write_parquet(tmp_path, splits, column=column)
    for read in (open_source, open_input_dataset):
        with pytest.raises(DataError, match=rf"column '{column}'.*train.*train-000\.parquet.*remove that column"):
            read(dataset)


def test_parquet_files_of_one_split_may_have_split_column(tmp_path: Path) -> None:
    write_parquet(tmp_path, ["train", "train"], name="train-000.parquet")
    dataset = write_parquet(tmp_path, ["test", "test"], name="test-000.parquet")
    assert open_source(dataset, require_labels=True).class_names == ["jump", "run"]
    assert open_source(dataset, split="test").name == dataset


def test_tar_with_split_folders_raises(tmp_path: Path) -> None:
    dataset = write_tar(tmp_path / "one", ["train/a", "train/b", "test/a", "test/b"])
    with pytest.raises(DataError, match=r"several splits \(test/, train/\).*train-000\.tar, test-000\.tar"):
        open_source(dataset)
    write_tar(tmp_path / "two", ["./Train/run/a", "./Train/run/b"], name="000.tar")
    with pytest.raises(DataError, match=r"several splits \(Train/, val/\)"):
        open_source(write_tar(tmp_path / "two", ["./val/run/a", "./val/run/b"], name="001.tar"))


def test_tar_with_class_folders_is_read(tmp_path: Path) -> None:
    source = open_source(write_tar(tmp_path, ["run/a", "run/b", "train/a", "train/b"]), require_labels=True)
    assert [sample.id for sample in source.read_shard(0)][-1] == "000.tar/train/b"


def test_error_for_dots_in_tar_member_names_suggests_renaming(tmp_path: Path) -> None:
    root = Path(write_tar(tmp_path, ["run/v.0", "run/v.1", "jump/v.0", "jump/v.1"]))
    with pytest.raises(DataError, match=r"0\.mp4, 1\.mp4.*first dot; rename the members"):
        open_source(str(root))


def write_index(root: Path, *rows: str) -> str:
    for name in ("a.mp4", "b.mp4"):
        (root / name).write_bytes(b"video")
    (root / "index.csv").write_text("\n".join(["path,label,start,end,split", *rows]), encoding="utf-8")
    return str(root)


@pytest.mark.parametrize(
    "rows",
    [
        ("a.mp4,run,,,train", "./a.mp4,run,,,Test", "b.mp4,jump,,,train"),
        ("a.mp4,run,0,1,train", "a.mp4,jump,0.5,1.5,val", "b.mp4,jump,,,train"),
        ("a.mp4,run,0,1,train", "a.mp4,jump,,,test", "b.mp4,jump,,,train"),
    ],
)
def test_videos_in_two_splits_are_noted(tmp_path: Path, rows: tuple[str, ...]) -> None:
    dataset = write_index(tmp_path, *rows)
    for notes in (source_notes(open_source(dataset)), open_input_dataset(dataset).notes):
        assert any("1 videos" in note and "a.mp4" in note and "train" in note for note in notes)


def test_disjoint_segments_may_be_in_two_splits(tmp_path: Path) -> None:
    source = open_source(write_index(tmp_path, "a.mp4,run,0,1,train", "a.mp4,jump,1,2,test", "b.mp4,jump,,,train"))
    assert (num_videos(source), source_notes(source)) == (2, [])
