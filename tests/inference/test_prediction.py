"""Test `predict`: inputs, averaged views, and what is refused."""

from pathlib import Path

import pytest
import torch
import transformers

from hf_videomae import VideoMAEForVideoClassification, VideoMAEVideoProcessor, predict
from hf_videomae.video.decoding import VideoDecodeError, open_video
from hf_videomae.video.sampling import ClipSampler
from hf_videomae.video.views import MultiViewConfig, build_views, decode_views
from tests.helpers.models import NAMES, save_model, write_video


def scores(prediction: list) -> torch.Tensor:
    return torch.stack([answer.probabilities for answer in prediction])


def test_one_view_equals_model_and_processor(model_dir: Path, video: Path) -> None:
    (prediction,) = predict(model_dir, video, top_k=2)
    model = VideoMAEForVideoClassification.from_pretrained(model_dir).eval()
    with torch.no_grad():
        logits = model(VideoMAEVideoProcessor.from_pretrained(model_dir)(video)["pixel_values"]).logits
    torch.testing.assert_close(prediction.probabilities, logits.softmax(-1)[0], atol=1e-6, rtol=0)
    best = logits[0].argsort(descending=True)[:2].tolist()
    assert prediction.labels == [NAMES[number] for number in best] and len(prediction.scores) == 2
    assert prediction.video == str(video) and prediction.views == (1, 1)


@pytest.mark.parametrize("views", ["3x1", "2x3"])
def test_views_are_averaged_after_softmax(model_dir: Path, video: Path, views: str) -> None:
    (prediction,) = predict(model_dir, video, views=views, batch_size=4)
    positions, crops = (int(part) for part in views.split("x"))
    clip = ClipSampler(num_frames=8, stride=2, views=positions)
    plan = MultiViewConfig(clip=clip, crops=crops, size=(64, 64), antialias=True)
    model = VideoMAEForVideoClassification.from_pretrained(model_dir).eval()
    with torch.no_grad():
        expected = model(build_views(decode_views(video, plan=plan), plan=plan)).logits.softmax(-1).mean(0)
    torch.testing.assert_close(prediction.probabilities, expected, atol=1e-5, rtol=0)


def test_frames_bytes_and_files_agree(model_dir: Path, video: Path) -> None:
    with open_video(video) as reader:
        frames = reader.frames(range(reader.num_frames))
    by_path = scores(predict(model_dir, video, views="2x3"))
    for same in (frames, frames.permute(0, 2, 3, 1).numpy(), video.read_bytes(), [video.read_bytes()]):
        torch.testing.assert_close(scores(predict(model_dir, same, views="2x3")), by_path, atol=1e-4, rtol=0)
    pair = predict(model_dir, torch.stack([frames, frames.flip(0)]))
    assert [answer.video for answer in pair] == ["<video 0>", "<video 1>"]
    assert not torch.equal(pair[0].probabilities, pair[1].probabilities)
    assert len(predict(model_dir, list(frames))) == 1  # the frames of one video


def test_crops_of_wide_frames_differ(model_dir: Path) -> None:
    frames = torch.randint(0, 256, (8, 3, 80, 160), dtype=torch.uint8)
    first, second = (predict(model_dir, frames, views=views)[0] for views in ("1x1", "1x3"))
    assert (first.probabilities - second.probabilities).abs().max() > 1e-4


def test_folders_and_patterns_expand_in_order(model_dir: Path, tmp_path: Path) -> None:
    for number in range(3):
        write_video(tmp_path / f"{number}.mp4", index=number)
    (tmp_path / "notes.txt").write_text("no video")
    by_folder = predict(model_dir, tmp_path)
    assert [answer.video for answer in by_folder] == [str(tmp_path / f"{number}.mp4") for number in range(3)]
    by_pattern = predict(model_dir, [str(tmp_path / "[12].mp4"), tmp_path / "2.mp4"])
    assert [answer.video for answer in by_pattern] == [str(tmp_path / "1.mp4"), str(tmp_path / "2.mp4")]
    torch.testing.assert_close(scores(by_pattern), scores(by_folder)[1:])


def test_sampling_and_stride_change_the_clip(model_dir: Path, video: Path) -> None:
    plain, dense, uniform = (
        predict(model_dir, video, **settings)[0].probabilities
        for settings in ({}, {"stride": 5}, {"sampling": "uniform"})
    )
    assert not torch.allclose(plain, dense, atol=1e-4) and not torch.allclose(plain, uniform, atol=1e-4)
    processor = VideoMAEVideoProcessor.from_pretrained(model_dir, sampling_mode="uniform")
    torch.testing.assert_close(predict(model_dir, video, processor=processor)[0].probabilities, uniform)


def test_stock_model_gives_the_same_and_multi_label_uses_sigmoid(model_dir: Path, video: Path) -> None:
    stock = transformers.VideoMAEForVideoClassification.from_pretrained(model_dir)
    processor = VideoMAEVideoProcessor.from_pretrained(model_dir)
    (prediction,) = predict(stock, video, processor=processor)
    torch.testing.assert_close(prediction.probabilities, predict(model_dir, video)[0].probabilities, atol=1e-5, rtol=0)
    stock.config.problem_type = "multi_label_classification"
    (several,) = predict(stock, video, processor=processor)
    torch.testing.assert_close(
        several.probabilities.logit() - several.probabilities.logit().mean(),
        prediction.probabilities.log() - prediction.probabilities.log().mean(),
        atol=1e-4,
        rtol=0,
    )


def test_multi_label_probabilities_are_the_mean_sigmoid(video: Path, tmp_path: Path) -> None:
    folder = save_model(tmp_path, problem_type="multi_label_classification")
    (prediction,) = predict(folder, video, views="2x1")
    model = VideoMAEForVideoClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        clips = VideoMAEVideoProcessor.from_pretrained(folder)(video, num_views=2)["pixel_values"]
        expected = model(clips).logits.sigmoid().mean(0)
    torch.testing.assert_close(prediction.probabilities, expected, atol=1e-6, rtol=0)
    assert sorted(prediction.labels) == sorted(NAMES) and prediction.scores == sorted(prediction.scores, reverse=True)


@pytest.mark.parametrize("names", [["age"], ["height", "weight", "age"]])
def test_regression_returns_its_numbers(video: Path, tmp_path: Path, names: list[str]) -> None:
    kind = None if len(names) == 1 else "regression"  # a single output without a word is a number
    folder = save_model(tmp_path, id2label=dict(enumerate(names)), problem_type=kind)
    (prediction,) = predict(folder, video, views="2x1", top_k=1)
    model = VideoMAEForVideoClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        clips = VideoMAEVideoProcessor.from_pretrained(folder)(video, num_views=2)["pixel_values"]
        expected = model(clips).logits.mean(0).tolist()
    assert prediction.labels == names and prediction.scores == pytest.approx(expected, abs=1e-5)
    assert prediction.probabilities is None and prediction.kind == "regression"
    assert prediction.to_dict()["prediction"] == dict(zip(names, prediction.scores, strict=True))
    assert prediction.to_text().startswith(f"{names[0]} {prediction.scores[0]:.6g}")


def test_bad_videos_raise_or_are_kept(model_dir: Path, video: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(video.read_bytes()[:1000])
    with pytest.raises(VideoDecodeError, match="bad.mp4"):
        predict(model_dir, [bad, video])
    first, second = predict(model_dir, [bad, video], keep_going=True)
    assert first.error and not first.labels and second.error is None
    assert first.to_dict() == {"video": str(bad), "error": first.error}
    assert second.to_dict()["predictions"][0]["label"] in NAMES


def test_invalid_models_and_inputs_are_refused(model_dir: Path, video: Path, tmp_path: Path) -> None:
    pretrained = save_model(tmp_path / "pretrained", task="pretraining")
    with pytest.raises(ValueError, match="fine-tune it first"):
        predict(pretrained, video)
    with pytest.raises(ValueError, match="5x3"):
        predict(model_dir, video, views="many")
    with pytest.raises(ValueError, match="top_k"):
        predict(model_dir, video, top_k=0)
    with pytest.raises(ValueError, match="is empty"):
        predict(model_dir, [])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="holds no videos"):
        predict(model_dir, tmp_path / "nothing")


def test_checkpoint_without_processor_file_gets_one(model_dir: Path, video: Path, tmp_path: Path) -> None:
    VideoMAEForVideoClassification.from_pretrained(model_dir).save_pretrained(tmp_path)
    prediction = predict(tmp_path, video, stride=2)[0]
    torch.testing.assert_close(prediction.probabilities, predict(model_dir, video)[0].probabilities)


def test_missing_device_is_refused_before_loading(video: Path) -> None:
    """Name a model that does not exist, so that loading it would fail first."""
    with pytest.raises(ValueError, match="there is no device 'gpu'; give cpu"):
        predict("nowhere", video, device="gpu")
    with pytest.raises(ValueError, match="device cuda:99 cannot be used here"):
        predict("nowhere", video, device="cuda:99")


def test_stride_with_uniform_sampling_is_refused(model_dir: Path, video: Path) -> None:
    with pytest.raises(ValueError, match="stride=2 and uniform sampling"):
        predict(model_dir, video, sampling="uniform", stride=2)


@pytest.mark.fault
def test_url_server_is_logged_without_credentials(caplog: pytest.LogCaptureFixture) -> None:
    from hf_videomae.inference.video_inputs import find_inputs, resolve_videos

    url = "https://anna:s3cret@videos.example.org:8443/a.mp4?id=7&token=s3cret"
    ((name, video),) = resolve_videos(url)
    assert (name, video) == ("https://videos.example.org:8443/a.mp4?id=7&token=TOKEN", url)
    find_inputs([url, "clip.mp4"])
    (message,) = [text for text in map(str, caplog.messages) if "videos.example.org" in text]
    assert "https://videos.example.org:8443," in message
    assert "s3cret" not in caplog.text
