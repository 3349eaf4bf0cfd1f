"""Test labels as spreadsheets, pandas and file systems write them: fractions, -1, several spellings."""

import unicodedata
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from hf_videomae.data import DataError, open_source, source_notes
from hf_videomae.prepare.scan import open_input_dataset

pytestmark = pytest.mark.fault
MULTI_LABEL = "multi_label_classification"


def write_index(root: Path, labels: list[str]) -> str:
    """Write an index file and files that are never decoded."""
    root.mkdir(exist_ok=True)
    rows = [f"{number}.mp4,{label}" for number, label in enumerate(labels)]
    for number in range(len(labels)):
        (root / f"{number}.mp4").write_bytes(b"video")
    (root / "index.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    return str(root)


def write_parquet(root: Path, labels: list[str]) -> str:
    root.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.table({"video": [b"video"] * len(labels), "label": labels}), root / "train.parquet")
    return str(root)


def classes_of(dataset: str, **options) -> list[str] | None:
    return open_source(dataset, require_labels=True, **options).class_names


@pytest.mark.parametrize("write", [write_index, write_parquet])
def test_whole_floats_are_class_numbers(tmp_path: Path, write) -> None:
    assert classes_of(write(tmp_path / "a", ["0.0", "10.0", "2.0"])) == ["0", "2", "10"]
    assert classes_of(write(tmp_path / "b", ["0", "0.0", "1"])) == ["0", "1"]
    assert classes_of(write(tmp_path / "c", ["0.0", "0.5", "run"])) == ["0.0", "0.5", "run"]


def test_prepare_reads_whole_floats_as_class_numbers(tmp_path: Path) -> None:
    assert open_input_dataset(write_index(tmp_path / "set", ["0.0", "10.0", "2.0"])).class_names == ["0", "2", "10"]


def test_minus_one_among_class_numbers_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"index\.csv: the label of 2\.mp4 is -1.*remove those rows"):
        classes_of(write_index(tmp_path / "set", ["0", "1", "-1"]))
    assert classes_of(write_index(tmp_path / "signs", ["1", "1", "-1"])) == ["1", "-1"]


@pytest.mark.parametrize("write", [write_index, write_parquet])
def test_several_classes_in_one_text_raise(tmp_path: Path, write) -> None:
    with pytest.raises(DataError, match=r"'run;jump'.*several classes \(run, jump\).*multi_label_classification"):
        classes_of(write(tmp_path, ["run;jump", "jump", "run"]))


def test_several_classes_in_parquet_text_raise(tmp_path: Path) -> None:
    source = open_source(
        write_parquet(tmp_path, ["run;jump", "jump", "run"]), require_labels=True, label_kind=MULTI_LABEL
    )
    assert source.class_names == ["jump", "run"]
    assert [sample.label for sample in source.read_shard(0)] == [(0, 1), (0,), (1,)]
    assert any("separated by ';'" in note for note in source_notes(source))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Run", "run"),
        ("long jump", "long_jump"),
        ("01", "1"),
        (unicodedata.normalize("NFC", "caf\u00e9"), unicodedata.normalize("NFD", "caf\u00e9")),
    ],
)
def test_classes_spelled_in_two_ways_are_noted(tmp_path: Path, first: str, second: str) -> None:
    dataset = write_index(tmp_path, [first, second, "swim"])
    for notes in (source_notes(open_source(dataset)), open_input_dataset(dataset).notes):
        assert any(ascii(first) in note and ascii(second) in note for note in notes)


def test_different_classes_are_not_noted(tmp_path: Path) -> None:
    assert not source_notes(open_source(write_index(tmp_path, ["run", "running", "1", "10", "0"])))


def test_label_with_thousands_of_digits_is_a_class(tmp_path: Path) -> None:
    assert classes_of(write_index(tmp_path, ["1" * 5000, "2"])) == ["2", "1" * 5000]
