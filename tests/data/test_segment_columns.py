"""Test columns `start` and `end` of Parquet rows and of the Hub's videofolders."""

import json
from pathlib import Path

import pytest

from hf_videomae.data import MotionSource, open_source, source_notes
from hf_videomae.prepare.scan import open_input_dataset
from tests.helpers.datasets_on_disk import write_folder
from tests.helpers.loaders import ids, load, take

pytestmark = pytest.mark.fault

START, END = [0.5, 1.0, None, 2.0], [1.0, None, None, 1.0]


def test_embedded_videos_are_used_whole_with_note(tmp_path: Path) -> None:
    import datasets

    columns = {"video": [{"bytes": MotionSource()[0].video, "path": None}] * 4, "start": START, "end": END}
    numbers = {name: datasets.Value("float64") for name in ("start", "end")}
    features = datasets.Features({"video": datasets.Video(), **numbers})
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "train.parquet")
    source = open_source(str(tmp_path))
    assert [(sample.start, sample.end) for sample in source.read_shard(0)] == [(None, None)] * 4
    (note,) = source_notes(source)
    assert "`start` and `end`" in note and "embedded" in note


def test_rows_with_file_paths_are_cut(tmp_path: Path) -> None:
    write_folder(tmp_path / "files", count=1, classes=1)
    (tmp_path / "files" / "class_0" / "000.mp4").rename(tmp_path / "files" / "clip.bin")
    import datasets

    columns = {"video": ["clip.bin"] * 4, "start": START, "end": END}
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "files" / "train.parquet")
    source = open_source(str(tmp_path / "files"), video_column="video")
    samples = list(source.read_shard(0))
    assert [(sample.start, sample.end) for sample in samples[:3]] == [(0.5, 1.0), (1.0, None), (None, None)]
    assert "nothing lies between 2 and 1 s" in samples[3].video.reason
    loader = load(source, batch_size=2, max_bad_share=0.9)
    assert {name.split("#")[1] for name in ids(take(loader, 6))} == {"0", "1", "2"}
    assert "nothing lies between" in loader.bad_videos[0]["reason"]
    raw = open_input_dataset(str(tmp_path / "files"), video_column="video")
    trims = [video.trim and (video.trim.start, video.trim.end) for video in raw.videos]
    assert trims[:3] == [(0.5, 1.0), (1.0, None), None]


def test_hub_videofolder_metadata_is_cut(tmp_path: Path) -> None:
    rows = [{"file_name": "a.mp4", "start": 0.25, "end": 0.75}, {"file_name": "a.mp4", "start": 1.0, "end": None}]
    (tmp_path / "a.mp4").write_bytes(MotionSource()[0].video)
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = open_source(str(tmp_path))
    assert [source[place].id for place in range(2)] == ["a.mp4@0.25-0.75", "a.mp4@1-"]
