"""Test lists of videos that the user names, in the formats of well-known datasets."""

import json
import os
from pathlib import Path

import pytest

from hf_videomae.data import DataError, open_source, source_notes
from tests.helpers.datasets_on_disk import write_names

pytestmark = pytest.mark.fault

PATHS = ["run/0.mp4", "run/1.mp4", "jump/0.mp4", "jump/1.mp4"]


def labels_of(source) -> list[tuple[str, object]]:
    samples = [source[place] for place in range(len(source))]
    assert all(os.path.isfile(sample.video) for sample in samples)
    names = source.class_names
    return [(sample.id, None if sample.label is None else names[sample.label]) for sample in samples]


def refusal(file: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        open_source(str(file), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# path label


@pytest.mark.parametrize("name", ["train.csv", "val.csv", "videos.txt", "list.tsv"])
@pytest.mark.parametrize("separator", [" ", ",", "\t", ";", "  "])
def test_list_without_header_is_read(tmp_path: Path, name: str, separator: str) -> None:
    write_names(tmp_path, *PATHS)
    lines = [f"{path}{separator}{int(path[0] == 'r')}\n" for path in PATHS]
    (tmp_path / name).write_text("".join(lines))
    source = open_source(str(tmp_path / name), require_labels=True)
    assert labels_of(source) == [(path, str(int(path[0] == "r"))) for path in PATHS]
    assert source.class_names == ["0", "1"] and not source_notes(source)


def test_paths_and_labels_with_blanks_are_read(tmp_path: Path) -> None:
    write_names(tmp_path, "my clips/a b.mp4", "my clips/c.mp4 d.mp4")
    (tmp_path / "train.csv").write_text("my clips/a b.mp4 riding a bike\nmy clips/c.mp4 d.mp4 running\n")
    source = open_source(str(tmp_path / "train.csv"))
    assert labels_of(source) == [("my clips/a b.mp4", "riding a bike"), ("my clips/c.mp4 d.mp4", "running")]


def test_absolute_paths_are_read_in_named_list(tmp_path: Path) -> None:
    videos = write_names(tmp_path / "disk" / "videos", *PATHS)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.csv").write_text("".join(f"{videos / path} {path[0]}\n" for path in PATHS))
    source = open_source(str(tmp_path / "lists" / "train.csv"))
    assert [row[0] for row in labels_of(source)] == PATHS and not source_notes(source)


@pytest.mark.parametrize("place", ["lists", ".", "disk/annotations"])
def test_folder_of_paths_is_found_with_note(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_names(tmp_path / "disk" / "videos", *PATHS)
    (tmp_path / place).mkdir(exist_ok=True, parents=True)
    file = tmp_path / place / "train.csv"
    prefix = "" if place == "disk/annotations" else "disk/videos/"
    file.write_text("".join(f"{prefix}{path} {path[0]}\n" for path in PATHS))
    monkeypatch.chdir(tmp_path)
    source = open_source(os.path.relpath(file))
    assert [row[0] for row in labels_of(source)] == [prefix + path for path in PATHS]
    assert bool(source_notes(source)) == (place != ".")


def test_list_with_header_and_segments_is_read(tmp_path: Path) -> None:
    write_names(tmp_path, *PATHS)
    (tmp_path / "my list.csv").write_text("path,label,start,end\nrun/0.mp4,run,1,2\nrun/0.mp4,jump,2,3\n")
    source = open_source(str(tmp_path / "my list.csv"))
    assert labels_of(source) == [("run/0.mp4@1-2", "run"), ("run/0.mp4@2-3", "jump")]


def test_videomae_v2_list_means_whole_videos(tmp_path: Path) -> None:
    write_names(tmp_path, *PATHS)
    (tmp_path / "pretrain.csv").write_text("".join(f"{path} 0 -1\n" for path in PATHS))
    assert open_source(str(tmp_path / "pretrain.csv")).class_names is None
    (tmp_path / "segments.csv").write_text("".join(f"{path} 10 50\n" for path in PATHS))
    message = refusal(tmp_path / "segments.csv")
    assert "no header" in message and "path,label,start,end" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gone/0.mp4 1\ngone/1.mp4 0\n", ["gone/0.mp4 is not there", "absolute"]),
        ("run/0.mp4 1\ngone/1.mp4 0\n", ["1 of the 2 videos listed are not there", "gone/1.mp4"]),
        ("run/0.mp4 1\nrun/0.mp4 0\n", ["more than once", "run/0.mp4"]),
        ("run/0.mp4 1\nrun/1.mp4\n", ["row 2", "path,label"]),
        ("run/0 16 1\nrun/1 16 0\n", ["no column `path`"]),
        ("run/0.mp4 1\nstreams/x.m3u8 1\n", ["streams/x.m3u8", "playlist"]),
        ("", ["lists no videos"]),
    ],
)
def test_wrong_lists_raise(tmp_path: Path, text: str, words: list[str]) -> None:
    write_names(tmp_path, *PATHS, "streams/x.m3u8")
    (tmp_path / "train.csv").write_text(text)
    message = refusal(tmp_path / "train.csv")
    assert all(word in message for word in words), message


def test_split_is_found_in_list_name(tmp_path: Path) -> None:
    write_names(tmp_path, *PATHS)
    for name in ("train.csv", "val_list.csv", "testlist01.txt", "mine.csv"):
        (tmp_path / name).write_text("run/0.mp4 1\njump/0.mp4 0\n")
    assert len(open_source(str(tmp_path / "val_list.csv"), split="validation")) == 2
    assert len(open_source(str(tmp_path / "testlist01.txt"), split="test")) == 2
    assert len(open_source(str(tmp_path / "testlist01.txt"))) == 2
    for name in ("train.csv", "mine.csv"):
        assert "name the list of that split" in refusal(tmp_path / name, split="test")


def test_unread_lists_in_folder_are_named(tmp_path: Path) -> None:
    write_names(tmp_path, *PATHS)
    for name in ("train.csv", "val.csv", "readme.txt", "latest.csv"):
        (tmp_path / name).write_text("run/0.mp4 1\njump/0.mp4 0\n")
    (note,) = source_notes(open_source(str(tmp_path)))
    assert "train.csv, val.csv in" in note and f"as {tmp_path / 'train.csv'}" in note
    (tmp_path / "lists").mkdir()
    (tmp_path / "train.csv").rename(tmp_path / "lists" / "train.csv")
    assert str(tmp_path / "lists" / "train.csv") in refusal(tmp_path / "lists")


def test_list_of_paths_in_split_folders_has_splits(tmp_path: Path) -> None:
    write_names(tmp_path, *(f"{split}/{path}" for split in ("train", "val") for path in PATHS))
    rows = [f"{split}/{path},{path[0]}\n" for split in ("train", "val") for path in PATHS]
    (tmp_path / "all.csv").write_text("path,label\n" + "".join(rows))
    train, validation = (open_source(str(tmp_path / "all.csv"), split=split) for split in ("train", "val"))
    assert (len(train), len(validation)) == (4, 4) and validation[0].id == "val/run/0.mp4"
    assert "val/ is validation" in source_notes(train)[0]
    assert "no split 'test'" in refusal(tmp_path / "all.csv", split="test")


def test_text_that_is_not_a_list_raises(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("see the other folder\n")
    assert "notes.txt is neither a video file nor a list" in refusal(tmp_path / "notes.txt")
    (tmp_path / "data.json").write_text('{"a": 1}')
    assert "not a list of objects" in refusal(tmp_path / "data.json")


def test_missing_list_does_not_ask_the_hub() -> None:
    with pytest.raises(DataError, match="there is no file or folder data/train.csv"):
        open_source("data/train.csv")


# UCF101


def write_ucf(root: Path) -> Path:
    videos = [
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
        "Archery/v_Archery_g01_c01.avi",
        "Archery/v_Archery_g09_c01.avi",
    ]
    write_names(root / "UCF-101", *videos)
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 ApplyEyeMakeup\r\n2 ApplyLipstick\r\n3 Archery\r\n")
    (lists / "trainlist01.txt").write_text(f"{videos[0]} 1\r\n{videos[1]} 3\r\n")
    (lists / "testlist01.txt").write_text(f"{videos[2]}\r\n")
    return lists


def test_ucf101_lists_are_read(tmp_path: Path) -> None:
    lists = write_ucf(tmp_path)
    train = open_source(str(lists / "trainlist01.txt"), require_labels=True)
    assert train.class_names == ["ApplyEyeMakeup", "ApplyLipstick", "Archery"]
    assert [train[place].label for place in range(2)] == [0, 2]
    assert train[0].id == "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi"
    test = open_source(str(lists / "testlist01.txt"), split="test", require_labels=True)
    assert test.class_names == train.class_names and test[0].label == 2
    assert "UCF-101" in source_notes(train)[0]


def test_ucf101_number_without_class_raises(tmp_path: Path) -> None:
    lists = write_ucf(tmp_path)
    (lists / "classInd.txt").write_text("1 ApplyEyeMakeup\n2 ApplyLipstick\n")
    message = refusal(lists / "trainlist01.txt")
    assert "row 2 has the number 3" in message and "classInd.txt" in message


def test_hmdb51_list_raises(tmp_path: Path) -> None:
    write_names(tmp_path, "a.avi")
    (tmp_path / "brush_hair_test_split1.txt").write_text("a.avi 1\n")
    assert "numbers are splits" in refusal(tmp_path / "brush_hair_test_split1.txt")


# Something-Something


def write_something(root: Path) -> Path:
    write_names(root / "20bn-something-something-v2", "78687.webm", "42326.webm", "7.webm")
    labels = root / "labels"
    labels.mkdir()
    rows = [
        {
            "id": "78687",
            "label": "holding potato next to vicks",
            "template": "Holding [something] next to [something]",
        },
        {"id": "42326", "label": "moving a pen up", "template": "Moving [something] up"},
    ]
    (labels / "something-something-v2-train.json").write_text(json.dumps(rows))
    (labels / "something-something-v2-test.json").write_text(json.dumps([{"id": "7"}]))
    numbers = {"Holding something next to something": "1", "Approaching something": "0", "Moving something up": "2"}
    (labels / "labels.json").write_text(json.dumps(numbers))
    return labels


def test_something_something_lists_are_read(tmp_path: Path) -> None:
    labels = write_something(tmp_path)
    source = open_source(str(labels / "something-something-v2-train.json"), require_labels=True)
    assert source.class_names == [
        "Approaching something",
        "Holding something next to something",
        "Moving something up",
    ]
    assert [source[place].label for place in range(2)] == [1, 2]
    assert source[0].id == "20bn-something-something-v2/78687.webm"
    assert len(open_source(str(labels / "something-something-v2-test.json"), split="test")) == 1


def test_something_something_without_class_list_is_read(tmp_path: Path) -> None:
    labels = write_something(tmp_path)
    (labels / "labels.json").unlink()
    source = open_source(str(labels / "something-something-v2-train.json"))
    assert source.class_names == ["Holding something next to something", "Moving something up"]
    (labels / "labels.json").write_text('{"Moving something up": "0"}')
    assert "does not have the class 'Holding" in refusal(labels / "something-something-v2-train.json")


# Kinetics

KINETICS = "label,youtube_id,time_start,time_end,split\n"


def test_kinetics_csv_is_read(tmp_path: Path) -> None:
    write_names(
        tmp_path / "train", "abseiling/-3B32_000010_000020.mp4", "air drumming/_0aA_000002_000012.mp4", "q.mp4"
    )
    rows = [
        "abseiling,-3B32,10,20,train",
        "air drumming,_0aA,2,12,train",
        "zumba,q,5,15,train",
        "zumba,gone,1,11,train",
    ]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.csv").write_text(KINETICS + "\n".join(rows) + "\n")
    source = open_source(str(tmp_path / "annotations" / "train.csv"), require_labels=True)
    assert labels_of(source) == [
        ("train/abseiling/-3B32_000010_000020.mp4", "abseiling"),
        ("train/air drumming/_0aA_000002_000012.mp4", "air drumming"),
        ("train/q.mp4", "zumba"),
    ]
    assert source[0].start is None
    notes = " ".join(source_notes(source))
    assert "left out: 1 of the 4 videos" in notes and "gone" in notes and "original upload" in notes


def test_kinetics_json_is_read(tmp_path: Path) -> None:
    write_names(tmp_path / "train", "a_000010_000020.mp4", "b_000002_000012.mp4")
    entry = {"annotations": {"label": "zumba", "segment": [10.0, 20.0]}, "duration": 10.0, "subset": "train"}
    other = {"annotations": {"label": "abseiling", "segment": [2.0, 12.0]}, "duration": 10.0, "subset": "train"}
    (tmp_path / "kinetics_train.json").write_text(json.dumps({"a": entry, "b": other}))
    source = open_source(str(tmp_path / "kinetics_train.json"), require_labels=True)
    assert labels_of(source) == [("train/a_000010_000020.mp4", "zumba"), ("train/b_000002_000012.mp4", "abseiling")]
    assert source[0].start is None


def test_kinetics_validation_split_is_read(tmp_path: Path) -> None:
    write_names(tmp_path, "a_000001_000011.mp4", "b_000001_000011.mp4")
    (tmp_path / "val.csv").write_text(KINETICS + "run,a,1,11,validate\njump,b,1,11,validate\n")
    assert len(open_source(str(tmp_path / "val.csv"), split="validation")) == 2
    assert "no rows of the split 'train'" in refusal(tmp_path / "val.csv")


def test_kinetics_video_found_twice_raises(tmp_path: Path) -> None:
    write_names(tmp_path, "full/a_000001_000011.mp4", "small/a_000001_000011.mp4")
    (tmp_path / "train.csv").write_text(KINETICS + "run,a,1,11,train\n")
    message = refusal(tmp_path / "train.csv")
    assert "more than once" in message and "full/a_000001_000011.mp4" in message


def test_kinetics_without_videos_raises(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text(KINETICS + "run,a,1,11,train\n")
    assert "no file of these names" in refusal(tmp_path / "data" / "train.csv")


def test_list_with_name_of_index_is_read_as_index(tmp_path: Path) -> None:
    """Name an index.csv that leads out of its folder, as any named list may."""
    secret = write_names(tmp_path / "other", "a.mp4") / "a.mp4"
    write_names(tmp_path / "set", "b.mp4")
    (tmp_path / "set" / "index.csv").write_text(f"path,label\n{secret},run\nb.mp4,jump\n")
    assert len(open_source(str(tmp_path / "set" / "index.csv"))) == 2
    assert "--allow_paths" in refusal(tmp_path / "set")
