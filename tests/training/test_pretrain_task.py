"""Pre-training as a task: the model of a recipe, its loss, its baseline, accumulation on the real model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification
from hf_videomae.data import ClipConfig, MotionSource, build_loader
from hf_videomae.data.clips import make_clips
from hf_videomae.data.source import Sample
from hf_videomae.ops.masking import tube_mask
from hf_videomae.training import PretrainRecipe, PretrainTask, RunError, build_pretraining_model
from hf_videomae.training.optim import build_optimizer, build_param_groups, set_learning_rate
from hf_videomae.training.pretrain_task import build_pretrain_clip_config

SMALL = {"num_hidden_layers": 2, "decoder_num_hidden_layers": 1}


class NoSource:
    name = "none"
    class_names = None

    def __len__(self) -> int:
        return 0


def batch_of(size: int, *, seed: int = 0) -> dict[str, object]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "pixel_values": torch.randn(size, 8, 3, 64, 64, generator=generator),
        "bool_masked_pos": tube_mask((4, 4, 4), 0.75, batch_size=size, generator=generator),
        "sample_ids": [str(i) for i in range(size)],
    }


def task_for(model: VideoMAEForPreTraining, **settings: object) -> PretrainTask:
    return PretrainTask(PretrainRecipe(**settings), model=model, source=NoSource())


def test_defaults_depend_on_model_size() -> None:
    tiny, base = PretrainRecipe(), PretrainRecipe(model="base", max_steps=5)
    assert (tiny.base_lr, tiny.frame_stride, tiny.max_steps) == (1.2e-2, 2, 1700)
    assert (base.base_lr, base.frame_stride) == (1.5e-4, 4)
    assert PretrainRecipe(epochs=3).max_steps is None
    assert PretrainRecipe(base_lr=1.0, frame_stride=7).base_lr == 1.0


def test_recipe_sets_model_config(tmp_path: Path) -> None:
    settings = {"mask_type": "random", "mask_ratio": 0.5, "decoder_mask_type": "running_cell", "norm_pix_loss": False}
    recipe = PretrainRecipe(num_frames=4, image_size=32, decoder_layers=1, decoder_width=48, **settings)
    config = build_pretraining_model(recipe).config
    assert (config.num_frames, config.image_size, config.grid) == (4, 32, (2, 2, 2))
    assert (config.mask_type, config.mask_ratio, config.norm_pix_loss) == ("random", 0.5, False)
    assert (config.decoder_num_hidden_layers, config.decoder_hidden_size) == (1, 48)
    assert config.decoder_mask_type == "running_cell" and config.hidden_size == 128


def test_model_starts_from_checkpoint_or_encoder(tmp_path: Path) -> None:
    config = VideoMAEConfig.from_preset("tiny", **SMALL)
    saved = VideoMAEForPreTraining(config)
    saved.save_pretrained(tmp_path / "whole")
    model = build_pretraining_model(PretrainRecipe(model=str(tmp_path / "whole"), mask_ratio=0.5, max_steps=1))
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.config.mask_ratio == 0.5 and model.training

    saved.videomae.save_pretrained(tmp_path / "encoder")
    recipe = {"model": str(tmp_path / "encoder"), "max_steps": 1}
    with pytest.raises(ValueError, match="decoder"):
        build_pretraining_model(PretrainRecipe(**recipe))
    model = build_pretraining_model(PretrainRecipe(new_decoder=True, **recipe))
    weight = "videomae.encoder.layer.0.output.dense.weight"
    assert torch.equal(model.state_dict()[weight], saved.state_dict()[weight])


@pytest.mark.parametrize(
    ("name", "message"),
    [("smal", "neither a preset .tiny, small"), ("./nowhere", "neither a preset"), ("a/b/c", "neither a preset")],
)
def test_invalid_model_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        build_pretraining_model(PretrainRecipe(model=name, max_steps=1))


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no config.json"):
        build_pretraining_model(PretrainRecipe(model=str(tmp_path), max_steps=1))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(RunError, match="a checkpoint of another model .vit., not of VideoMAE"):
        build_pretraining_model(PretrainRecipe(model=str(tmp_path), max_steps=1))


def test_classifier_checkpoint_is_refused(tmp_path: Path) -> None:
    config = VideoMAEConfig.from_preset("tiny", task="classification", num_labels=2, **SMALL)
    VideoMAEForVideoClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="classifier|decoder"):
        build_pretraining_model(PretrainRecipe(model=str(tmp_path), max_steps=1))


def test_num_sample_draws_different_masks() -> None:
    recipe = PretrainRecipe(num_sample=3, batch_size=2, max_steps=1)
    settings = build_pretrain_clip_config(recipe, VideoMAEConfig.from_preset("tiny"))
    batch = next(iter(build_loader(MotionSource(num_videos=4), clip_config=settings, batch_size=2, seed=0)))
    assert batch["pixel_values"].shape[0] == batch["bool_masked_pos"].shape[0] == 6
    assert len({tuple(mask.tolist()) for mask in batch["bool_masked_pos"]}) == 6
    with pytest.raises(RunError, match="num_sample is 0"):
        PretrainRecipe(num_sample=0, max_steps=1)


def test_clips_per_video_keep_first_clip_and_label() -> None:
    source, config = MotionSource(num_videos=4), VideoMAEConfig.from_preset("tiny")

    def batch(clips: int, repeats: int) -> dict[str, Any]:
        recipe = PretrainRecipe(clips_per_video=clips, num_sample=repeats, max_steps=1)
        settings = build_pretrain_clip_config(recipe, config)
        return next(iter(build_loader(source, clip_config=settings, batch_size=2, seed=0, labels=True)))

    one, many = batch(1, 1), batch(3, 2)
    assert many["pixel_values"].shape[0] == many["bool_masked_pos"].shape[0] == len(many["labels"]) == 2 * 3 * 2
    assert many["sample_ids"] == one["sample_ids"] and len(one["sample_ids"]) == 2
    assert many["labels"].tolist() == one["labels"].repeat_interleave(6).tolist()
    for name in ("pixel_values", "bool_masked_pos"):
        assert torch.equal(many[name][::6], one[name])
    assert len({tuple(mask.tolist()) for mask in many["bool_masked_pos"]}) == 12
    with pytest.raises(RunError, match="clips_per_video is 0"):
        PretrainRecipe(clips_per_video=0, max_steps=1)


def test_clips_per_video_have_different_starts() -> None:
    """Frame i of the video is gray with value i, so the brightness of a clip shows which frames it holds."""
    from torchcodec.encoders import VideoEncoder

    levels = torch.arange(200, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32).contiguous()
    video = VideoEncoder(levels, frame_rate=12).to_tensor(format="mp4", codec="libx264", crf=1).numpy().tobytes()
    plain = {"image_mean": (0.0,) * 3, "image_std": (1 / 255,) * 3, "augment": "center_crop", "num_sample": 2}
    settings = ClipConfig(num_frames=4, stride=2, image_size=32, clips_per_video=3, **plain)
    made = make_clips(Sample("a", video), clip_config=settings, seed=0, epoch=0)
    shown = [clip["pixel_values"].mean(dim=(1, 2, 3)).round() for clip in made]
    assert all(frames.diff().sub(2).abs().max() <= 1 for frames in shown)
    assert [torch.equal(shown[row], shown[row + 1]) for row in range(5)] == [True, False, True, False, True]


@pytest.mark.fault
def test_loss_is_equal_for_model_that_returns_tuples() -> None:
    model = VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny", **SMALL)).eval()
    task, batch = task_for(model), batch_of(2)
    expected = task.loss(model, batch)
    model.config.return_dict = False
    assert torch.equal(task.loss(model, batch), expected)


def test_baseline_is_about_one_for_normalized_targets() -> None:
    task = task_for(VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny", **SMALL)))
    # Normalized per cube and channel over 512 pixels with the unbiased variance: the mean square is 511 / 512.
    assert task.baseline(batch_of(2)) == pytest.approx(511 / 512, abs=1e-4)


def test_baseline_of_plain_pixels_is_variance_within_cubes() -> None:
    model = VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny", norm_pix_loss=False, **SMALL))
    batch = batch_of(2)
    expected = torch.tensor(model.config.image_std).square().mean() * 511 / 512  # unit noise, brought back to [0, 1]
    assert task_for(model).baseline(batch) == pytest.approx(expected.item(), rel=0.02)
    batch["pixel_values"] = torch.ones(2, 8, 3, 64, 64)
    assert task_for(model).baseline(batch) == pytest.approx(0, abs=1e-10)


def test_accumulation_equals_large_batch() -> None:
    config = VideoMAEConfig.from_preset("tiny", **SMALL)
    results = []
    for parts in (1, 2):
        torch.manual_seed(0)
        model = VideoMAEForPreTraining(config)
        task, batch = task_for(model), batch_of(4)
        optimizer = build_optimizer(build_param_groups(model, weight_decay=0.05), betas=(0.9, 0.95), eps=1e-8)
        for _ in range(3):
            set_learning_rate(optimizer, 1e-3)
            for chunk in zip(*(batch[name].chunk(parts) for name in ("pixel_values", "bool_masked_pos")), strict=True):
                part = dict(zip(("pixel_values", "bool_masked_pos"), chunk, strict=True))
                (task.loss(model, part) / parts).backward()
            gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
            optimizer.step()
            optimizer.zero_grad()
        results.append((gradients, {name: p.detach() for name, p in model.named_parameters()}))
    for name, gradient in results[0][0].items():
        assert torch.allclose(gradient, results[1][0][name], atol=1e-6, rtol=0), name
        # AdamW divides by tiny second moments, so weights are compared to the size of a step.
        assert torch.allclose(results[0][1][name], results[1][1][name], atol=1e-5, rtol=0), name


def test_saved_model_has_its_processor(tmp_path: Path) -> None:
    from hf_videomae import VideoMAEVideoProcessor

    model = VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny", **SMALL))
    task_for(model, frame_stride=3).save(tmp_path)
    processor = VideoMAEVideoProcessor.from_pretrained(tmp_path)
    assert (processor.num_frames, processor.frame_stride, processor.frame_seconds) == (8, 3, None)
    assert VideoMAEForPreTraining.from_pretrained(tmp_path).config.hidden_size == 128


def test_frame_seconds_reach_loader_and_processor() -> None:
    model = VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny", **SMALL))
    task = task_for(model, frame_seconds=0.25)
    assert build_pretrain_clip_config(task.recipe, model.config).frame_seconds == 0.25
    assert task.processor.clip_sampler.stride_at_fps(30.0) == 8
    with pytest.raises(ValueError, match="frame_seconds is 0"):
        PretrainRecipe(frame_seconds=0.0)
