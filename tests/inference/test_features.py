"""Test `extract_features` and `save_features`: pooling, layers, windows, and files that resume."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from hf_videomae import VideoMAEForVideoClassification, VideoMAEModel, VideoMAEVideoProcessor, extract_features
from hf_videomae.inference import FeatureExtractor, load_features, save_features
from hf_videomae.inference import feature_files as storing_module
from hf_videomae.video.decoding import open_video
from tests.helpers.models import save_model, write_video


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("pretrained"), task="pretraining")


def clip_of(folder: Path, video: Path) -> torch.Tensor:
    return VideoMAEVideoProcessor.from_pretrained(folder)(video)["pixel_values"]


def test_pooling_gives_clip_slice_and_token_features(pretrained: Path, video: Path) -> None:
    model = VideoMAEModel.from_pretrained(pretrained).eval()
    with torch.no_grad():
        tokens = model(clip_of(pretrained, video)).last_hidden_state  # 8 frames: 4 slices of 4 x 4 places
    for pool, expected in (
        ("mean", tokens.mean(1)),
        ("frame", tokens.view(1, 4, 16, 128).mean(2)),
        ("token", tokens.view(1, 4, 4, 4, 128)),
    ):
        (result,) = extract_features(pretrained, video, pool=pool)
        torch.testing.assert_close(result.features, expected, atol=1e-5, rtol=0)
        assert result.video == str(video) and result.frames.shape == (1, 8) and result.fps == pytest.approx(12)


def test_layer_selects_hidden_states(pretrained: Path, video: Path) -> None:
    model = VideoMAEModel.from_pretrained(pretrained).eval()
    with torch.no_grad():
        outputs = model(clip_of(pretrained, video), output_hidden_states=True)
    for layer in (0, 1, 2, -2, -4):
        (result,) = extract_features(model, video, layer=layer, processor=processor_of(pretrained))
        expected = outputs.hidden_states[layer].mean(1)
        torch.testing.assert_close(result.features, expected, atol=1e-5, rtol=0)
    last = [extract_features(pretrained, video, layer=layer)[0].features for layer in (3, -1)]
    torch.testing.assert_close(last[0], last[1])
    torch.testing.assert_close(last[0], outputs.last_hidden_state.mean(1), atol=1e-5, rtol=0)


def processor_of(folder: Path) -> VideoMAEVideoProcessor:
    return VideoMAEVideoProcessor.from_pretrained(folder)


def test_mean_of_a_classifier_is_the_input_of_its_head(model_dir: Path, video: Path) -> None:
    model = VideoMAEForVideoClassification.from_pretrained(model_dir).eval()
    (result,) = extract_features(model_dir, video)
    with torch.no_grad():
        expected = model(clip_of(model_dir, video)).logits
        torch.testing.assert_close(model.classifier(result.features), expected, atol=1e-5, rtol=0)
    stock = transformers.VideoMAEForVideoClassification.from_pretrained(model_dir)
    (same,) = extract_features(stock, video, processor=processor_of(model_dir))
    torch.testing.assert_close(same.features, result.features, atol=1e-5, rtol=0)


def test_windows_slide_alike_over_files_and_frames(pretrained: Path, video: Path) -> None:
    (result,) = extract_features(pretrained, video, hop=10, batch_size=2)
    assert result.frames[:, 0].tolist() == [0, 10, 20, 30, 33] and result.frames[-1, -1] == 47
    with open_video(video) as reader:
        frames = reader.frames(range(reader.num_frames))
    (same,) = extract_features(pretrained, frames, hop=10)
    torch.testing.assert_close(same.features, result.features, atol=1e-4, rtol=0)
    for index, window in enumerate(result.frames):
        (one,) = extract_features(pretrained, frames[window])
        torch.testing.assert_close(one.features[0], result.features[index], atol=1e-4, rtol=0)


def test_short_videos_are_padded(pretrained: Path) -> None:
    frames = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    (result,) = extract_features(pretrained, frames, hop=4)
    assert result.frames.tolist() == [[0, 2, 2, 2, 2, 2, 2, 2]]
    (result,) = extract_features(pretrained, frames)
    assert result.frames.tolist() == [[0, 1, 2, 2, 2, 2, 2, 2]]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"pool": "cls"}, "mean, frame, token"), ({"layer": 4}, "3 blocks"), ({"hop": 0}, "hop is 0")],
)
def test_invalid_settings_are_refused(pretrained: Path, video: Path, settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        extract_features(pretrained, video, **settings)


@pytest.mark.parametrize("file_format", ["parquet", "safetensors"])
@pytest.mark.parametrize("pool", ["mean", "token"])
def test_files_hold_the_features_and_resume(pretrained: Path, tmp_path: Path, file_format: str, pool: str) -> None:
    for index in range(5):
        write_video(tmp_path / "clips" / f"{index}.mp4", index=index)
    (tmp_path / "clips" / "bad.mp4").write_bytes(b"broken")
    extractor = FeatureExtractor(pretrained, pool=pool, hop=5)
    settings = {"model": "m", "file_format": file_format, "videos_per_file": 2}

    def interrupted(extractor: FeatureExtractor, names: list[str]):
        def extract(video: str, *, name: str) -> object:
            names.append(name)
            if len(names) == 4:
                raise KeyboardInterrupt
            return extractor(video, name=name)

        extract.settings = extractor.settings  # type: ignore[attr-defined]
        return extract

    with pytest.raises(KeyboardInterrupt):
        save_features(interrupted(extractor, []), [tmp_path / "clips"], tmp_path / "out", **settings)
    names: list[str] = []
    stored = save_features(extractor, [tmp_path / "clips"], tmp_path / "out", progress=names.append, **settings)
    assert (stored.written, stored.skipped, len(stored.bad), len(names)) == (3, 2, 1, 4)
    assert "bad.mp4" in (tmp_path / "out" / "bad_videos.jsonl").read_text()
    result = load_features(tmp_path / "out")
    assert len(result) == 5
    for path, features in result.items():
        torch.testing.assert_close(features, extractor(path).features, atol=1e-6, rtol=0)
    again = save_features(extractor, [tmp_path / "clips"], tmp_path / "out", **settings)
    assert (again.written, again.skipped) == (0, 5)
    assert not list((tmp_path / "out").glob(".unfinished*"))
    facts = json.loads((tmp_path / "out" / "features.json").read_text())
    assert facts["pool"] == pool and facts["hop"] == 5 and facts["model"] == "m"


def test_rows_state_frames_and_seconds(pretrained: Path, video: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    save_features(FeatureExtractor(pretrained, pool="frame", hop=24), [video], tmp_path, model="m")
    table = pandas.read_parquet(tmp_path / "part-00000.parquet")
    assert table["first_frame"].tolist() == [0, 24, 33] and table["last_frame"].tolist() == [14, 38, 47]
    assert table["first_second"].tolist() == pytest.approx([0, 2, 33 / 12])
    assert table["shape"][0].tolist() == [4, 128] and len(table["features"][0]) == 512


def test_features_of_other_settings_are_refused(
    pretrained: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_features(FeatureExtractor(pretrained), [video], tmp_path / "out", model="m")
    with pytest.raises(ValueError, match="layer 3 .now 2."):
        save_features(FeatureExtractor(pretrained, layer=2), [video], tmp_path / "out", model="m")
    with pytest.raises(ValueError, match="holds no features"):
        load_features(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        save_features(FeatureExtractor(pretrained), [video], video, model="m")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match="pip install pyarrow"):
        storing_module.save_features(FeatureExtractor(pretrained), [video], tmp_path / "new", model="m")


def test_weights_and_features_get_the_mode_of_other_files(pretrained: Path, video: Path, tmp_path: Path) -> None:
    """safetensors writes files that only their owner may read."""
    save_features(FeatureExtractor(pretrained), [video], tmp_path, model="m", file_format="safetensors")
    for folder, weights in ((pretrained, "model.safetensors"), (tmp_path, "part-00000.safetensors")):
        modes = {path.stat().st_mode for path in folder.iterdir() if path.is_file()}
        assert (folder / weights).is_file() and len(modes) == 1
