"""Test folder layouts: splits in any case and depth, classes in nested folders, and errors for ambiguous ones."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from hf_videomae.data import DataError, Source, open_source, source_notes
from hf_videomae.prepare.scan import open_input_dataset

pytestmark = pytest.mark.fault

TWO = [f"{name}/{number}.mp4" for name in ("run", "jump") for number in range(2)]


def write(root: Path, paths: Iterable[str]) -> str:
    """Write empty files, because opening a dataset reads only names."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return str(root)


def of_splits(*folders: str) -> list[str]:
    return [f"{folder}/{path}" for folder in folders for path in TWO]


def opened(root: str, split: str = "train", *, labels: bool = True) -> Source:
    source = open_source(root, split=split, require_labels=labels)
    assert isinstance(source, Source)
    return source


def paths_of(source: Source) -> list[str]:
    return [source[index].id for index in range(len(source))]


def refused(root: str, split: str = "train", *, labels: bool = True) -> str:
    with pytest.raises(DataError) as caught:
        open_source(root, split=split, require_labels=labels)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Splits.


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train", "Test"),
        ("TRAIN", "TESTING"),
        ("UCF101_subset/train", "UCF101_subset/test"),
        ("data/videos/Training", "data/videos/Eval"),
        ("train_256", "test_256"),
        ("train2017", "test2017"),
        ("videos_train", "videos_test"),
        ("trainlist01", "testlist01"),
        ("kinetics400_train", "kinetics400_test"),
        ("indoor-train", "indoor-test"),
        ("trainVideos", "testVideos"),
        ("trainval", "test"),
    ],
)
def test_split_folders_are_found_in_any_case_and_depth(tmp_path: Path, train: str, test: str) -> None:
    root = write(tmp_path, of_splits(train, test))
    for split, folder in (("train", train), ("test", test)):
        source = opened(root, split)
        assert {path.rsplit("/", 2)[0] for path in paths_of(source)} == {folder}
        assert source.class_names == ["jump", "run"]
        assert any(train.rsplit("/", 1)[-1] in note for note in source_notes(source))


def test_plain_split_folders_need_no_note(tmp_path: Path) -> None:
    root = write(tmp_path, [*of_splits("train", "val", "test"), "__MACOSX/train/run/x.mp4", ".cache/run/x.mp4"])
    assert source_notes(opened(root)) == []
    assert len(opened(root)) == len(TWO)


@pytest.mark.parametrize("asked", ["val", "validation", "valid", "VAL", "dev"])
@pytest.mark.parametrize("folder", ["val", "validation", "Valid", "val_256"])
def test_split_is_found_by_any_of_its_names(tmp_path: Path, asked: str, folder: str) -> None:
    root = write(tmp_path, of_splits("train", folder))
    assert paths_of(opened(root, asked))[0].startswith(f"{folder}/")


def test_splits_under_each_class_are_found(tmp_path: Path) -> None:
    names = [f"{name}/{split}/{i}.mp4" for name in ("run", "jump") for split in ("train", "test") for i in range(2)]
    train, test = (opened(write(tmp_path, names), split) for split in ("train", "test"))
    assert paths_of(train) == [f"{name}/train/{i}.mp4" for name in ("jump", "run") for i in range(2)]
    assert train.class_names == test.class_names == ["jump", "run"]
    assert "run/" in source_notes(train)[0]


@pytest.mark.parametrize(
    ("sibling", "named"),
    [
        ("extra/a.mp4", "extra/"),
        ("intro.mp4", "intro.mp4"),
        ("replacement_for_corrupted/a.mp4", "replacement_for_corrupted/"),
        ("unlabelled/run/a.mp4", "unlabelled/"),
    ],
)
def test_splits_next_to_other_folders_raise(tmp_path: Path, sibling: str, named: str) -> None:
    root = write(tmp_path, [*of_splits("train", "test"), sibling])
    for labels in (True, False):
        message = refused(root, labels=labels)
        assert named in message and f"{root}/train" in message and "index.csv" in message
    assert len(opened(f"{root}/train")) == len(TWO)


def test_split_missing_in_some_classes_raises(tmp_path: Path) -> None:
    message = refused(write(tmp_path, ["run/train/0.mp4", "run/test/0.mp4", "walk/0.mp4"]))
    assert "walk/0.mp4" in message and "index.csv" in message


def test_class_called_train_is_a_class(tmp_path: Path) -> None:
    root = write(tmp_path, [f"{name}/{i}.mp4" for name in ("bus", "car", "train") for i in range(2)])
    source = opened(root)
    assert source.class_names == ["bus", "car", "train"] and len(source) == 6
    assert f"{root}/train" in source_notes(source)[0]


@pytest.mark.parametrize("odd", ["test", "eval", "Validation", "test_videos"])
def test_test_folder_next_to_classes_raises(tmp_path: Path, odd: str) -> None:
    root = write(tmp_path, [f"{name}/{i}.mp4" for name in ("cat", "dog", odd) for i in range(2)])
    message = refused(root)
    assert f"{odd}/" in message and f"{root}/**/*" in message
    assert opened(f"{root}/**/*").class_names == sorted(("cat", "dog", odd))


def test_two_folders_for_one_split_raise(tmp_path: Path) -> None:
    root = write(tmp_path, of_splits("train_256", "train_320", "val"))
    message = refused(root)
    assert "train_256/" in message and "train_320/" in message
    assert paths_of(opened(root, "train_320"))[0].startswith("train_320/")
    with pytest.raises(DataError, match="train_256/.*train_320/"):
        open_input_dataset(root)


def test_exact_folder_name_wins_with_note(tmp_path: Path) -> None:
    source = opened(write(tmp_path, of_splits("train", "train_small", "test")))
    assert {path.split("/")[0] for path in paths_of(source)} == {"train"}
    assert any("train_small/ left out" in note for note in source_notes(source))


def test_folds_with_splits_raise(tmp_path: Path) -> None:
    root = write(tmp_path, [f"split{fold}/{path}" for fold in (1, 2) for path in of_splits("train", "test")])
    assert f"{root}/split1" in refused(root)


def test_split_folder_given_as_data_set_is_read(tmp_path: Path) -> None:
    root = write(tmp_path, of_splits("train", "val"))
    assert len(opened(f"{root}/train")) == len(opened(f"{root}/val", "validation")) == len(TWO)
    assert "called val" in source_notes(opened(f"{root}/val"))[0]
    assert f"{root}/val is next to it" in refused(f"{root}/train", "val")
    assert "it has: validation" in refused(f"{root}/val", "test")


def test_pattern_over_several_splits_is_noted(tmp_path: Path) -> None:
    root = write(tmp_path, of_splits("Train", "Test"))
    source = opened(f"{root}/**/*.mp4")
    assert len(source) == 2 * len(TWO) and "Test/" in source_notes(source)[0]
    flat = write(tmp_path / "flat", ["run/train/0.mp4", "run/test/0.mp4"])
    assert "test, train" in refused(f"{flat}/**/*.mp4")


# Classes.


@pytest.mark.parametrize(
    "inner",
    [
        ("v_shooting_01", "v_shooting_02"),  # UCF11, where the class is called basketball
        ("001", "002"),  # UCF Sports
        ("person1", "person2"),
        ("g01", "g02"),
        ("2023-05-01", "2023-05-02"),
        ("videos", "videos"),
        ("cam_a", "cam_b"),
    ],
)
def test_numbered_folders_within_classes_are_groups(tmp_path: Path, inner: tuple[str, str]) -> None:
    names = [f"{name}/{group}/{i}.avi" for name in ("basketball", "biking") for group in inner for i in range(2)]
    source = opened(write(tmp_path, names))
    assert source.class_names == ["basketball", "biking"]
    assert [source[index].label for index in range(len(source))].count(0) == len(set(names)) // 2
    assert inner[0] in source_notes(source)[0]


@pytest.mark.parametrize(
    "outer", [("part1", "part2"), ("subject_01", "subject_02"), ("Anomaly-Part-1", "Anomaly-Part-2")]
)
def test_numbered_folders_around_classes_are_parts(tmp_path: Path, outer: tuple[str, str]) -> None:
    source = opened(write(tmp_path, [f"{part}/{path}" for part in outer for path in TWO]))
    assert source.class_names == ["jump", "run"] and outer[0] in source_notes(source)[0]


@pytest.mark.parametrize("inner", [("alice", "bob"), ("indoor", "outdoor")])
def test_ambiguous_nested_folders_raise(tmp_path: Path, inner: tuple[str, str]) -> None:
    root = write(tmp_path, [f"{name}/{group}/0.mp4" for name in ("run", "jump") for group in inner])
    message = refused(root)
    assert inner[0] in message and "jump, run" in message and "index.csv" in message
    assert opened(root, labels=False).class_names is None
    assert opened(f"{root}/**/*").class_names == sorted(inner)
    assert open_input_dataset(root).class_names is None and inner[0] in " ".join(open_input_dataset(root).notes)


def test_groups_within_split_folders_are_not_classes(tmp_path: Path) -> None:
    names = [f"Train/{name}/g0{i}/0.mp4" for name in ("run", "jump") for i in (1, 2)]
    root = write(tmp_path, [*names, "Test/run/g03/0.mp4"])
    assert opened(root).class_names == ["jump", "run"]
    assert opened(root, "test").class_names == ["run"]


def test_video_outside_class_folders_is_named(tmp_path: Path) -> None:
    message = refused(write(tmp_path, [*TWO, "intro.mp4"]))
    assert "intro.mp4" in message and "move it" in message


# The same in prepare, and splits of index files.


def test_prepare_reads_same_splits_and_classes(tmp_path: Path) -> None:
    root = write(tmp_path, of_splits("Train", "Test"))
    raw = open_input_dataset(root)
    assert {(video.id.split("/")[0], video.split) for video in raw.videos} == {("Train", "train"), ("Test", "test")}
    assert raw.class_names == ["jump", "run"] and "Test/ is test" in raw.notes[0]
    write(tmp_path, ["extra/a.mp4"])
    with pytest.raises(DataError, match="extra/"):
        open_input_dataset(root)


def test_index_without_splits_uses_split_folders(tmp_path: Path) -> None:
    root = write(tmp_path, [f"{split}/{i}.mp4" for split in ("train", "test") for i in range(2)])
    lines = ["path,label", *(f"{split}/{i}.mp4,c{i}" for split in ("train", "test") for i in range(2))]
    (tmp_path / "index.csv").write_text("\n".join(lines) + "\n")
    assert paths_of(opened(root)) == ["train/0.mp4", "train/1.mp4"]
    assert paths_of(opened(root, "test")) == ["test/0.mp4", "test/1.mp4"]
    assert {(video.id.split("/")[0], video.split) for video in open_input_dataset(root).videos} == {
        ("train", "train"),
        ("test", "test"),
    }


def test_error_for_unlabeled_index_does_not_suggest_adding_one(tmp_path: Path) -> None:
    root = write(tmp_path, ["0.mp4", "1.mp4"])
    (tmp_path / "index.csv").write_text("path\n0.mp4\n1.mp4\n")
    message = refused(root)
    assert "label" in message and "add an index.csv" not in message
