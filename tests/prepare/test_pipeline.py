"""Test that raw videos, good and bad, become a dataset that streams, and that a killed call continues."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hf_videomae.cli import main
from hf_videomae.data import DataError, MotionSource, StreamedSource, open_source
from hf_videomae.prepare import PrepareResult, PrepareSettings, prepare
from hf_videomae.prepare.shards import choose_num_shards, plan_shards
from hf_videomae.video import encoding
from hf_videomae.video.decoding import VideoBackendError, open_video
from hf_videomae.video.encoding import EncodeSettings, Trim
from tests.helpers.datasets_on_disk import write_folder, write_parquet

SMALL = EncodeSettings(short_side=32)


def make(
    source: Path, destination: Path, *, index: str | None = None, jobs: int = 2, **settings: Any
) -> PrepareResult:
    return prepare(
        str(source), destination, settings=PrepareSettings(encode=SMALL, **settings), index=index, jobs=jobs
    )


def files_of(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def labels_by_path(root: Path, split: str = "train") -> dict[str, str]:
    """Return what `datasets` streams: the class name by the path of the source."""
    import datasets

    stream = datasets.load_dataset(str(root), split=split, streaming=True).decode(False)
    names = next(kind for kind in stream.features.values() if isinstance(kind, datasets.ClassLabel))
    return {
        (row["path"] if "path" in row else row["json"]["path"]): names.int2str(
            row["label" if "label" in row else "cls"]
        )
        for row in stream
    }


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Return a folder with nine good videos of two classes, nested and with odd names, and five bad ones."""
    root = write_folder(tmp_path / "raw videos", count=6)
    nested = root / "sports" / "jump é 跳"
    nested.mkdir(parents=True)
    for index, name in enumerate(["000.mp4", "with space.mp4", "dots.in.name.mp4"]):
        (nested / name).write_bytes(MotionSource()[10 + index].video)
    whole = MotionSource()[0].video
    (root / "class_0" / "empty.mp4").write_bytes(b"")
    (root / "class_0" / "text.mp4").write_text("no video")
    (root / "class_1" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "class_1" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    _write_audio(root / "class_1" / "sound.mp4")
    (root / "notes.txt").write_text("not looked at")
    return root


def _write_audio(path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra hf-videomae[av] is not installed")
    numpy = pytest.importorskip("numpy")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        noise = av.AudioFrame.from_ndarray(numpy.zeros((1, 8000), numpy.float32), format="fltp", layout="mono")
        noise.sample_rate = 8000
        container.mux(stream.encode(noise))
        container.mux(stream.encode())


@pytest.mark.parametrize("format", ["parquet", "webdataset"])
def test_folder_with_bad_files_becomes_streamable_dataset(raw: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    report = make(raw, out, format=format, license="cc-by-4.0").report
    assert (report["found"], report["kept"], report["dropped"]) == (14, 9, 5)
    assert report["classes"] == {"class_0": 3, "class_1": 3, "jump é 跳": 3}
    dropped = {line["path"]: line["reason"] for line in lines_of(out / "dropped.jsonl")}
    assert dropped.keys() == {f"class_{name}.mp4" for name in ("0/empty", "0/text", "1/cut", "1/gone", "1/sound")}
    assert "is empty" in dropped["class_0/empty.mp4"] and "no video stream" in dropped["class_1/sound.mp4"]
    assert "no such file" in dropped["class_1/gone.mp4"]
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "report.json",
        "dropped.jsonl",
        "videos.jsonl",
        "data",
    }
    for name in ("README.md", "report.json", "dropped.jsonl", "videos.jsonl"):
        assert str(tmp_path) not in (out / name).read_text()

    source = open_source(str(out), require_labels=True)
    assert isinstance(source, StreamedSource)
    assert (source.num_shards, source.num_samples) == (2, 9)
    assert source.class_names == ["class_0", "class_1", "jump é 跳"]
    samples = [sample for shard in range(2) for sample in source.read_shard(shard)]
    assert len({sample.id for sample in samples}) == 9 and sorted(s.label for s in samples) == [
        0,
        0,
        0,
        1,
        1,
        1,
        2,
        2,
        2,
    ]
    for sample in samples:
        with open_video(sample.video) as video:
            assert (video.num_frames, video.height, video.width) == (24, 32, 32)

    labels = labels_by_path(out)
    assert len(labels) == 9 and labels["class_1/003.mp4"] == "class_1"
    assert labels["sports/jump é 跳/dots.in.name.mp4"] == "jump é 跳"


def test_each_row_holds_the_video_its_path_names(raw: Path, tmp_path: Path) -> None:
    import datasets

    make(raw, tmp_path / "out")
    stream = datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True).decode(False)
    for row in stream:
        with open_video(raw / row["path"]) as source, open_video(row["video"]["bytes"]) as result:
            frames = [video.frames([0, 11, 23]).float().mean((2, 3)) for video in (source, result)]
            assert (frames[0] - frames[1]).abs().max() < 4, row["path"]


def test_card_header_is_read_by_hub_client(raw: Path, tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    make(raw, tmp_path / "licensed", license="cc-by-4.0")
    make(raw, tmp_path / "plain", format="webdataset")
    data = DatasetCard.load(tmp_path / "licensed" / "README.md").data
    assert (data.license, data.task_categories, data.size_categories) == (
        "cc-by-4.0",
        ["video-classification"],
        ["n<1K"],
    )
    assert data.configs == [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}]
    plain = DatasetCard.load(tmp_path / "plain" / "README.md")
    assert plain.data.license is None and "webdataset" in plain.data.tags
    assert "Of 14 videos 5 were left out" in plain.text


def test_second_call_without_changes_writes_nothing(raw: Path, tmp_path: Path) -> None:
    first = make(raw, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = make(raw, tmp_path / "out")
    assert again.is_unchanged and not first.is_unchanged and again.report == first.report
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}


def test_only_new_videos_are_encoded(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    make(raw, out)
    (raw / "class_0" / "000.mp4").unlink()
    (raw / "class_0" / "new.mp4").write_bytes(MotionSource()[20].video)
    (raw / "class_0" / "002.mp4").write_bytes(MotionSource()[21].video)
    encoded = _count_encoded(monkeypatch)
    make(raw, out)
    assert sorted(encoded) == ["class_0/002.mp4", "class_0/new.mp4"]
    make(raw, tmp_path / "fresh")
    assert files_of(out) == files_of(tmp_path / "fresh")


def _count_encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the names of the videos that are encoded from now on."""
    from hf_videomae.prepare import transcoder

    encoded, encode = [], transcoder.encode_video

    def noted(*arguments: Any, **options: Any) -> Any:
        made = encode(*arguments, **options)
        encoded.append(options["name"])
        return made

    monkeypatch.setattr(transcoder, "encode_video", noted)
    return encoded


def test_other_shard_layout_encodes_no_video_again(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(raw, tmp_path / "out")
    encoded = _count_encoded(monkeypatch)
    make(raw, tmp_path / "out", format="webdataset", num_shards=3)
    assert encoded == []
    assert sorted(path.name for path in (tmp_path / "out" / "data").iterdir()) == [
        f"train-{number:05d}-of-00003.tar" for number in range(3)
    ]
    assert len(labels_by_path(tmp_path / "out")) == 9


def test_number_of_jobs_does_not_change_the_files(raw: Path, tmp_path: Path) -> None:
    make(raw, tmp_path / "one", jobs=1)
    make(raw, tmp_path / "three", jobs=3)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "three")


@pytest.mark.integration
def test_killed_command_continues_to_the_same_files(raw: Path, tmp_path: Path) -> None:
    """Kill the real command after some clips."""
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "hf_videomae.cli",
        "prepare",
        str(raw),
        str(out),
        "--short_side",
        "32",
        "--jobs",
        "1",
    ]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while len(list(out.glob(".prepare/clips/*.json"))) < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "data").exists(), "it was faster than the signal"
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "videos were there already" in done.stdout
    make(raw, tmp_path / "fresh")
    assert files_of(out) == files_of(tmp_path / "fresh")


def test_killed_while_moving_shards_continues_to_the_same_files(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hf_videomae.prepare import pipeline

    class Killed(BaseException):
        pass

    def die(source: Any, target: Any) -> None:
        if Path(target).name.startswith("train-00001"):
            raise Killed
        replace(source, target)

    replace = os.replace
    make(raw, tmp_path / "out", num_shards=3)
    (raw / "class_0" / "new.mp4").write_bytes(MotionSource()[20].video)
    with monkeypatch.context() as patched:
        patched.setattr(
            pipeline.os, "replace", lambda a, b: die(a, b) if Path(b).parent.name == "data" else replace(a, b)
        )
        with pytest.raises(Killed):
            make(raw, tmp_path / "out", num_shards=3)
    make(raw, tmp_path / "out", num_shards=3)
    make(raw, tmp_path / "fresh", num_shards=3)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")


# Labels and splits.


def test_index_file_gives_splits_labels_and_segments(tmp_path: Path) -> None:
    """A row that cannot be used is left out and named; the others are kept."""
    root = write_folder(tmp_path / "raw", count=6)
    rows = [
        ("class_0/000.mp4", "run", "train", "", ""),
        ("class_1/001.mp4", "run", "val", "", ""),
        ("class_0/002.mp4", "jump", "train", "0", "0.25"),
        ("class_0/002.mp4", "run", "train", "0.25", ""),
        ("class_0/000.mp4", "run", "train", "", ""),
        ("class_1/003.mp4", "run", "train", "", ""),
        ("class_1/003.mp4", "jump", "train", "", ""),
        ("class_0/gone.mp4", "run", "train", "", ""),
        ("class_0/004.mp4", "", "train", "", ""),
        ("class_1/005.mp4", "run", "train", "2", "1"),
        ("../raw2/secret.mp4", "run", "train", "", ""),
    ]
    text = "path,label,split,start,end\n" + "".join(",".join(row) + "\n" for row in rows)
    (tmp_path / "table.csv").write_text(text)
    out = tmp_path / "out"
    report = make(root, out, index=str(tmp_path / "table.csv")).report
    reasons = {line["path"]: line["reason"] for line in lines_of(out / "dropped.jsonl")}
    wanted = {
        "class_1/003.mp4": "listed twice, as run in train and jump in train",
        "class_0/gone.mp4": "listed, but is not there",
        "class_0/004.mp4": "has no label, though others have",
        "class_1/005.mp4": "nothing lies between 2 and 1",
        "../raw2/secret.mp4": "lies outside of raw",
    }
    assert reasons.keys() == wanted.keys()
    assert all(words in reasons[path] for path, words in wanted.items())
    assert {name: split["videos"] for name, split in report["splits"].items()} == {"train": 3, "validation": 1}
    assert labels_by_path(out) == {
        "class_0/000.mp4": "run",
        "class_0/002.mp4@0-0.25": "jump",
        "class_0/002.mp4@0.25-": "run",
    }
    assert labels_by_path(out, "validation") == {"class_1/001.mp4": "run"}
    frames = {line["row"]["id"]: line["row"]["made"]["num_frames"] for line in lines_of(out / "videos.jsonl")}
    assert frames["class_0/002.mp4@0-0.25"] + frames["class_0/002.mp4@0.25-"] == 24
    assert open_source(str(out), split="validation").class_names == ["jump", "run"]


def test_split_folders_become_splits(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw" / "train", count=4)
    write_folder(tmp_path / "raw" / "val", count=2)
    make(tmp_path / "raw", tmp_path / "out", trim=Trim(end=0.3))
    assert len(labels_by_path(tmp_path / "out")) == 4
    assert labels_by_path(tmp_path / "out", "validation") == {
        f"val/class_{index}/00{index}.mp4": f"class_{index}" for index in range(2)
    }
    assert "cut to the seconds 0 to 0.3" in (tmp_path / "out" / "README.md").read_text()


def test_report_says_why_there_are_no_labels(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "raw", count=2)
    (root / "stray.mp4").write_bytes(MotionSource()[0].video)
    report = make(root, tmp_path / "out").report
    assert report["unlabelled"] == "1 videos lie in no class folder, the first is stray.mp4"
    source = open_source(str(tmp_path / "out"))
    assert source.class_names is None and source.num_samples == 3
    assert "task_categories" not in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("kind", "texts", "labels"),
    [
        ("multi_label_classification", ["run|jump", "jump"], [(0, 1), (0,)]),
        ("regression", ["1.5", "-2"], [1.5, -2.0]),
    ],
)
def test_several_classes_and_numbers_as_labels(tmp_path: Path, kind: Any, texts: list[str], labels: list[Any]) -> None:
    root = write_folder(tmp_path / "raw", count=2)
    rows = [f"class_{index}/00{index}.mp4,{text}\n" for index, text in enumerate(texts)]
    (root / "index.csv").write_text("path,label\n" + "".join(rows))
    make(root, tmp_path / "out", label_kind=kind, num_shards=1)
    source = open_source(str(tmp_path / "out"), label_kind=kind, require_labels=True)
    assert sorted(sample.label for sample in source.read_shard(0)) == sorted(labels)  # type: ignore[union-attr]
    with pytest.raises(DataError, match="WebDataset holds one class per video"):
        make(root, tmp_path / "tar", label_kind=kind, format="webdataset")


def test_parquet_dataset_is_prepared(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "raw", rows=(3, 2), bad=(1,))
    report = make(source, tmp_path / "out").report
    assert (report["kept"], report["dropped"]) == (4, 1)
    assert lines_of(tmp_path / "out" / "dropped.jsonl")[0]["path"] == "data/train-00000-of-00002.parquet#1"
    expected = {
        f"data/train-0000{shard}-of-00002.parquet#{row}": MotionSource(split="validation").class_names[place]
        for place, (shard, row) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)])
        if place != 1
    }
    assert labels_by_path(tmp_path / "out") == expected
    assert make(source, tmp_path / "out").is_unchanged


# Shards.


def test_choose_num_shards() -> None:
    def chosen(videos: int, megabytes: int) -> int:
        return choose_num_shards(videos, megabytes * 10**6, shard_bytes=10**8)

    assert [chosen(1, 1), chosen(3, 1), chosen(8, 1), chosen(83, 2), chosen(1000, 10)] == [1, 1, 2, 16, 16]
    assert [chosen(10**5, 10_000), chosen(10**5, 10_050), chosen(2, 900)] == [104, 104, 2]


def test_shards_have_equal_size_and_mixed_classes(tmp_path: Path) -> None:
    from hf_videomae.prepare.shards import PreparedVideo
    from hf_videomae.video.encoding import EncodedVideo

    def row(number: int) -> PreparedVideo:
        made = EncodedVideo(num_frames=1, fps=25, height=2, width=2, num_bytes=1000 + number * 7919 % 5000)
        return PreparedVideo(id=f"{number:04d}", split="train", label=number // 100, stamp="", trim=None, made=made)

    rows = [row(number) for number in range(400)]
    shards = plan_shards(rows, format="parquet", shard_bytes=10**8, num_shards=None)
    sizes = [shard.num_bytes for shard in shards]
    assert len(shards) == 16 and max(sizes) < 1.02 * min(sizes)
    assert sorted(entry.id for shard in shards for entry in shard.rows) == [entry.id for entry in rows]
    assert all(len({entry.label for entry in shard.rows[:8]}) > 1 for shard in shards)
    again = plan_shards(rows[::-1], format="parquet", shard_bytes=10**8, num_shards=None)
    assert [[entry.id for entry in shard.rows] for shard in again] == [[e.id for e in shard.rows] for shard in shards]


def test_row_groups_stay_below_their_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    from hf_videomae.prepare import shards

    monkeypatch.setattr(shards, "_ROW_GROUP_BYTES", 1)
    make(write_folder(tmp_path / "raw", count=3), tmp_path / "out")
    (path,) = (tmp_path / "out" / "data").iterdir()
    assert parquet.ParquetFile(path).num_row_groups == 3
    assert len(list(open_source(str(tmp_path / "out")).read_shard(0))) == 3  # type: ignore[union-attr]


# Errors.


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        status = main(["prepare", *map(str, arguments)])
    except SystemExit as stop:
        status = int(stop.code or 0)
    output, errors = capsys.readouterr()
    return status, output, errors


def test_command_reports_what_it_did(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (raw, tmp_path / "out", "--short_side", 32, "--trim", "0:0.5")
    status, output, _ = run_command(capsys, *arguments)
    assert status == 0
    assert "train: 9 videos" in output and "in 2 shards of" in output
    assert "enough for 2 processes with shards of their own" in output
    assert "left out: 1 of 14: it is empty (0 bytes)" in output and "9 of 14 videos" in output
    status, output, _ = run_command(capsys, *arguments)
    assert status == 0 and "up to date, nothing was done" in output


def test_user_errors_are_one_line(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("x")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.mp4").write_text("no video")
    (tmp_path / "bad.csv").write_text("clips,label\na,b\n")
    make(write_folder(tmp_path / "few", count=2), tmp_path / "done")
    mistakes = [
        ((tmp_path / "nowhere", "out"), "there is no folder"),
        ((raw, tmp_path / "mine"), "holds other files (thesis.txt, ...)"),
        ((raw, tmp_path / "file"), "is a file; give a folder"),
        ((raw, raw / "out"), "lies within"),
        ((tmp_path / "mine", tmp_path / "x"), "holds no videos"),
        ((tmp_path / "bad", tmp_path / "x"), "none of the 1 videos can be used; a.mp4:"),
        ((raw, tmp_path / "x", "--trim", "ten"), "--trim ten is not START:END"),
        ((raw, tmp_path / "x", "--trim", "5:2"), "nothing lies between 5 and 2"),
        ((raw, tmp_path / "x", "--short_side", "4"), "must be 16 pixels or more"),
        ((raw, tmp_path / "x", "--num_shards", "0"), "must be more than 0"),
        ((raw, tmp_path / "x", "--jobs", "0"), "give 1 or more jobs"),
        ((raw, tmp_path / "x", "--index", tmp_path / "bad.csv"), "no column `path` or `file_name`"),
        (
            (raw, tmp_path / "x", "--index", tmp_path / "no.csv"),
            "no.csv cannot be read (No such file or directory)",
        ),
        ((tmp_path / "few", tmp_path / "done", "--short_side", "64"), "made with short_side 32 (now 64)"),
        ((raw, tmp_path / "done", "--short_side", "32"), "made with source few (now raw videos)"),
    ]
    for arguments, words in mistakes:
        status, output, errors = run_command(capsys, *arguments)
        last = errors.strip().splitlines()[-1]
        assert status == 2 and words in last and "Traceback" not in errors, (words, errors)
        assert output == ""
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"


def test_missing_encoder_is_refused_before_writing(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_ffmpeg_program", lambda: None)
    monkeypatch.setattr(encoding._pyav, "unavailable_reason", lambda: "not installed")
    with pytest.raises(VideoBackendError):
        make(raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unfinished_run_with_other_settings_is_refused(raw: Path, tmp_path: Path) -> None:
    make(raw, tmp_path / "other")
    (tmp_path / "out" / ".prepare").mkdir(parents=True)
    begun = {"source": "raw videos", "short_side": 64, "gop": 12, "crf": 23, "start": 0.0, "end": None}
    (tmp_path / "out" / ".prepare" / "unfinished.json").write_text(json.dumps(begun))
    with pytest.raises(DataError, match=r"unfinished run with short_side 64 \(now 32\)"):
        make(raw, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / ".prepare")
    make(raw, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "other")


@pytest.mark.slow
def test_real_dataset(data_dir: Path, tmp_path: Path) -> None:
    report = make(data_dir, tmp_path / "out").report
    assert (report["kept"], report["dropped"]) == (83, 0)
    source = open_source(str(tmp_path / "out"), require_labels=True)
    raw = open_source(str(data_dir), require_labels=True)
    assert source.class_names == raw.class_names and len(labels_by_path(tmp_path / "out")) == 83
