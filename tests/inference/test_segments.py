"""Test segments of an index file in features, predictions, evaluations and probes."""

from pathlib import Path

import pytest
import torch

import hf_videomae
from hf_videomae import VideoMAEForVideoClassification, VideoMAEModel, VideoMAEVideoProcessor
from hf_videomae.cli import main
from hf_videomae.data import open_source
from hf_videomae.evaluation import evaluate
from hf_videomae.evaluation.frozen_features import AugmentedClips, EvalClips, extract_frozen_features
from hf_videomae.inference import load_features
from hf_videomae.video.decoding import open_video
from hf_videomae.video.segments import VideoSegment
from tests.helpers.models import NAMES, write_video

pytestmark = pytest.mark.fault

# Two motion clips of 24 frames, one after the other, at 12 frames per second.
CUT = 2.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_video(tmp_path / "set" / "two.mp4", repeat=2)
    with open_video(tmp_path / "set" / "two.mp4") as reader:
        assert (reader.num_frames, reader.fps) == (48, 12)
    rows = [f"two.mp4,{NAMES[0]},,{CUT}", f"two.mp4,{NAMES[1]},{CUT},", f"two.mp4,{NAMES[2]},,"]
    (tmp_path / "set" / "index.csv").write_text("path,label,start,end\n" + "\n".join(rows) + "\n")
    return tmp_path / "set"


def frames_of(folder: Path, start: int, end: int) -> torch.Tensor:
    with open_video(folder / "two.mp4") as reader:
        return reader.frames(range(start, end)).contiguous()


def test_predict_and_features_take_segments(model_dir: Path, folder: Path) -> None:
    second = VideoSegment(folder / "two.mp4", start=CUT)
    (result,) = hf_videomae.extract_features(model_dir, second)
    (expected,) = hf_videomae.extract_features(model_dir, frames_of(folder, 24, 48))
    torch.testing.assert_close(result.features, expected.features)
    assert result.video == f"{folder / 'two.mp4'}@2-" and result.frames.max() < 24
    for views in ("1x1", "2x3"):
        (answer,) = hf_videomae.predict(model_dir, [second], views=views)
        (same,) = hf_videomae.predict(model_dir, frames_of(folder, 24, 48), views=views)
        torch.testing.assert_close(answer.probabilities, same.probabilities)


def test_commands_read_segments_of_folders_and_lists(model_dir: Path, folder: Path, capsys) -> None:
    names = [f"{folder / 'two.mp4'}@0-2", f"{folder / 'two.mp4'}@2-", str(folder / "two.mp4")]
    out = folder.parent / "features"
    assert main(["features", "--model", str(model_dir), str(folder), "--output_dir", str(out)]) == 0
    stored = load_features(out)
    assert sorted(stored) == sorted(names)
    (expected,) = hf_videomae.extract_features(model_dir, frames_of(folder, 0, 24))
    torch.testing.assert_close(stored[names[0]], expected.features)
    capsys.readouterr()
    assert main(["predict", "--model", str(model_dir), str(folder / "index.csv")]) == 0
    assert [line.split("  ")[0].strip() for line in capsys.readouterr().out.splitlines()] == names


def test_evaluation_and_probes_read_segments(model_dir: Path, folder: Path) -> None:
    source = open_source(str(folder), require_labels=True)
    classifier = VideoMAEForVideoClassification.from_pretrained(model_dir).eval()
    processor = VideoMAEVideoProcessor.from_pretrained(model_dir)
    result = evaluate(classifier, source, processor=processor, views="1x1")
    assert result.sample_ids == ["two.mp4@0-2", "two.mp4@2-", "two.mp4"]
    clips = EvalClips(processor)
    with torch.no_grad():
        for index, window in enumerate([(0, 24), (24, 48), (0, 48)]):
            pixels = processor(frames_of(folder, *window), return_tensors="pt")["pixel_values"]
            torch.testing.assert_close(clips(source[index]), pixels)
    encoder = VideoMAEModel.from_pretrained(model_dir)
    frozen = extract_frozen_features(encoder, source, clips=AugmentedClips(processor))
    assert len({tuple(row.flatten().tolist()) for row in frozen.features}) == 3


def test_segment_past_the_end_is_a_bad_video(model_dir: Path, folder: Path) -> None:
    (folder / "index.csv").write_text(f"path,label,start,end\ntwo.mp4,{NAMES[0]},0,1\ntwo.mp4,{NAMES[1]},60,70\n")
    classifier = VideoMAEForVideoClassification.from_pretrained(model_dir).eval()
    processor = VideoMAEVideoProcessor.from_pretrained(model_dir)
    source = open_source(str(folder))
    (failed,) = evaluate(classifier, source, processor=processor, views="1x1").failed
    assert "its segment starts at 60 s" in failed.reason and failed.path == str(folder / "two.mp4")


def test_text_file_among_others_is_a_bad_video(model_dir: Path, folder: Path, capsys) -> None:
    (folder / "notes.txt").write_text("see the other folder\n")
    assert main(["predict", "--model", str(model_dir), str(folder / "two.mp4"), str(folder / "notes.txt")]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(SystemExit):
        main(["predict", "--model", str(model_dir), str(folder / "notes.txt")])
    assert "nor a list of videos" in capsys.readouterr().err
