"""Test which files of a folder are videos: by extension, each file once, and the others are counted."""

import json
import subprocess
import tarfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from hf_videomae.data import DataError, MotionSource, Source, StreamedSource, open_source, source_notes
from hf_videomae.data.video_files import VIDEO_EXTENSIONS, is_video_file, scan_folder
from hf_videomae.prepare.scan import open_input_dataset
from hf_videomae.video.decoding import open_video
from tests.helpers.datasets_on_disk import write_folder, write_parquet

pytestmark = pytest.mark.fault


def write(root: Path, *paths: str) -> Path:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return root


# ending: (format for FFmpeg, codec, size)
MADE = {
    ".3g2": ("3g2", "mpeg4", (64, 64)),
    ".3gpp": ("3gp", "mpeg4", (64, 64)),
    ".apng": ("apng", "apng", (64, 64)),
    ".dav": ("h264", "libx264", (64, 64)),
    ".divx": ("avi", "mpeg4", (64, 64)),
    ".f4v": ("mp4", "libx264", (64, 64)),
    ".gif": ("gif", "gif", (64, 64)),
    ".h264": ("h264", "libx264", (64, 64)),
    ".ivf": ("ivf", "libvpx", (64, 64)),
    ".m1v": ("mpeg1video", "mpeg1video", (64, 64)),
    ".m2p": ("mpeg", "mpeg2video", (64, 64)),
    ".m2t": ("mpegts", "mpeg2video", (64, 64)),
    ".m2v": ("mpeg2video", "mpeg2video", (64, 64)),
    ".mjpeg": ("mjpeg", "mjpeg", (64, 64)),
    ".mk3d": ("matroska", "mpeg4", (64, 64)),
    ".mpe": ("mpeg", "mpeg1video", (64, 64)),
    ".mxf": ("mxf", "mpeg2video", (64, 64)),
    ".nut": ("nut", "mpeg4", (64, 64)),
    ".ogm": ("ogg", "libtheora", (64, 64)),
    ".qt": ("mov", "mpeg4", (64, 64)),
    ".vob": ("vob", "mpeg2video", (64, 64)),
    ".wtv": ("wtv", "mpeg2video", (64, 64)),
    ".y4m": ("yuv4mpegpipe", "rawvideo", (64, 64)),
}


@pytest.mark.parametrize("ending", sorted(MADE))
def test_files_with_listed_extensions_decode(tmp_path: Path, ending: str) -> None:
    av = pytest.importorskip("av", reason="the extra hf-videomae[av] is not installed")
    assert ending in VIDEO_EXTENSIONS
    path = tmp_path / f"video{ending}"
    container, codec, (width, height) = MADE[ending]
    if codec != "rawvideo" and codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg does not write {codec}")
    name = "wrapped_avframe" if ending == ".y4m" else codec
    kinds = {"apng": "rgb24", "gif": "rgb8", "mjpeg": "yuvj420p"}
    with av.open(str(path), "w", format=container) as made:
        stream = made.add_stream(name, rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = width, height, kinds.get(codec, "yuv420p")
        for level in range(8):
            frame = av.VideoFrame(width, height, "rgb24")
            for plane in frame.planes:
                plane.update(bytes([20 * level + 40]) * plane.buffer_size)
            made.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        made.mux(stream.encode())
    with open_video(str(path)) as video:
        frames = video.frames([0, video.num_frames - 1]).float()
        assert video.num_frames >= 6 and frames.shape[1:] == (3, height, width)
        assert frames[0].mean() < 70 and frames[1].mean() > 130


def test_skipped_extensions_are_counted(tmp_path: Path) -> None:
    names = [
        "run/0.mp4",
        "jump/0.mp4",
        "run/1.xyz",
        "run/2.xyz",
        "jump/b.braw",
        "run/cover.jpg",
        "run/0.wav",
        "run/noending",
    ]
    root = write(tmp_path, *names, "notes.txt", "README", "labels.json")
    source = open_source(str(root))
    assert isinstance(source, Source) and len(source) == 2
    (note,) = source_notes(source)
    for counted in ("2 .xyz", "1 .braw", "1 .jpg", "1 .wav", "1 without an ending"):
        assert counted in note
    assert ".txt" not in note and ".json" not in note
    raw = open_input_dataset(str(root))
    assert {drop.path: drop.reason for drop in raw.refused}.keys() == {
        "run/1.xyz",
        "run/2.xyz",
        "jump/b.braw",
        "run/noending",
    }
    assert all(".xyz" in drop.reason for drop in raw.refused if drop.path.endswith(".xyz"))
    assert note in raw.notes


@pytest.mark.parametrize(
    "name", ["list.m3u8", "list.mpd", "list.ffconcat", "list.sdp", "page.tif", "page.jpg", "._a.mp4"]
)
def test_playlists_and_images_are_not_videos(tmp_path: Path, name: str) -> None:
    assert not is_video_file(name)
    with pytest.raises(DataError, match="is a video"):
        open_source(str(write(tmp_path, f"run/{name}")))


# Links.


def test_link_to_video_of_same_folder_is_dropped(tmp_path: Path) -> None:
    write(tmp_path, "run/0.mp4", "jump/1.mp4")
    (tmp_path / "run" / "again.mp4").symlink_to(tmp_path / "run" / "0.mp4")
    scan = scan_folder(tmp_path)
    assert scan.videos == ["jump/1.mp4", "run/0.mp4"] and scan.duplicate_links == ["run/again.mp4"]
    assert any("run/again.mp4" in note for note in source_notes(open_source(str(tmp_path))))


def test_links_into_store_keep_classes(tmp_path: Path) -> None:
    write(tmp_path, "all/0.mp4", "all/1.mp4")
    for name, number in (("run", 0), ("jump", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{number}.mp4").symlink_to(tmp_path / "all" / f"{number}.mp4")
    assert scan_folder(tmp_path).videos == ["jump/1.mp4", "run/0.mp4"]
    source = open_source(str(tmp_path), require_labels=True)
    assert source.class_names == ["jump", "run"]


def test_links_to_files_elsewhere_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "store", "a.mp4")
    for name in ("run", "jump"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "a.mp4").symlink_to(tmp_path / "store" / "a.mp4")
    assert scan_folder(tmp_path / "set").videos == ["jump/a.mp4", "run/a.mp4"]


# Pictures of frames.


@pytest.mark.parametrize("pattern", ["img_%05d.jpg", "%d.jpg"])
def test_folder_of_frames_raises_with_working_command(tmp_path: Path, pattern: str) -> None:
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    for video in ("run/a", "jump/b"):
        (tmp_path / "set" / video).mkdir(parents=True)
        for number in range(1, 12):
            level = 20 * number
            image.new("RGB", (65, 33), (level, level, level)).save(tmp_path / "set" / video / (pattern % number))
    root = str(tmp_path / "set")
    with pytest.raises(DataError, match="22 images") as caught:
        open_source(root)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="22 images"):
        open_input_dataset(root)
    command = str(caught.value).split("give the folder again: ")[1]
    if subprocess.run(["bash", "-c", "command -v ffmpeg"], capture_output=True).returncode:
        pytest.skip("the command ffmpeg is not installed")
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)
    source = open_source(root, require_labels=True)
    assert isinstance(source, Source) and [source[index].id for index in range(2)] == ["jump/b.mp4", "run/a.mp4"]
    with open_video(source[0].video) as video:
        brightness = video.frames(range(video.num_frames)).float().mean(dim=(1, 2, 3))
    assert len(brightness) == 11 and (brightness.diff() > 0).all()


# Shards.


def test_shards_at_any_depth_and_splits_in_any_case(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a", rows=(3,))
    write_parquet(tmp_path / "b", rows=(2,))
    for source, target in (("a", "deep/en/x/Train/0.parquet"), ("b", "deep/en/x/Test/0.parquet")):
        (tmp_path / target).parent.mkdir(parents=True)
        next((tmp_path / source).rglob("*.parquet")).rename(tmp_path / target)
    for split, count in (("train", 3), ("test", 2)):
        found = open_source(str(tmp_path / "deep"), split=split, require_labels=True)
        assert isinstance(found, StreamedSource)
        assert [sample.id for sample in found.read_shard(0)] == [
            f"en/x/{split.title()}/0.parquet#{row}" for row in range(count)
        ]
        assert "Test/ is test" in source_notes(found)[0]


def test_nested_tar_files_are_streamed(tmp_path: Path) -> None:
    (tmp_path / "set" / "a" / "b").mkdir(parents=True)
    (tmp_path / "clip.mp4").write_bytes(MotionSource()[0].video)
    with tarfile.open(tmp_path / "set" / "a" / "b" / "000.tar", "w") as tar:
        tar.add(tmp_path / "clip.mp4", "clip.mp4")
    source = open_source(str(tmp_path / "set"))
    assert isinstance(source, StreamedSource)
    assert [sample.id for sample in source.read_shard(0)] == ["a/b/000.tar/clip"]


def test_save_to_disk_folders_are_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra hf-videomae[train] is not installed")
    features = datasets.Features({"video": datasets.Video(), "label": datasets.ClassLabel(names=["run", "jump"])})
    videos = [MotionSource()[index].video for index in range(3)]
    columns = {"video": [{"bytes": video, "path": None} for video in videos], "label": [0, 1, 0]}
    whole = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict({"train": whole, "val": whole.select([1])}).save_to_disk(tmp_path / "both")
    whole.save_to_disk(tmp_path / "one", num_shards=2)
    # Cache files of `map` are not part of the data.
    (tmp_path / "one" / "cache-0123.arrow").write_bytes((tmp_path / "one" / "data-00000-of-00002.arrow").read_bytes())
    for path, split, labels in (
        ("both", "train", [0, 1, 0]),
        ("both", "validation", [1]),
        ("one", "train", [0, 1, 0]),
    ):
        source = open_source(str(tmp_path / path), split=split, require_labels=True)
        assert isinstance(source, StreamedSource) and source.class_names == ["run", "jump"]
        samples = [sample for shard in range(source.num_shards) for sample in source.read_shard(shard)]
        assert [sample.label for sample in samples] == labels
        assert samples[0].video == videos[labels[0]]
    with pytest.raises(DataError, match="no split 'test'"):
        open_source(str(tmp_path / "one"), split="test")


@pytest.mark.fault
@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("dataset_dict.json", {"splits": ["../outside"]}),
        ("dataset_dict.json", {"splits": ["/outside"]}),
        ("dataset_dict.json", {"splits": ["a\0b"]}),
        ("dataset_dict.json", {"splits": [None, 3, {}]}),
        ("state.json", {"_data_files": ["x", 5]}),
        ("state.json", {"_data_files": [{"filename": "../outside.arrow"}]}),
        ("state.json", {"_data_files": [{"filename": ["x"]}]}),
    ],
)
def test_save_to_disk_lists_only_names_of_its_folder(tmp_path: Path, file: str, values: dict[str, Any]) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "outside.arrow").write_bytes(b"0")
    (tmp_path / "set" / "dataset_info.json").write_text("{}")
    (tmp_path / "set" / file).write_text(json.dumps(values))
    with pytest.raises(DataError, match="save_to_disk") as caught:
        open_source(str(tmp_path / "set"))
    assert str(tmp_path / "set") in str(caught.value) and "\0" not in str(caught.value)


def test_videos_next_to_shards_win(tmp_path: Path) -> None:
    write_folder(tmp_path, count=2)
    (tmp_path / "facts.parquet").write_bytes(b"PAR1")
    source = open_source(str(tmp_path))
    assert isinstance(source, Source) and "1 .parquet" in source_notes(source)[0]
