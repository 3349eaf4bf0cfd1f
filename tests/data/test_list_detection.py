"""Test downloaded folders: lists of labels next to the videos, empty class folders, system folders."""

import json
from pathlib import Path

import pytest

from hf_videomae.data import DataError, open_source, source_notes
from hf_videomae.prepare.scan import open_input_dataset
from tests.helpers.datasets_on_disk import write_names

pytestmark = pytest.mark.fault

CLASSES = ["run/0.mp4", "run/1.mp4", "jump/0.mp4", "jump/1.mp4"]


def write_text(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "name",
    [
        "labels.csv",
        "index.tsv",
        "Index.CSV",
        "annotations.json",
        "annotations/train.csv",
        "ucfTrainTestlist/trainlist01.txt",
    ],
)
def test_lists_next_to_class_folders_are_noted(tmp_path: Path, name: str) -> None:
    root = write_names(tmp_path, *CLASSES)
    write_text(root / name, "path,label\n")
    for notes in (source_notes(open_source(str(root))), open_input_dataset(str(root)).notes):
        assert any(name in note and str(root / name) in note for note in notes)


@pytest.mark.parametrize("name", ["notes.txt", "results.csv", "run/labels.csv", ".labels.csv", "package.json"])
def test_other_tables_are_not_noted(tmp_path: Path, name: str) -> None:
    write_text(write_names(tmp_path, *CLASSES) / name, "path,label\n")
    assert not source_notes(open_source(str(tmp_path)))


def test_metadata_of_splits_is_not_noted_as_unread(tmp_path: Path) -> None:
    for split in ("train", "test"):
        rows = "".join(f"{name},{name[0]}\n" for name in CLASSES)
        write_names(tmp_path / split, *CLASSES)
        write_text(tmp_path / split / "metadata.csv", f"file_name,label\n{rows}")
    source = open_source(str(tmp_path), require_labels=True)
    assert source.class_names == ["j", "r"]
    assert not any("not read" in note for note in source_notes(source))


@pytest.mark.parametrize("name", ["labels.csv", "annotations/train.csv"])
def test_error_for_missing_labels_names_list(tmp_path: Path, name: str) -> None:
    root = write_names(tmp_path, "0.mp4", "1.mp4")
    file = write_text(root / name, "path,label\n0.mp4,run\n1.mp4,jump\n")
    with pytest.raises(DataError, match=f"has no labels.*as {file}"):
        open_source(str(root), require_labels=True)
    assert open_source(str(file), require_labels=True).class_names == ["jump", "run"]


def test_error_for_spreadsheet_suggests_csv(tmp_path: Path) -> None:
    write_text(write_names(tmp_path, "0.mp4", "1.mp4") / "labels.xlsx", "PK")
    with pytest.raises(DataError, match=r"labels\.xlsx.*save the table as index\.csv"):
        open_source(str(tmp_path), require_labels=True)


@pytest.mark.parametrize("name", ["UCF101.rar", "hmdb/brush_hair.zip", "k400/part_0.tar.gz"])
def test_error_for_archives_suggests_unpacking(tmp_path: Path, name: str) -> None:
    root = write_names(tmp_path, name)
    for read in (open_source, open_input_dataset):
        with pytest.raises(DataError, match=r"unpack the archives \(\.(rar|zip|gz)\)"):
            read(str(root))


@pytest.mark.parametrize(("values", "noted"), [(("Training", "PrivateTest"), True), (("red", "blue"), False)])
def test_columns_with_names_of_splits_are_noted(tmp_path: Path, values: tuple[str, str], noted: bool) -> None:
    root = write_names(tmp_path, "0.mp4", "1.mp4")
    write_text(root / "index.csv", f"path,label,usage\n0.mp4,run,{values[0]}\n1.mp4,jump,{values[1]}\n")
    for notes in (source_notes(open_source(str(root))), open_input_dataset(str(root)).notes):
        assert any("`usage` is not read" in note and "`split`" in note for note in notes) == noted


def test_empty_class_folders_are_noted(tmp_path: Path) -> None:
    (write_names(tmp_path, *CLASSES, "walk/.gitkeep") / "swim").mkdir()
    source = open_source(str(tmp_path), require_labels=True)
    assert source.class_names == ["jump", "run"]
    assert any("2 folders are empty" in note and "swim/" in note for note in source_notes(source))


def test_system_folders_are_not_classes(tmp_path: Path) -> None:
    write_names(tmp_path, *CLASSES, "System Volume Information/a.mp4", "@eaDir/run/0.mp4", "run/._0.mp4")
    assert open_source(str(tmp_path), require_labels=True).class_names == ["jump", "run"]


def test_diving48_ids_are_found(tmp_path: Path) -> None:
    root = write_names(tmp_path, "rgb/aa_1.mp4", "rgb/bb_2.mp4")
    rows = [{"vid_name": "aa_1", "label": 26, "start_frame": 0}, {"vid_name": "bb_2", "label": 3, "start_frame": 9}]
    source = open_source(str(write_text(root / "Diving48_V2_train.json", json.dumps(rows))), require_labels=True)
    assert source.class_names == ["3", "26"]
    assert [(sample.id, sample.label) for sample in source] == [("rgb/aa_1.mp4", 1), ("rgb/bb_2.mp4", 0)]


@pytest.mark.parametrize("label", [{"name": "run", "id": 0}, [{"name": "run"}, {"name": "jump"}]])
def test_nested_json_labels_are_not_class_names(tmp_path: Path, label: object) -> None:
    root = write_names(tmp_path, "0.mp4", "1.mp4")
    rows = [json.dumps({"file_name": f"{number}.mp4", "label": label}) for number in range(2)]
    write_text(root / "metadata.jsonl", "\n".join(rows))
    with pytest.raises(DataError, match=r"no column `label`.*label\.name"):
        open_source(str(root), require_labels=True)


def test_error_for_json_without_paths_names_key(tmp_path: Path) -> None:
    file = write_text(write_names(tmp_path, "0.mp4") / "train.json", json.dumps([{"video": {"path": "0.mp4"}}]))
    with pytest.raises(DataError, match=r"video\.path.*key `path`"):
        open_source(str(file))


def test_linked_folders_hold_same_videos(tmp_path: Path) -> None:
    write_names(tmp_path, *(f"all/{name}" for name in CLASSES))
    (tmp_path / "train").mkdir()
    for name in ("run", "jump"):
        (tmp_path / "train" / name).symlink_to(tmp_path / "all" / name)
    source = open_source(str(tmp_path), require_labels=True)
    assert [sample.id for sample in source] == [f"train/{name}" for name in sorted(CLASSES)]
    assert any("4 that are the same file" in note for note in source_notes(source))


def test_folders_linked_from_elsewhere_are_read(tmp_path: Path) -> None:
    write_names(tmp_path / "disk", *CLASSES)
    (tmp_path / "set").symlink_to(tmp_path / "disk")
    (tmp_path / "classes").mkdir()
    (tmp_path / "classes" / "a").symlink_to(tmp_path / "disk" / "run")
    (tmp_path / "classes" / "b").symlink_to(tmp_path / "disk" / "jump")
    assert [sample.id for sample in open_source(str(tmp_path / "set"))] == sorted(CLASSES)
    assert open_source(str(tmp_path / "classes"), require_labels=True).class_names == ["a", "b"]
