"""Test VideoMAEVideoProcessor: the numbers of stock transformers, every form of input, every form of file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil
from transformers.video_utils import VideoMetadata

from hf_videomae import VideoMAEConfig, VideoMAEVideoProcessor
from hf_videomae.video.decoding import VideoDecodeError, open_video

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# One gray level after normalization with the smallest deviation: what Pillow loses by rounding to bytes twice.
ONE_LEVEL = 1 / 255 / 0.224

# The forms in which VideoMAE checkpoints have been published, oldest first.
FEATURE_EXTRACTOR = {
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "VideoMAEFeatureExtractor",
    "image_mean": MEAN,
    "image_std": STD,
    "resample": 2,
    "size": 224,
}
BOTH_TYPES = {
    **FEATURE_EXTRACTOR,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "image_processor_type": "VideoMAEImageProcessor",
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 224},
}
IMAGE_PROCESSOR = {name: value for name, value in BOTH_TYPES.items() if name != "feature_extractor_type"}
STOCK_VIDEO_PROCESSOR = {
    **{name: value for name, value in IMAGE_PROCESSOR.items() if name != "image_processor_type"},
    "data_format": "channels_first",
    "default_to_square": False,
    "do_convert_rgb": True,
    "do_sample_frames": False,
    "return_metadata": False,
    "video_processor_type": "VideoMAEVideoProcessor",
}


def smooth_frames(count: int, height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Return (T, H, W, 3) uint8 frames with gradients and edges, each different from the next."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    slopes = generator.uniform(0.3, 1.2, size=(count, 3, 2))
    frames = [[(rows * a + columns * b + 40 * time) % 256 for a, b in slopes[time]] for time in range(count)]
    return np.array(frames).transpose(0, 2, 3, 1).astype(np.uint8)


def pictures(frames: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in frames]


def tiny(**settings: Any) -> VideoMAEVideoProcessor:
    return VideoMAEVideoProcessor(**{"size": 32, "num_frames": 8, "frame_stride": 2, **settings})


# Numbers


@pytest.mark.parametrize("resample", [2, 3], ids=["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240), (225, 401), (180, 240)])
def test_pixels_match_stock(height: int, width: int, resample: int) -> None:
    frames = smooth_frames(16, height, width)
    reference = VideoMAEImageProcessorPil(image_mean=MEAN, image_std=STD, resample=resample)
    stock = reference(pictures(frames), return_tensors="pt")
    ours = VideoMAEVideoProcessor(resample=resample)(pictures(frames))
    difference = (stock["pixel_values"] - ours["pixel_values"]).abs()
    assert ours["pixel_values"].shape == (1, 16, 3, 224, 224)
    assert difference.max() < 1.5 * ONE_LEVEL
    assert difference.mean() < 0.3 * ONE_LEVEL


def test_pixels_equal_stock_at_the_models_size() -> None:
    frames = smooth_frames(16, 224, 224)
    stock = VideoMAEImageProcessorPil(image_mean=MEAN, image_std=STD)(pictures(frames), return_tensors="pt")
    torch.testing.assert_close(
        VideoMAEVideoProcessor()(frames)["pixel_values"], stock["pixel_values"], rtol=0, atol=1e-6
    )


def test_numbers_match_a_hand_computed_case() -> None:
    frames = torch.full((8, 3, 40, 60), 51, dtype=torch.uint8)
    pixels = tiny()(frames)["pixel_values"]
    expected = [(0.2 - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    torch.testing.assert_close(pixels, torch.tensor(expected).view(1, 1, 3, 1, 1).expand_as(pixels))
    assert pixels.dtype == torch.float32


def test_short_side_is_resized_then_center_cropped() -> None:
    frames = torch.zeros(8, 3, 32, 96, dtype=torch.uint8)
    frames[..., 32:64] = 255
    assert tiny(do_normalize=False)(frames)["pixel_values"].eq(1).all()


def test_rectangular_models_are_filled_not_padded() -> None:
    config = VideoMAEConfig.from_preset("tiny", image_size=(32, 64))
    processor = VideoMAEVideoProcessor.from_config(config, do_normalize=False)
    for height, width in [(100, 100), (40, 200), (200, 40)]:
        pixels = processor(torch.full((8, 3, height, width), 255, dtype=torch.uint8))["pixel_values"]
        assert pixels.shape == (1, 8, 3, 32, 64)
        torch.testing.assert_close(pixels, torch.ones_like(pixels))


# What may come in


def test_all_forms_of_decoded_frames_agree() -> None:
    frames = smooth_frames(8, 40, 60)
    first = torch.from_numpy(frames).movedim(-1, 1)
    processor = tiny()
    expected = processor(frames)["pixel_values"]
    forms: list[Any] = [
        first,
        first.numpy(),
        torch.from_numpy(frames),
        pictures(frames),
        list(frames),
        list(first),
        [frames],
        [pictures(frames)],
        first[None],
        frames[None],
        first.float(),
        first.to(torch.int64),
        frames.astype(np.float64),
    ]
    for form in forms:
        torch.testing.assert_close(processor(form)["pixel_values"], expected, rtol=0, atol=1e-5)


def test_flipped_and_read_only_arrays() -> None:
    frames = smooth_frames(8, 40, 60)
    flipped = np.ascontiguousarray(frames[..., ::-1])
    expected = tiny()(flipped)["pixel_values"]
    torch.testing.assert_close(tiny()(frames[..., ::-1])["pixel_values"], expected)
    torch.testing.assert_close(tiny()(list(frames[..., ::-1]))["pixel_values"], expected)
    torch.testing.assert_close(tiny()(flipped.astype(np.uint16))["pixel_values"], expected)
    flipped.flags.writeable = False
    torch.testing.assert_close(tiny()(flipped)["pixel_values"], expected)


def test_a_batch_keeps_its_order() -> None:
    one, two = smooth_frames(8, 40, 60, seed=1), smooth_frames(8, 50, 40, seed=2)
    processor = tiny()
    both = processor([one, pictures(two)])["pixel_values"]
    assert both.shape == (2, 8, 3, 32, 32)
    torch.testing.assert_close(both[0], processor(one)["pixel_values"][0])
    torch.testing.assert_close(both[1], processor(two)["pixel_values"][0])


def test_gray_is_repeated() -> None:
    gray = smooth_frames(8, 40, 60)[..., 0]
    processor = tiny()
    color = processor(np.repeat(gray[..., None], 3, axis=-1))["pixel_values"]
    for form in (gray, gray[:, None], gray[..., None], list(gray), [Image.fromarray(frame) for frame in gray]):
        torch.testing.assert_close(processor(form)["pixel_values"], color)


def test_other_channel_counts_are_converted() -> None:
    gray = tiny(image_mean=[0.5], image_std=[0.5])
    frames = smooth_frames(8, 32, 32)
    assert gray(frames)["pixel_values"].shape == (1, 8, 1, 32, 32)
    torch.testing.assert_close(
        gray(frames)["pixel_values"], gray(pictures(frames))["pixel_values"], rtol=0, atol=1.01 / 255 / 0.5
    )
    five = tiny(image_mean=[0.5] * 5, image_std=[0.5] * 5)
    assert five(torch.zeros(8, 40, 40, 5, dtype=torch.uint8))["pixel_values"].shape == (1, 8, 5, 32, 32)
    with pytest.raises(ValueError, match="3 channels came for 5"):
        five(frames)


def test_input_data_format_sets_the_layout() -> None:
    frames = torch.zeros(8, 3, 40, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="input_data_format"):
        tiny()(frames)
    assert tiny()(frames, input_data_format="channels_first")["pixel_values"].shape == (1, 8, 3, 32, 32)


def test_a_second_rescale_is_refused_with_a_warning() -> None:
    frames = torch.from_numpy(smooth_frames(8, 40, 60))
    processor = tiny()
    with pytest.warns(UserWarning, match="not rescaled a second time"):
        again = processor(frames / 255)["pixel_values"]
    torch.testing.assert_close(again, processor(frames)["pixel_values"], rtol=0, atol=1e-5)
    with pytest.warns(UserWarning, match="normalized already"):
        processor(torch.randn(8, 3, 40, 60))


def test_dark_uint8_frames_are_rescaled(recwarn: pytest.WarningsRecorder) -> None:
    pixels = tiny(do_normalize=False)(torch.ones(8, 3, 40, 60, dtype=torch.uint8))["pixel_values"]
    torch.testing.assert_close(pixels, torch.full_like(pixels, 1 / 255))
    assert not recwarn.list


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([], "empty list"),
        (7, "int is no video"),
        (torch.zeros(3, 3), "no video"),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 9, 9)], "one shape"),
        (torch.zeros(8, 7, 40, 40), "does not tell"),
        (torch.zeros(8, 4, 40, 40), "4 channels came for 3"),
        (torch.full((8, 3, 40, 40), 1023, dtype=torch.int32), "outside 8 bits"),
        (torch.zeros(0, 3, 40, 40), "came; give"),
        ([["not", "frames"]], "frame of type str"),
    ],
)
def test_invalid_input_is_refused(bad: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny()(bad)


def test_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="make no batch"):
        tiny(do_center_crop=False)([smooth_frames(8, 40, 60), smooth_frames(8, 40, 80)])


# Sampling


def numbered(count: int) -> torch.Tensor:
    """Write a video whose frame i has gray level i."""
    return torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)


def seen(processor: VideoMAEVideoProcessor, video: Any, **settings: Any) -> list[list[int]]:
    pixels = processor(video, do_normalize=False, **settings)["pixel_values"]
    return (pixels[:, :, 0, 0, 0] * 255).round().int().tolist()


def test_exactly_num_frames_are_the_clip() -> None:
    assert seen(tiny(), numbered(8)) == [list(range(8))]


def test_longer_videos_are_sampled() -> None:
    processor = tiny()
    (frames,) = seen(processor, numbered(100))
    assert frames == processor.clip_sampler.test_indices(100)[0]
    # The published window of 8 x 2 frames, both ends included, in the middle of the video.
    assert frames == [42, 44, 46, 48, 51, 53, 55, 57]


def test_shorter_videos_repeat_their_last_frame() -> None:
    assert seen(tiny(), numbered(5)) == [[0, 1, 2, 3, 4, 4, 4, 4]]


def test_sampling_can_be_turned_off() -> None:
    assert seen(tiny(), numbered(5), do_sample_frames=False) == [[0, 1, 2, 3, 4]]


def test_views_follow_each_other() -> None:
    processor = tiny(num_views=3)
    videos = [numbered(60), numbered(8), numbered(4)]
    clips = seen(processor, videos)
    assert len(clips) == 9
    assert clips[:3] == processor.clip_sampler.test_indices(60)
    assert clips[3:6] == [list(range(8))] * 3
    assert clips[6:] == [[0, 1, 2, 3, 3, 3, 3, 3]] * 3
    starts = [clip[0] for clip in clips[:3]]
    assert starts == sorted(set(starts))


@pytest.fixture(scope="module")
def video_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a short H.264 file, 40 frames of 64x48 that get brighter."""
    av = pytest.importorskip("av", reason="the extra hf-videomae[av] is not installed")
    path = tmp_path_factory.mktemp("video") / "brighter.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * index, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_files_bytes_and_decoders_agree(video_file: Path) -> None:
    decoders = pytest.importorskip("torchcodec.decoders")
    processor = tiny()
    with open_video(str(video_file)) as reader:
        decoded = reader.frames(range(40))
    expected = processor(decoded)["pixel_values"]
    forms: list[Any] = [
        video_file,
        str(video_file),
        video_file.read_bytes(),
        {"bytes": video_file.read_bytes(), "path": None},
        {"bytes": None, "path": str(video_file)},
        decoders.VideoDecoder(str(video_file)),
        decoders.VideoDecoder(str(video_file), dimension_order="NHWC"),
    ]
    for form in forms:
        torch.testing.assert_close(processor(form)["pixel_values"], expected)
    with open(video_file, "rb") as stream:
        torch.testing.assert_close(processor(stream)["pixel_values"], expected)
    torch.testing.assert_close(processor([video_file, decoded])["pixel_values"], torch.cat([expected, expected]))


def test_rows_of_datasets_are_read(video_file: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra hf-videomae[train] is not installed")
    rows = datasets.Dataset.from_dict({"video": [str(video_file)]})
    expected = tiny()(video_file)["pixel_values"]
    for decode in (True, False):
        row = rows.cast_column("video", datasets.Video(decode=decode))[0]["video"]
        torch.testing.assert_close(tiny()(row)["pixel_values"], expected)


def test_real_files_are_read(clips_dir: Path) -> None:
    processor = tiny()
    files = [path for path in sorted(clips_dir.iterdir()) if path.suffix in (".mp4", ".avi", ".mkv", ".mov", ".webm")]
    assert len(files) == 20
    pixels = processor(files)["pixel_values"]
    assert pixels.shape == (20, 8, 3, 32, 32)
    assert pixels.isfinite().all()


def test_packed_frames_behind_a_decoder_are_read_or_refused(data_dir: Path) -> None:
    """Some containers count more frames than decode: our decoding reads them; another decoder may not."""
    decoders = pytest.importorskip("torchcodec.decoders")
    path = sorted(data_dir.rglob("*.avi"))[0]
    processor = tiny(num_frames=16, sampling_mode="uniform")
    expected = processor(path)["pixel_values"]
    assert expected.shape == (1, 16, 3, 32, 32)
    try:
        seen = processor(decoders.VideoDecoder(str(path)))["pixel_values"]
    except VideoDecodeError as error:
        assert "path or bytes" in str(error)
    else:
        assert seen.shape == expected.shape


def test_several_views_of_a_file(video_file: Path) -> None:
    processor = tiny(num_views=2, do_normalize=False)
    brightness = processor(video_file)["pixel_values"].mean(dim=(2, 3, 4)) * 255 / 5
    assert brightness.round().int().tolist() == processor.clip_sampler.test_indices(40)


def test_frame_seconds_samples_by_time(video_file: Path) -> None:
    processor = tiny(frame_seconds=0.2)
    for rate, stride in ((10, 2), (25.0, 5), (4, 1)):
        expected = tiny(frame_stride=stride).clip_sampler.test_indices(100)
        for metadata in ({"fps": rate}, [VideoMetadata(total_num_frames=100, fps=rate)]):
            assert seen(processor, numbered(100), video_metadata=metadata) == expected
    with open_video(video_file) as reader:
        stride = round(0.2 * reader.fps)
    assert stride not in (1, 2)
    torch.testing.assert_close(
        processor(video_file)["pixel_values"], tiny(frame_stride=stride)(video_file)["pixel_values"]
    )


def test_frame_seconds_needs_a_rate() -> None:
    processor = tiny(frame_seconds=0.2)
    with pytest.raises(ValueError, match="100 frames came: its frame rate is not known.*video_metadata"):
        processor(numbered(100))
    with pytest.raises(ValueError, match="2 entries for 1 videos"):
        processor(numbered(100), video_metadata=[{"fps": 1}, {"fps": 1}])
    assert seen(processor, numbered(8)) == [list(range(8))]  # a clip already
    assert seen(processor, numbered(100), frame_stride=2) == seen(tiny(), numbered(100))


def test_stride_on_loading_replaces_seconds(tmp_path: Path) -> None:
    tiny(frame_seconds=0.2).save_pretrained(tmp_path)
    assert VideoMAEVideoProcessor.from_pretrained(tmp_path).clip_sampler == tiny(frame_seconds=0.2).clip_sampler
    changed = VideoMAEVideoProcessor.from_pretrained(tmp_path, frame_stride=3)
    assert changed.clip_sampler == tiny(frame_stride=3).clip_sampler


def test_serving_and_training_decode_alike(video_file: Path) -> None:
    """The clip of a file is its frames at the sampler's indices: one sampler for training and serving."""
    processor = tiny()
    with open_video(str(video_file)) as reader:
        clip = reader.frames(processor.clip_sampler.test_indices(reader.num_frames)[0])
    torch.testing.assert_close(processor(video_file)["pixel_values"], processor(clip)["pixel_values"])


def test_bad_file_is_a_decode_error(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("this is no video")
    with pytest.raises(VideoDecodeError, match="text.mp4"):
        tiny()(path)


# Files


@pytest.mark.parametrize(
    "published", [FEATURE_EXTRACTOR, BOTH_TYPES, IMAGE_PROCESSOR], ids=["oldest", "both", "newest"]
)
def test_published_settings_are_read(tmp_path: Path, published: dict[str, Any]) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(published))
    processor = VideoMAEVideoProcessor.from_pretrained(tmp_path)
    assert processor.size == {"shortest_edge": 224}
    assert processor.crop_size == {"height": 224, "width": 224}
    assert (processor.image_mean, processor.image_std) == (MEAN, STD)
    assert processor.clip_sampler == VideoMAEVideoProcessor().clip_sampler
    frames = smooth_frames(16, 240, 320)
    torch.testing.assert_close(processor(frames)["pixel_values"], VideoMAEVideoProcessor()(frames)["pixel_values"])


def test_stock_video_processor_file_is_read_and_samples(tmp_path: Path) -> None:
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(STOCK_VIDEO_PROCESSOR))
    processor = VideoMAEVideoProcessor.from_pretrained(tmp_path)
    assert processor.do_sample_frames
    assert not VideoMAEVideoProcessor.from_pretrained(tmp_path, do_sample_frames=False).do_sample_frames


def test_every_setting_survives_a_round_trip(tmp_path: Path) -> None:
    settings = {
        "do_resize": False,
        "size": {"height": 40, "width": 48},
        "resample": 3,
        "do_center_crop": False,
        "crop_size": {"height": 40, "width": 40},
        "do_rescale": False,
        "rescale_factor": 1 / 127,
        "do_normalize": False,
        "image_mean": [0.1, 0.2],
        "image_std": [0.3, 0.4],
        "do_sample_frames": False,
        "num_frames": 12,
        "frame_stride": 3,
        "sampling_mode": "uniform",
        "num_views": 5,
        "frame_seconds": 0.25,
    }
    files = VideoMAEVideoProcessor(**settings).save_pretrained(tmp_path)
    assert sorted(Path(file).name for file in files) == ["preprocessor_config.json", "video_preprocessor_config.json"]
    again = VideoMAEVideoProcessor.from_pretrained(tmp_path)
    assert {name: getattr(again, name) for name in settings} == settings
    assert again.to_dict() == VideoMAEVideoProcessor(**settings).to_dict()


def test_defaults_are_written(tmp_path: Path) -> None:
    VideoMAEVideoProcessor().save_pretrained(tmp_path)
    written = json.loads((tmp_path / "video_preprocessor_config.json").read_text())
    assert written["image_mean"] == MEAN and written["image_std"] == STD
    assert written["frame_stride"] == 4 and written["num_frames"] == 16
    assert written["video_processor_type"] == "VideoMAEVideoProcessor"


def test_stock_reads_our_image_processor_file(tmp_path: Path) -> None:
    from transformers import AutoImageProcessor

    VideoMAEVideoProcessor(size=112, frame_seconds=0.25).save_pretrained(tmp_path)
    frames = smooth_frames(16, 112, 112)
    for stock in (VideoMAEImageProcessorPil.from_pretrained(tmp_path), AutoImageProcessor.from_pretrained(tmp_path)):
        assert type(stock).__module__.startswith("transformers.")
        theirs = stock(pictures(frames), return_tensors="pt")["pixel_values"]
        ours = VideoMAEVideoProcessor.from_pretrained(tmp_path)(frames)["pixel_values"]
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6)


def test_settings_saved_by_stock_are_read(tmp_path: Path) -> None:
    VideoMAEImageProcessorPil(
        image_mean=MEAN, image_std=STD, size={"shortest_edge": 96}, crop_size=96
    ).save_pretrained(tmp_path)
    processor = VideoMAEVideoProcessor.from_pretrained(tmp_path)
    assert processor.size == {"shortest_edge": 96} and processor.crop_size == {"height": 96, "width": 96}


def test_pushing_uploads_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = {}

    def upload(self: Any, working_dir: str, repo_id: str, *args: Any, **kwargs: Any) -> None:
        pushed[repo_id] = sorted(path.name for path in Path(working_dir).iterdir())

    from transformers.utils import hub

    class Api:
        def create_repo(self, repo_id: str, **kwargs: Any) -> Any:
            return type("Repository", (), {"repo_id": repo_id})

    class Card:
        def save(self, path: str) -> None:
            Path(path).write_text("card")

    monkeypatch.setattr(VideoMAEVideoProcessor, "_upload_modified_files", upload)
    monkeypatch.setattr(hub, "hf_api", Api)
    monkeypatch.setattr(hub, "create_and_tag_model_card", lambda *args, **kwargs: Card())
    VideoMAEVideoProcessor().save_pretrained(tmp_path / "here", push_to_hub=True, repo_id="org/name")
    assert {"preprocessor_config.json", "video_preprocessor_config.json"} <= set(pushed["org/name"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_mean": [0.5]}, "one per channel"),
        ({"image_std": [0.5, 0.0, 0.5]}, "above 0"),
        ({"size": {"longest_edge": 224}}, "shortest_edge"),
        ({"size": 0}, "1 or more"),
        ({"resample": 0}, "bilinear"),
        ({"num_frames": 0}, "num_frames"),
        ({"sampling_mode": "sparse"}, "sparse"),
        ({"frame_seconds": -1.0}, "frame_seconds is -1.0"),
        ({"frame_strid": 2}, "did you mean 'frame_stride'"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VideoMAEVideoProcessor(**settings)


def test_unknown_call_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="stride"):
        tiny()(numbered(8), stride=2)


def test_call_overrides_do_not_change_the_settings() -> None:
    processor = tiny()
    before = processor.to_dict()
    assert processor(numbered(30), num_frames=4, size=16)["pixel_values"].shape == (1, 4, 3, 16, 16)
    assert processor.to_dict() == before


def test_numpy_tensors_are_returned() -> None:
    assert isinstance(tiny()(numbered(8), return_tensors="np")["pixel_values"], np.ndarray)
