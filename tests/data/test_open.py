"""Test opening of datasets by name, and one-line errors with the remedy."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_videomae.data import (
    DataError,
    MotionSource,
    Source,
    StreamedSource,
    describe_source,
    open_mixture,
    open_source,
)
from hf_videomae.prepare.scan import open_input_dataset
from hf_videomae.video.decoding import open_video
from tests.helpers.datasets_on_disk import write_folder, write_parquet


def test_motion_is_default() -> None:
    source = open_source()
    assert isinstance(source, MotionSource) and isinstance(source, Source)
    assert describe_source(source) == "motion: 2048 videos, 8 classes"


# Folders.


def test_folder_is_searched_at_any_depth_with_class_folders(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", count=6, classes=3)
    (tmp_path / "set" / "notes.txt").write_text("no video")
    (tmp_path / "set" / "class_1" / "._004.mp4").write_text("left by macOS")
    source = open_source(str(tmp_path / "set"))
    assert source.class_names == ["class_0", "class_1", "class_2"]
    assert [source[index].id for index in range(len(source))] == [
        f"class_{index % 3}/{index:03d}.mp4" for index in (0, 3, 1, 4, 2, 5)
    ]
    assert [source[index].label for index in range(6)] == [0, 0, 1, 1, 2, 2]
    with open_video(source[0].video) as video:
        assert video.num_frames == 24


def test_split_folders_are_splits_not_classes(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", count=4)
    write_folder(tmp_path / "val", count=2)
    train, validation = open_source(str(tmp_path)), open_source(str(tmp_path), split="validation")
    assert (len(train), len(validation)) == (4, 2)
    assert train.class_names == validation.class_names == ["class_0", "class_1"]
    assert validation[0].id == "val/class_0/000.mp4"
    with pytest.raises(DataError, match=r"no split 'test' \(it has: train, validation\)"):
        open_source(str(tmp_path), split="test")


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for index in range(2):
        (tmp_path / f"{index}.MP4").write_bytes(MotionSource()[index].video)
    assert open_source(str(tmp_path)).class_names is None
    with pytest.raises(DataError, match="has no labels; put each class's videos into a folder"):
        open_source(str(tmp_path), require_labels=True)


def test_links_are_followed_once(tmp_path: Path) -> None:
    write_folder(tmp_path / "real", count=2)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    assert [open_source(str(tmp_path / "set"))[index].id for index in range(2)] == [
        "linked/class_0/000.mp4",
        "linked/class_1/001.mp4",
    ]


@pytest.mark.parametrize("name", ["index.csv", "metadata.csv", "metadata.jsonl"])
def test_index_file_selects_videos(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, count=4)
    rows = [("class_1/003.mp4", "wave", "train"), ("class_0/000.mp4", "jump, high", "train")]
    rows.append(("class_0/002.mp4", "wave", "val"))
    if name.endswith("jsonl"):
        lines = [json.dumps({"file_name": path, "label": label, "split": split}) for path, label, split in rows]
    else:
        lines = ["path,label,split", *(f'{path},"{label}",{split}' for path, label, split in rows)]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    source = open_source(str(tmp_path))
    assert source.class_names == ["jump, high", "wave"]
    assert [(source[index].id, source[index].label) for index in range(2)] == [
        ("class_1/003.mp4", 1),
        ("class_0/000.mp4", 0),
    ]
    assert open_source(str(tmp_path), split="validation")[0].id == "class_0/002.mp4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,label\nclass_0/000.mp4,a\ngone.mp4,b\n",
            "1 of the 2 videos listed are not there, the first is gone.mp4",
        ),
        (
            "path,label\nclass_0/000.mp4,a\nclass_1/001.mp4,\n",
            "1 of 2 rows have no label, the first is class_1/001.mp4",
        ),
        ("path,label\nclass_0/000.mp4,a\nclass_0/000.mp4,b\n", "lists 1 videos more than once"),
        ("clips,label\nclass_0/000.mp4,a\n", "has no column `path` or `file_name` .its columns: clips, label."),
        ("path,label\n", "lists no videos"),
        ("path,split\nclass_0/000.mp4,test\n", r"no rows of the split 'train' \(it has: test\)"),
    ],
)
def test_wrong_index_file_raises(tmp_path: Path, text: str, message: str) -> None:
    write_folder(tmp_path, count=2)
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path))


def test_row_without_split_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, count=2)
    rows = [{"path": "class_0/000.mp4", "split": "train"}, {"path": "class_1/001.mp4"}]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="metadata.jsonl: row 2 has no `split`"):
        open_source(str(tmp_path))


def test_broken_jsonl_raises(tmp_path: Path) -> None:
    write_folder(tmp_path, count=2)
    (tmp_path / "metadata.jsonl").write_text("{not json\n")
    with pytest.raises(DataError, match="metadata.jsonl cannot be read"):
        open_source(str(tmp_path))


def test_real_data_set_is_opened(data_dir: Path) -> None:
    source = open_source(str(data_dir))
    assert len(source) == 83
    assert source.class_names == ["hand_shaking", "hugging", "kicking", "pointing", "punching", "pushing"]
    assert source[0].id == "hand_shaking/set1_seq01_004.avi"


# Patterns and files.


def test_pattern_is_opened(tmp_path: Path) -> None:
    write_folder(tmp_path, count=4)
    one_class = open_source(f"{tmp_path}/class_1/*.mp4")
    assert [one_class[index].id for index in range(2)] == ["001.mp4", "003.mp4"]
    assert one_class.class_names is None
    both = open_source(f"{tmp_path}/**/*.mp4")
    assert both[0].id == "class_0/000.mp4" and both.class_names == ["class_0", "class_1"]
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="no file matches; check the pattern"):
        open_source(f"{tmp_path}/*.avi")
    with pytest.raises(DataError, match="1 files match but none has a video's extension"):
        open_source(f"{tmp_path}/*.txt")


def test_single_file_is_opened(tmp_path: Path) -> None:
    write_folder(tmp_path, count=1)
    source = open_source(str(tmp_path / "class_0" / "000.mp4"))
    assert (len(source), source[0].id, source.class_names) == (1, "000.mp4", None)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="notes.txt is neither a video file"):
        open_source(str(tmp_path / "notes.txt"))


# What is not there.


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("no/such/folder", "there is no file or folder no/such/folder; give a folder of videos"),
        ("/no/such", "there is no file or folder /no/such"),
        ("./videos", "there is no file or folder ./videos"),
        ("clips/a.mp4", "there is no file or folder clips/a.mp4"),
        ("tests/nothing", "there is no file or folder tests/nothing"),
        ("videos", "there is no file or folder videos"),
        ("motoin", "did you mean `motion`"),
        (" ", "the name of the dataset is empty"),
    ],
)
def test_missing_data_set_raises_at_once(dataset: str, message: str, monkeypatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    began = time.monotonic()
    with pytest.raises(DataError, match=message) as caught:
        open_source(dataset)
    assert time.monotonic() - began < 2
    assert "\n" not in str(caught.value)


def test_folders_without_videos_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty; give a folder that holds videos"):
        open_source(str(tmp_path))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="none of the 1 files in the folder .* is a video"):
        open_source(str(tmp_path))


# Datasets of the Hub, in a folder.


def test_parquet_is_streamed_without_decoding(tmp_path: Path) -> None:
    source = open_source(str(write_parquet(tmp_path)))
    assert isinstance(source, StreamedSource) and not isinstance(source, Source)
    assert (source.num_shards, source.video_column, source.label_column) == (3, "video", "label")
    assert source.class_names == MotionSource().class_names
    samples = list(source.read_shard(1))
    assert [sample.id for sample in samples] == [f"data/train-00001-of-00003.parquet#{row}" for row in range(5)]
    original = MotionSource(split="validation")
    assert [(sample.video, sample.label) for sample in samples] == [
        (original[index].video, original[index].label) for index in range(7, 12)
    ]


def test_columns_and_splits_of_parquet_are_found(tmp_path: Path) -> None:
    path = str(write_parquet(tmp_path))
    assert next(open_source(path, video_column="video", label_column="label").read_shard(0)).label == 0
    with pytest.raises(
        DataError, match="no column 'clip': its columns are text .Value., video .Video., label .ClassLabel."
    ):
        open_source(path, video_column="clip")
    assert open_source(path, label_column="text").class_names == ["a caption"]
    with pytest.raises(DataError, match="no split 'test'; choose one of train"):
        open_source(path, split="test")


def test_other_label_kinds_of_parquet_are_read(tmp_path: Path) -> None:
    import datasets

    videos = [{"bytes": MotionSource()[place].video, "path": None} for place in range(3)]
    kinds = {"video": datasets.Video(), "label": datasets.Value("float32"), "text": datasets.Value("string")}
    features = datasets.Features({**kinds, "tags": datasets.List(datasets.ClassLabel(names=["run", "jump"]))})
    columns = {"video": videos, "label": [0.5, None, 2.0], "text": ["a"] * 3, "tags": [[0, 1], [], [1]]}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "train.parquet")
    numbers = open_source(str(tmp_path), label_kind="regression", require_labels=True)
    assert numbers.class_names is None and [s.label for s in numbers.read_shard(0)] == [0.5, None, 2.0]  # type: ignore[union-attr]
    several = open_source(str(tmp_path), label_kind="multi_label_classification", require_labels=True)
    assert several.class_names == ["run", "jump"]
    assert [sample.label for sample in several.read_shard(0)] == [(0, 1), (), (1,)]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="'label' of train.parquet#0 is 0.5: .*--problem_type regression"):
        open_source(str(tmp_path), require_labels=True)
    with pytest.raises(DataError, match="the label of train.parquet#0 is 'a', but regression wants a finite number"):
        open_source(str(tmp_path), label_kind="regression", label_column="text")


def test_parquet_without_videos_raises(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": ["a"]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(
        DataError, match=r"no video column: its columns are text \(Value\); name one with --video_column"
    ):
        open_source(str(tmp_path))


def test_webdataset_is_streamed(tmp_path: Path) -> None:
    import io
    import tarfile

    with tarfile.open(tmp_path / "train-000.tar", "w") as tar:
        for index in range(3):
            video = MotionSource()[index].video
            entry = tarfile.TarInfo(f"clip{index}.mp4")
            entry.size = len(video)
            tar.addfile(entry, io.BytesIO(video))
    samples = list(open_source(str(tmp_path)).read_shard(0))
    assert [sample.id for sample in samples] == [f"train-000.tar/clip{index}" for index in range(3)]
    assert [sample.video for sample in samples] == [MotionSource()[index].video for index in range(3)]


def test_opening_folder_is_quick(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for index in range(5000):
        os.close(os.open(tmp_path / "a" / f"{index}.mp4", os.O_CREAT))
    began = time.monotonic()
    assert len(open_source(str(tmp_path))) == 5000
    assert time.monotonic() - began < 2


def count_calls(monkeypatch: pytest.MonkeyPatch, *names: str) -> Counter[str]:
    """Count from now on the calls of functions of `os`, by their first argument."""
    calls: Counter[str] = Counter()

    def counted(real: Callable) -> Callable:
        def call(path=".", *args, **kwargs):
            calls[os.fspath(path)] += 1
            return real(path, *args, **kwargs)

        return call

    for name in names:
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    return calls


@pytest.mark.parametrize(
    "open_folder",
    [
        open_source,
        open_mixture,
        lambda folder: open_source(folder, split="validation"),
        lambda folder: open_mixture([folder, f"{folder}/../shards"], weights=[1, 1], label_column="label"),
        open_input_dataset,
    ],
    ids=["source", "mixture", "split", "mixture with columns", "prepare"],
)
def test_folder_is_listed_once(tmp_path: Path, monkeypatch, open_folder: Callable[[str], object]) -> None:
    folder = tmp_path / "set"
    write_folder(folder / "train", count=4)
    write_folder(folder / "val", count=2)
    (folder / "lists").mkdir()
    (folder / "lists" / "train.csv").write_text("train/class_0/000.mp4 0\n")
    write_parquet(tmp_path / "shards")
    inner = {str(path) for path in [folder, *folder.rglob("*")] if path.is_dir()}
    listed = count_calls(monkeypatch, "scandir", "listdir")
    open_folder(str(folder))
    assert {path: listed[path] for path in inner} == dict.fromkeys(inner, 1)


@pytest.mark.parametrize("open_folder", [open_source, open_input_dataset], ids=["source", "prepare"])
def test_folder_with_ids_is_listed_once(tmp_path: Path, monkeypatch, open_folder: Callable[[str], object]) -> None:
    write_folder(tmp_path, count=4)
    (tmp_path / "index.csv").write_text("youtube_id,label\n" + "".join(f"{index:03d},run\n" for index in range(4)))
    listed = count_calls(monkeypatch, "scandir", "listdir")
    open_folder(str(tmp_path))
    inner = {str(tmp_path), str(tmp_path / "class_0"), str(tmp_path / "class_1")}
    assert {path: listed[path] for path in inner} == dict.fromkeys(inner, 1)


def test_opening_folder_asks_nothing_about_single_files(tmp_path: Path, monkeypatch) -> None:
    # On a network disk every request takes a millisecond.
    for name, count in (("small", 2), ("large", 200)):
        for label in ("run", "jump"):
            (tmp_path / name / label).mkdir(parents=True)
            for index in range(count):
                (tmp_path / name / label / f"{index}.mp4").touch()
    requests = []
    for name in ("small", "large"):
        with monkeypatch.context() as patch:
            calls = count_calls(patch, "stat", "lstat", "scandir", "listdir", "open")
            open_source(str(tmp_path / name))
        requests.append(calls.total())
    assert requests[0] == requests[1]
