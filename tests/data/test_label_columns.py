"""Test labels in plain Parquet columns and WebDataset members: classes from values, the same in every process."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from hf_videomae.data import DataError, LabelEncoder, MotionSource, build_loader, open_mixture, open_source
from hf_videomae.data.clips import ClipConfig
from hf_videomae.prepare import PrepareSettings, prepare
from hf_videomae.video.encoding import EncodeSettings
from tests.local_hub import LocalHub

pytestmark = pytest.mark.fault
MULTI_LABEL, NUMBERS = "multi_label_classification", "regression"


def video(number: int = 0) -> bytes:
    return bytes(MotionSource()[number % 8].video)


def write_parquet(
    root: Path, labels: list[Any], *, split: str = "train", column: str = "label", kind: Any = None
) -> str:
    """Write one Parquet file of embedded videos in a plain column of bytes."""
    root.mkdir(parents=True, exist_ok=True)
    videos = [video(number) for number in range(len(labels))]
    table = pyarrow.table({"video": videos, column: pyarrow.array(labels, kind)})
    parquet.write_table(table, root / f"{split}-{len(list(root.glob('*'))):05d}.parquet")
    return str(root)


def write_tar(root: Path, samples: list[dict[str, Any]], *, name: str = "train-000.tar") -> str:
    """Write one tar file, with the members of each sample by their extension."""
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / name, "w") as tar:
        for number, members in enumerate(samples):
            for extension, value in {"mp4": video(number), **members}.items():
                content = value if isinstance(value, bytes) else str(value).encode()
                entry = tarfile.TarInfo(f"{name[:5]}{number}.{extension}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return str(root)


def labels_of(source: Any) -> list[Any]:
    return [sample.label for shard in range(source.num_shards) for sample in source.read_shard(shard)]


@pytest.mark.parametrize(
    ("values", "kind", "names", "labels"),
    [
        (["run", " jump", "run "], None, ["jump", "run"], [1, 0, 1]),
        ([10, 9, 10], None, ["9", "10"], [1, 0, 1]),
        ([2, 5, 7], pyarrow.int8(), ["2", "5", "7"], [0, 1, 2]),
        ([True, False, True], None, ["False", "True"], [1, 0, 1]),
        ([1.0, 0.0, 1.0], None, ["0", "1"], [1, 0, 1]),
        ([-1, 1, 1], None, ["1", "-1"], [1, 0, 0]),
        ([["run"], ["jump"], ["run"]], None, ["jump", "run"], [1, 0, 1]),
    ],
    ids=["text", "int", "int8", "bool", "float", "minus one", "lists of one"],
)
def test_label_columns_of_parquet_are_read(
    tmp_path: Path, values: list[Any], kind: Any, names: list[str], labels: list[int]
) -> None:
    source = open_source(write_parquet(tmp_path, values, kind=kind), require_labels=True)
    assert (source.class_names, labels_of(source)) == (names, labels)


def test_class_of_last_shard_is_known_from_start(tmp_path: Path) -> None:
    for labels in (["b", "b"], ["b", "c"], ["a", "b"]):
        write_parquet(tmp_path, labels)
    first, second = (open_source(str(tmp_path), require_labels=True) for _ in range(2))
    assert first.class_names == second.class_names == ["a", "b", "c"]
    assert labels_of(first) == [1, 1, 1, 2, 0, 1]
    loader = build_loader(
        first,
        clip_config=ClipConfig(num_frames=4, stride=2, image_size=32),
        batch_size=6,
        seed=0,
        labels=LabelEncoder(num_classes=3),
    )
    batch = next(iter(loader))
    numbers = {"train-00000": [1, 1], "train-00001": [1, 2], "train-00002": [0, 1]}
    for id, label in zip(batch["sample_ids"], batch["labels"].tolist(), strict=True):
        assert numbers[id.split(".")[0]][int(id[-1])] == label


def test_column_is_chosen_by_name(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, ["x", "y"], column="action")
    with pytest.raises(DataError, match="has no labels .*action.*--label_column"):
        open_source(path, require_labels=True)
    assert open_source(path, require_labels=True, label_column="action").class_names == ["x", "y"]
    assert open_source(path).class_names is None
    with pytest.raises(DataError, match="has no column 'deed': its columns are video, action"):
        open_source(path, label_column="deed")
    with pytest.raises(DataError, match="'action' of train-00000.parquet#0 is x.*|regression wants a finite number"):
        open_source(path, label_column="action", label_kind=NUMBERS)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (["a", None, "b"], "single_label_classification", "1 of 3 rows have no 'label', the first is .*parquet#1"),
        (["a", " ", "nan"], "single_label_classification", "2 of 3 rows have no 'label'"),
        ([0.5, 1.0], "single_label_classification", "0.5: .*--problem_type regression"),
        ([["a", "b"], ["a"]], "single_label_classification", "--problem_type multi_label_classification"),
        ([["a|b"], ["a"]], MULTI_LABEL, r"a name with \|"),
        ([0, 1, -1], "single_label_classification", "-1 .*remove those rows"),
        (["1.5", "x"], NUMBERS, "parquet#1 is 'x', but regression wants a finite number"),
        ([f"a caption {number}" for number in range(12)], "single_label_classification", "more like captions"),
    ],
)
def test_columns_that_are_not_labels_raise_one_line(tmp_path: Path, values: Any, kind: Any, message: str) -> None:
    path = write_parquet(tmp_path, values)
    with pytest.raises(DataError, match=message) as caught:
        open_source(path, require_labels=True, label_kind=kind)
    assert "\n" not in str(caught.value)


def test_captions_are_classes_if_user_names_column(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, [f"a caption {number}" for number in range(12)])
    assert len(open_source(path, require_labels=True, label_column="label").class_names or []) == 12


def test_class_label_column_keeps_its_names(tmp_path: Path) -> None:
    import datasets

    names = datasets.ClassLabel(names=["run", "jump"])
    features = datasets.Features({"video": datasets.Video(), "label": names, "tags": datasets.List(names)})
    videos = [{"bytes": video(number), "path": None} for number in range(2)]
    rows = {"video": videos, "label": [0, 1], "tags": [[0], [0, 1]]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    path = str(tmp_path)
    assert open_source(path, require_labels=True).class_names == ["run", "jump"]
    for column, kind, message in (
        ("label", MULTI_LABEL, "ClassLabel"),
        ("tags", "single_label_classification", "List of Class"),
    ):
        with pytest.raises(DataError, match=f"column '{column}' holds {message}.*, not labels for {kind}"):
            open_source(path, label_column=column, label_kind=kind)  # type: ignore[arg-type]


def test_multi_labels_and_numbers_are_read(tmp_path: Path) -> None:
    several = open_source(
        write_parquet(tmp_path / "lists", [["b", "a"], [], ["c"]]), label_kind=MULTI_LABEL, label_column="label"
    )
    assert (several.class_names, labels_of(several)) == (["a", "b", "c"], [(0, 1), (), (2,)])
    texts = open_source(write_parquet(tmp_path / "texts", ["b|a", "c"]), label_kind=MULTI_LABEL, require_labels=True)
    assert (texts.class_names, labels_of(texts)) == (["a", "b", "c"], [(0, 1), (2,)])
    numbers = open_source(write_parquet(tmp_path / "numbers", ["1.5", "-2"]), label_kind=NUMBERS, require_labels=True)
    assert (numbers.class_names, labels_of(numbers)) == (None, [1.5, -2.0])


@pytest.mark.parametrize(
    ("members", "column", "names", "labels"),
    [
        ([{"cls": 3}, {"cls": 12}, {"cls": 3}], None, ["3", "12"], [0, 1, 0]),
        ([{"cls": "walk\n"}, {"cls": "run"}, {"cls": "walk"}], None, ["run", "walk"], [1, 0, 1]),
        ([{"cls": "1"}, {"cls": "two"}, {"cls": "1"}], None, ["1", "two"], [0, 1, 0]),
        ([{"txt": "run"}, {"txt": "run"}, {"txt": "jump"}], None, ["jump", "run"], [1, 1, 0]),
        ([{"label.txt": "run"}, {"label.txt": "jump"}], None, ["jump", "run"], [1, 0]),
        ([{"json": '{"label": "b"}'}, {"json": '{"label": "a", "fps": 25}'}], None, ["a", "b"], [1, 0]),
        ([{"json": '{"class": 2}'}, {"json": '{"class": 1}'}], None, ["1", "2"], [1, 0]),
        ([{"json": '{"action": "b"}'}, {"json": '{"action": "a"}'}], "json.action", ["a", "b"], [1, 0]),
        ([{"json": '"b"'}, {"json": '"a"'}], "json", ["a", "b"], [1, 0]),
        ([{"cls": 0, "txt": "run"}, {"cls": 1, "txt": "jump"}], "txt", ["jump", "run"], [1, 0]),
    ],
)
def test_webdataset_members_are_read_as_labels(
    tmp_path: Path, members: list[dict[str, Any]], column: str | None, names: list[str], labels: list[int]
) -> None:
    source = open_source(write_tar(tmp_path, members), require_labels=True, label_column=column)
    assert (source.class_names, labels_of(source)) == (names, labels)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([{"cls": 1}, {"cls": ""}], "1 of 2 rows have no 'cls', the first is train-000.tar/train1"),
        ([{"json": "{"}, {"json": "{}"}], "json of train-000.tar/train0 is not JSON"),
        ([{"json": '{"fps": 25}'}, {"json": '{"fps": 30}'}], "has no labels"),
    ],
)
def test_webdataset_members_that_are_not_labels_raise(
    tmp_path: Path, members: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_source(write_tar(tmp_path, members), require_labels=True)


def test_unused_members_are_not_decoded(tmp_path: Path) -> None:
    samples = [{"cls": "walk", "npy": b"no array", "pth": b"no tensor", "msg": b"\xc1"} for _ in range(2)]
    source = open_source(write_tar(tmp_path, samples))
    assert [sample.video for sample in source.read_shard(0)] == [video(0), video(1)]  # type: ignore[union-attr]


def test_classes_of_all_tar_files_are_found(tmp_path: Path) -> None:
    write_tar(tmp_path, [{"cls": "b"}, {"cls": "c"}], name="train-000.tar")
    write_tar(tmp_path, [{"cls": "a"}, {"cls": "b"}], name="train-001.tar")
    source = open_source(str(tmp_path), require_labels=True)
    assert (source.class_names, labels_of(source)) == (["a", "b", "c"], [1, 2, 0, 1])


# On the Hub.


def test_parquet_labels_on_hub_are_read_without_videos(hub: LocalHub) -> None:
    root = hub.dataset("org/set")
    big = bytes(3 * 2**20)
    labels = ["b", "a", "b", "c"]
    for shard, part in enumerate((labels[:2], labels[2:])):
        videos = pyarrow.array([big] * 2)
        table = pyarrow.table({"video": videos, "label": part})
        parquet.write_table(table, root / f"train-{shard:05d}.parquet", compression="none")
    hub.forget()
    source = open_source("org/set", require_labels=True)
    assert source.class_names == ["a", "b", "c"]
    assert sum(request.sent for request in hub.requests("cdn")) < 6 * 2**20 < 4 * len(big)
    assert labels_of(source) == [1, 0, 1, 2]


def test_tar_labels_on_hub_need_cache_or_prepare(hub: LocalHub, tmp_path: Path) -> None:
    write_tar(hub.dataset("org/set"), [{"cls": "b"}, {"cls": "a"}])
    with pytest.raises(DataError, match="--cache_dir DIR, .*`hf-videomae prepare`"):
        open_source("org/set", require_labels=True)
    kept = open_source("org/set", require_labels=True, cache_dir=str(tmp_path / "cache"))
    assert (kept.class_names, labels_of(kept)) == (["a", "b"], [1, 0])
    done = prepare("org/set", tmp_path / "out", settings=PrepareSettings(encode=EncodeSettings(short_side=32)), jobs=1)
    assert done.report["classes"] == {"a": 1, "b": 1}


# Prepare, mixtures and test splits.


def test_prepare_keeps_plain_labels_of_all_splits(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set", ["run", "jump", "run"], split="train")
    write_parquet(tmp_path / "set", ["walk", "run"], split="test")
    for format in ("parquet", "webdataset"):
        out = tmp_path / format
        settings = PrepareSettings(encode=EncodeSettings(short_side=32), format=format)  # type: ignore[arg-type]
        done = prepare(str(tmp_path / "set"), out, settings=settings, jobs=1)
        assert done.report["classes"] == {"jump": 1, "run": 3, "walk": 1}
        train, test = (open_source(str(out), split=split, require_labels=True) for split in ("train", "test"))
        assert train.class_names == test.class_names == ["jump", "run", "walk"]
        assert sorted(labels_of(train)) == [0, 1, 1] and sorted(labels_of(test)) == [1, 2]


def test_prepare_skips_rows_without_label(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "set", ["a", None, "b"])
    done = prepare(path, tmp_path / "out", settings=PrepareSettings(encode=EncodeSettings(short_side=32)), jobs=1)
    assert (done.report["kept"], done.report["dropped"]) == (2, 1)
    assert json.loads((tmp_path / "out" / "dropped.jsonl").read_text())["path"] == "train-00000.parquet#1"


def test_mix_with_different_classes_raises(tmp_path: Path) -> None:
    first = write_parquet(tmp_path / "a", ["run", "jump"], column="action")
    second = write_parquet(tmp_path / "b", ["jump", "run"], column="action")
    other = write_parquet(tmp_path / "c", ["walk", "run"], column="action")
    both = open_mixture([first, second], weights=[1, 1], require_labels=True, label_column="action")
    assert both.class_names == ["jump", "run"]
    with pytest.raises(DataError, match="different classes"):
        open_mixture([first, other], weights=[1, 1], require_labels=True, label_column="action")


def test_label_column_for_video_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(video())
    for option in ({"label_column": "label"}, {"video_column": "clip"}):
        for dataset in (str(tmp_path), "motion"):
            with pytest.raises(DataError, match=f"--{next(iter(option))} .* leave it out"):
                open_source(dataset, **option)
