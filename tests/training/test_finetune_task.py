"""Parts of fine-tuning: recipe, layer decay, heads for the classes of the data, targets, first loss, labels."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEVideoProcessor
from hf_videomae.data import DataError, LabelEncoder, MotionSource, Sample, build_loader, open_source
from hf_videomae.data.clips import make_clips
from hf_videomae.data.motion import CLASS_NAMES
from hf_videomae.training import (
    FinetuneRecipe,
    FinetuneTask,
    RunError,
    build_classifier,
    build_finetune_clip_config,
    build_label_encoder,
    build_optimizer,
    build_param_groups,
    layer_decay_scales,
    resolve_frame_stride,
)
from hf_videomae.training.finetune_model import freeze_layers, trainable_parameters
from hf_videomae.training.finetune_task import has_directional_classes
from hf_videomae.training.optim import set_learning_rate

SMALL: dict[str, Any] = {"num_hidden_layers": 2, "decoder_num_hidden_layers": 1}
PLAIN: dict[str, Any] = {"mixup": 0, "cutmix": 0, "label_smoothing": 0, "drop_path": 0}


def recipe_of(**settings: Any) -> FinetuneRecipe:
    return FinetuneRecipe(**{"max_steps": 1, **settings})


def small_classifier(**fields: Any) -> VideoMAEForVideoClassification:
    options = {"id2label": dict(enumerate(CLASS_NAMES)), "label2id": {n: i for i, n in enumerate(CLASS_NAMES)}}
    return VideoMAEForVideoClassification(
        VideoMAEConfig.from_preset("tiny", task="classification", **{**SMALL, **options, **fields})
    )


def task_for(model: Any, *, source: Any = None, **settings: Any) -> FinetuneTask:
    return FinetuneTask(recipe_of(**settings), model=model, source=source or MotionSource())


def batch_of(clips: int) -> dict[str, Any]:
    return {"pixel_values": torch.randn(clips, 8, 3, 64, 64), "labels": torch.arange(clips) % 8}


# The recipe.


def test_defaults_are_the_papers() -> None:
    recipe = FinetuneRecipe(model="base", epochs=100)
    assert (recipe.rand_augment, recipe.reprob, recipe.num_sample) == ("rand-m7-n4-mstd0.5-inc1", 0.25, 2)
    assert (recipe.mixup, recipe.cutmix, recipe.mix_prob, recipe.mix_switch_prob) == (0.8, 1.0, 1.0, 0.5)
    assert (recipe.label_smoothing, recipe.layer_decay, recipe.drop_path) == (0.1, 0.75, 0.1)
    assert (recipe.betas, recipe.min_lr, recipe.weight_decay, recipe.base_lr) == ((0.9, 0.999), 1e-6, 0.05, 5e-4)
    assert (recipe.crop_scale, recipe.flip, recipe.views) == ((0.08, 1.0), 0.5, "5x3")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rand_augment": "auto"}, "write it like rand-m7-n4-mstd0.5-inc1"),
        ({"mixup": -1}, "mixup is -1"),
        ({"reprob": 1.5}, "reprob is 1.5"),
        ({"layer_decay": 0}, "layer_decay is 0"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"views": "5"}, "clips x crops, e.g. 5x3"),
        ({"freeze": "half"}, "a number of layers, or encoder"),
        ({"lora_rank": 4, "freeze": "2"}, "leave freeze out"),
        ({"num_sample": 0}, "num_sample is 0"),
        ({"batch_size": 1, "num_sample": 1}, "need two clips per forward pass"),
    ],
)
def test_invalid_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        recipe_of(**wrong)


# Layer-wise learning rates.


def test_layer_decay_of_base_equals_published_table() -> None:
    with torch.device("meta"):
        model = VideoMAEForVideoClassification(VideoMAEConfig.from_preset("base", task="classification"))
    scale = layer_decay_scales(model, 0.75)
    published = [0.0237573, 0.0316764, 0.0422351, 0.0563135, 0.0750847, 0.1001129, 0.1334839]
    published += [0.1779785, 0.2373047, 0.3164062, 0.4218750, 0.5625000, 0.7500000, 1.0]
    names = ["videomae.embeddings.patch_embeddings.projection.weight"]
    names += [f"videomae.encoder.layer.{number}.layernorm_before.bias" for number in range(12)]
    names += ["classifier.weight"]
    assert [scale(name) for name in names] == pytest.approx(published, abs=1e-7)
    assert scale("fc_norm.weight") == 1.0
    groups = build_param_groups(model, weight_decay=0.05, lr_scale=scale)
    assert len(groups) == 2 * 14 and sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


# Heads.


def test_preset_gets_classes_of_the_data() -> None:
    model = build_classifier(recipe_of(model="tiny"), class_names=["walk", "run", "fall"])
    assert model.config.id2label == {0: "walk", 1: "run", 2: "fall"} and model.config.label2id["fall"] == 2
    assert model.config.problem_type == "single_label_classification" and model.fc_norm is not None
    assert model.classifier.weight.std().item() == pytest.approx(2e-5, rel=0.2)


def test_classifier_from_pretrained_checkpoint_keeps_encoder(tmp_path: Path) -> None:
    torch.manual_seed(1)
    parent = VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny", **SMALL))
    parent.save_pretrained(tmp_path)
    model = build_classifier(recipe_of(model=str(tmp_path), drop_path=0.2), class_names=list("abc"))
    assert model.config.num_labels == 3 and model.videomae.layernorm is None
    assert (model.fc_norm.weight == 1).all() and (model.fc_norm.bias == 0).all()
    assert model.videomae.encoder.layer[1].drop_path.rate == pytest.approx(0.2)
    ours, theirs = model.state_dict(), parent.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith("videomae."))
    assert model.classifier.weight.abs().max() < 2e-4


def test_head_option_keeps_or_replaces_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parent = small_classifier()
    parent.save_pretrained(tmp_path)
    same = build_classifier(recipe_of(model=str(tmp_path)), class_names=list(CLASS_NAMES))
    assert torch.equal(same.classifier.weight, parent.classifier.weight) and capsys.readouterr().out == ""

    fewer = build_classifier(recipe_of(model=str(tmp_path)), class_names=["grow", "shrink"])
    assert fewer.classifier.weight.shape == (2, 128) and fewer.config.id2label == {0: "grow", 1: "shrink"}
    assert "trained on 8 classes, the dataset has 2" in capsys.readouterr().out
    assert torch.equal(fewer.fc_norm.weight, parent.fc_norm.weight)

    kept = build_classifier(recipe_of(model=str(tmp_path), head="keep"), class_names=["shrink", "grow"])
    assert kept.classifier.weight.shape == (8, 128)
    source = MotionSource()
    source.class_names = ["shrink", "grow"]
    targets = task_for(kept, source=source, **PLAIN).targets(torch.tensor([0, 1]))
    assert targets.argmax(1).tolist() == [7, 6]  # by name: of the eight, grow is 6 and shrink 7

    new = build_classifier(recipe_of(model=str(tmp_path), head="new"), class_names=list(CLASS_NAMES))
    assert not torch.equal(new.classifier.weight, parent.classifier.weight)
    with pytest.raises(RunError, match="8 classes, 'move_left' and so on, and none is 'jump'"):
        build_classifier(recipe_of(model=str(tmp_path), head="keep"), class_names=["grow", "jump"])


def test_new_head_on_token_0_checkpoint_uses_mean_pooling(tmp_path: Path) -> None:
    small_classifier(use_mean_pooling=False).save_pretrained(tmp_path)
    model = build_classifier(recipe_of(model=str(tmp_path)), class_names=["a", "b"])
    assert model.fc_norm is not None and model.config.use_mean_pooling


def test_missing_classes_are_refused() -> None:
    with pytest.raises(RunError, match="the class 'a'"):
        build_classifier(recipe_of(), class_names=["a"])
    with pytest.raises(RunError, match="no labels"):
        build_classifier(recipe_of(), class_names=None)


def test_freeze_layers_excludes_them_from_training() -> None:
    names = {}
    for what in ("0", "1", "encoder"):
        model = small_classifier()
        freeze_layers(model, what)
        names[what] = set(trainable_parameters(model))
    everything = {name for name, _ in small_classifier().named_parameters()}
    assert names["0"] == everything
    below = ("videomae.embeddings.", "videomae.encoder.layer.0.")
    assert names["1"] == {name for name in everything if not name.startswith(below)}
    assert names["encoder"] == {"fc_norm.weight", "fc_norm.bias", "classifier.weight", "classifier.bias"}
    with pytest.raises(RunError, match="the encoder has 2 layers"):
        freeze_layers(small_classifier(), "3")


def test_lora_trains_adapters_and_head_and_is_merged_on_save(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="the extra hf-videomae[lora] is not installed")
    parent = small_classifier()
    parent.save_pretrained(tmp_path / "parent")
    recipe = recipe_of(model=str(tmp_path / "parent"), lora_rank=2, **PLAIN)
    model = build_classifier(recipe, class_names=list(CLASS_NAMES))
    trained = trainable_parameters(model)
    assert all("lora_" in name or "classifier" in name or "fc_norm" in name for name in trained)
    assert sum("lora_" in name for name in trained) == 2 * 2 * 2  # layers x (query, value) x (A, B)
    task = FinetuneTask(recipe, model=model, source=MotionSource())
    with torch.no_grad():
        for value in trained.values():
            value.add_(0.05 * torch.randn_like(value))
    folder = tmp_path / "saved"
    folder.mkdir()
    task.save(folder)
    clips = batch_of(2)["pixel_values"]
    merged = VideoMAEForVideoClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model.eval()(clips).logits
        assert torch.allclose(merged(clips).logits, expected, atol=1e-5)
        assert not torch.allclose(parent.eval()(clips).logits, expected, atol=1e-3)
        with task.inference_model() as adapted:
            assert torch.equal(adapted(clips).logits, expected) and adapted.config.num_labels == 8
    again = build_classifier(recipe, folder, class_names=list(CLASS_NAMES)).eval()
    assert torch.equal(again(clips).logits, expected)
    with pytest.raises(RunError, match="has none yet"):
        build_classifier(recipe_of(model="tiny", lora_rank=2), class_names=["a", "b"])


def test_lora_without_peft_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util

    small_classifier().save_pretrained(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match="hf-videomae.lora."):
        build_classifier(recipe_of(model=str(tmp_path), lora_rank=2), class_names=list(CLASS_NAMES))


# Loss.


@pytest.mark.parametrize("settings", [{}, PLAIN], ids=["mixed and smoothed", "plain"])
def test_first_loss_is_log_of_number_of_classes(settings: dict[str, Any]) -> None:
    model = build_classifier(recipe_of(model="tiny", **settings), class_names=list(CLASS_NAMES))
    task = task_for(model, **settings)
    assert task.loss(model, batch_of(8)).item() == pytest.approx(math.log(8), abs=2e-3)
    assert task.baseline(batch_of(8)) == pytest.approx(math.log(8))
    assert model.config.problem_type == "single_label_classification"  # soft targets do not change it


def test_loss_without_mixing_is_cross_entropy() -> None:
    model = small_classifier(head_init_scale=50.0).eval()
    batch = batch_of(4)
    expected = torch.nn.functional.cross_entropy(model(batch["pixel_values"]).logits, batch["labels"])
    assert task_for(model, **PLAIN).loss(model, batch).item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.fault
def test_loss_is_equal_for_model_that_returns_tuples() -> None:
    model = small_classifier().eval()
    task, batch = task_for(model, **PLAIN), batch_of(4)
    expected = task.loss(model, batch)
    model.config.return_dict = False
    assert torch.equal(task.loss(model, batch), expected)


def test_targets_of_multilabel_and_regression() -> None:
    several = recipe_of(model="tiny", problem_type="multi_label_classification")
    model = build_classifier(several, class_names=["a", "b", "c"])
    source = MotionSource()
    source.class_names = ["a", "b", "c"]
    task = FinetuneTask(several, model=model, source=source)
    batch = {"pixel_values": torch.randn(2, 8, 3, 64, 64), "labels": torch.tensor([[1.0, 0, 1], [0, 0, 0]])}
    assert task.loss(model, batch).item() == pytest.approx(math.log(2), abs=2e-3)

    numbers = recipe_of(model="tiny", problem_type="regression")
    model = build_classifier(numbers, class_names=None)
    source.class_names = None
    task = FinetuneTask(numbers, model=model, source=source)
    assert model.config.num_labels == 1 and numbers.mixup_cutmix is None and task.baseline_name is None
    batch["labels"] = torch.tensor([1.0, 3.0])
    assert task.loss(model, batch).item() == pytest.approx(5.0, abs=1e-2)  # (1 + 9) / 2: the head begins at 0


def test_accumulation_equals_large_batch() -> None:
    results = []
    for parts in (1, 2):
        torch.manual_seed(0)
        model = small_classifier().train()
        task, batch = task_for(model, **{**PLAIN, "label_smoothing": 0.1}), batch_of(8)
        scale = layer_decay_scales(model, 0.75)
        groups = build_param_groups(model, weight_decay=0.05, lr_scale=scale)
        optimizer = build_optimizer(groups, betas=(0.9, 0.999), eps=1e-8)
        for _ in range(3):
            set_learning_rate(optimizer, 1e-3)
            clips, labels = batch["pixel_values"].chunk(parts), batch["labels"].chunk(parts)
            for clip, label in zip(clips, labels, strict=True):
                (task.loss(model, {"pixel_values": clip, "labels": label}) / parts).backward()
            gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
            optimizer.step()
            optimizer.zero_grad()
        results.append((gradients, {name: p.detach() for name, p in model.named_parameters()}))
    for name, gradient in results[0][0].items():
        assert torch.allclose(gradient, results[1][0][name], atol=1e-6, rtol=0), name
        assert torch.allclose(results[0][1][name], results[1][1][name], atol=1e-5, rtol=0), name


def test_ema_is_saved_and_weights_are_resumed(tmp_path: Path) -> None:
    recipe = recipe_of(model="tiny", ema_decay=0.5)
    model = build_classifier(recipe, class_names=list(CLASS_NAMES))
    task = FinetuneTask(recipe, model=model, source=MotionSource())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    task.attach_ema(optimizer)
    before = model.classifier.bias.detach().clone()
    with torch.no_grad():
        model.classifier.bias.add_(2.0)
    optimizer.step()
    with task.inference_model() as inside:
        assert torch.allclose(inside.get_parameter("classifier.bias"), before + 1.0)
    task.save(tmp_path)
    saved = VideoMAEForVideoClassification.from_pretrained(tmp_path)
    assert torch.allclose(saved.classifier.bias, before + 1.0) and torch.allclose(model.classifier.bias, before + 2.0)
    again = build_classifier(recipe, tmp_path, class_names=list(CLASS_NAMES))
    assert torch.equal(again.classifier.bias, model.classifier.bias)
    resumed = FinetuneTask(recipe, model=again, source=MotionSource(), resume=tmp_path)
    resumed.attach_ema(torch.optim.SGD(again.parameters(), lr=0.0))
    assert resumed.ema is not None and task.ema is not None
    assert all(torch.equal(value, task.ema.tensors[name]) for name, value in resumed.ema.tensors.items())
    task.finalize_output(tmp_path)
    assert not (tmp_path / "trained.safetensors").exists()


# Clips.


def test_directional_classes_are_not_flipped() -> None:
    recipe, config = recipe_of(), VideoMAEConfig.from_preset("tiny")
    assert has_directional_classes(list(CLASS_NAMES)) and has_directional_classes(
        ["Pushing something from left to right"]
    )
    assert not has_directional_classes(
        ["leftover", "playing bright guitar", "kicking"]
    ) and not has_directional_classes(None)
    for names, flip in ((list(CLASS_NAMES), 0.0), (["walk", "run"], 0.5)):
        assert build_finetune_clip_config(recipe, config, class_names=names, stride=2).flip == flip


def test_num_sample_gives_clips_of_same_frames() -> None:
    settings = build_finetune_clip_config(
        recipe_of(augment="center_crop"), VideoMAEConfig.from_preset("tiny"), class_names=list(CLASS_NAMES), stride=2
    )
    one, other = make_clips(MotionSource()[3], clip_config=settings, seed=0, epoch=0)
    assert torch.equal(one["pixel_values"], other["pixel_values"])  # the same frames, without augmentation
    settings = build_finetune_clip_config(
        recipe_of(), VideoMAEConfig.from_preset("tiny"), class_names=list(CLASS_NAMES), stride=2
    )
    first, second = make_clips(MotionSource()[3], clip_config=settings, seed=0, epoch=0)
    assert not torch.equal(first["pixel_values"], second["pixel_values"])
    again, _ = make_clips(MotionSource()[3], clip_config=settings, seed=0, epoch=0)
    assert torch.equal(first["pixel_values"], again["pixel_values"])


def test_batch_holds_repeats_next_to_each_other() -> None:
    source = MotionSource(num_videos=16)
    recipe = recipe_of(num_sample=3, batch_size=4)
    config = VideoMAEConfig.from_preset("tiny")
    loader = build_loader(
        source,
        clip_config=build_finetune_clip_config(recipe, config, class_names=source.class_names, stride=2),
        labels=build_label_encoder(recipe, source.class_names),
        batch_size=4,
        seed=0,
    )
    batch = next(iter(loader))
    assert batch["pixel_values"].shape == (12, 8, 3, 64, 64) and len(batch["sample_ids"]) == 4
    numbers = [int(id.split("/")[1]) % 8 for id in batch["sample_ids"]]
    assert batch["labels"].tolist() == [number for number in numbers for _ in range(3)]
    assert loader.steps_per_epoch == 4  # repeats are not counted


@pytest.mark.parametrize("sampling", ["dense", "uniform"])
def test_short_videos_are_padded(sampling: Any) -> None:
    config = VideoMAEConfig.from_preset("tiny", num_frames=48)
    recipe = recipe_of(sampling=sampling)
    settings = build_finetune_clip_config(recipe, config, class_names=None, stride=4)
    (clip, _) = make_clips(MotionSource()[0], clip_config=settings, seed=0, epoch=0)
    assert clip["pixel_values"].shape == (48, 3, 64, 64)


def test_frame_seconds_follow_the_frame_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    from hf_videomae.data import clips

    settings = build_finetune_clip_config(
        recipe_of(frame_seconds=0.25, augment="center_crop"),
        VideoMAEConfig.from_preset("tiny"),
        class_names=None,
        stride=1,
    )
    windows: list[int] = []
    for fps in (12.0, 30.0, 59.94, 2.0):

        def decode(video: Any, plan: Any, *, name: str | None, frame_seconds: float, fps: float = fps) -> torch.Tensor:
            assert frame_seconds == 0.25
            indices = plan(999, fps)
            windows.append(indices[-1] - indices[0] + 1)
            return torch.zeros(len(indices), 3, 64, 64)

        monkeypatch.setattr(clips, "decode_clip", decode)
        make_clips(Sample(id="x", video="x"), clip_config=settings, seed=0, epoch=0)
    # 0.25 s x 12, 30, 59.94 and 2 per second, rounded, at least 1; eight times each
    assert windows == [8 * 3, 8 * 8, 8 * 15, 8 * 1]


def test_saved_processor_keeps_frame_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = recipe_of(frame_seconds=0.2)
    task_for(build_classifier(recipe, class_names=MotionSource().class_names), frame_seconds=0.2).save(tmp_path)
    saved = VideoMAEVideoProcessor.from_pretrained(tmp_path)
    assert saved.clip_sampler.frame_seconds == 0.2
    assert resolve_frame_stride(recipe_of(model=str(tmp_path))) == saved.frame_stride
    assert "0.2 s apart (--frame_seconds)" in capsys.readouterr().out


def test_stride_defaults_to_that_of_the_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = VideoMAEConfig.from_preset("tiny")
    VideoMAEVideoProcessor.from_config(config, frame_stride=3).save_pretrained(tmp_path)
    assert resolve_frame_stride(recipe_of(model=str(tmp_path))) == 3
    assert resolve_frame_stride(recipe_of(model=str(tmp_path), frame_stride=5)) == 5
    assert (resolve_frame_stride(recipe_of(model="tiny")), resolve_frame_stride(recipe_of(model="base"))) == (2, 4)
    assert resolve_frame_stride(recipe_of(model="base"), tmp_path) == 3
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    assert resolve_frame_stride(recipe_of(model=str(tmp_path))) == 4 and "no processor" in capsys.readouterr().out


# Labels.


def videos(folder: Path, rows: list[tuple[str, str]], *, index: str = "index.csv") -> str:
    source = MotionSource()
    folder.mkdir()
    for number, (name, _) in enumerate(rows):
        (folder / name).write_bytes(source[number].video)
    if index.endswith("csv"):
        (folder / index).write_text("path,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    else:
        lines = [json.dumps({"path": name, "label": json.loads(label)}) for name, label in rows]
        (folder / index).write_text("\n".join(lines))
    return str(folder)


def test_label_encoding_of_every_kind(tmp_path: Path) -> None:
    plain = open_source(videos(tmp_path / "plain", [("a.mp4", "10"), ("b.mp4", "9"), ("c.mp4", "10")]))
    assert plain.class_names == ["9", "10"] and [plain[i].label for i in range(3)] == [1, 0, 1]
    rows = [("a.mp4", "run|jump"), ("b.mp4", "walk")]
    several = open_source(videos(tmp_path / "several", rows), label_kind="multi_label_classification")
    assert several.class_names == ["jump", "run", "walk"] and [several[i].label for i in range(2)] == [(0, 1), (2,)]
    rows = [("a.mp4", '["run", "jump"]'), ("b.mp4", '"walk"')]
    listed = open_source(
        videos(tmp_path / "listed", rows, index="metadata.jsonl"), label_kind="multi_label_classification"
    )
    assert [listed[i].label for i in range(2)] == [(0, 1), (2,)]
    numbers = open_source(videos(tmp_path / "numbers", [("a.mp4", "1.5"), ("b.mp4", "-2")]), label_kind="regression")
    assert numbers.class_names is None and [numbers[i].label for i in range(2)] == [1.5, -2.0]


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        (("1.5", "tall"), "regression", "the label of b.mp4 is 'tall', but regression wants a finite number"),
        (("1.5", "inf"), "regression", "'inf'"),
        (("run", "nan"), "single_label_classification", "1 of 2 rows have no label, the first is b.mp4"),
        (("run", ""), "single_label_classification", "1 of 2 rows have no label, the first is b.mp4"),
        (("1.5", "NaN"), "regression", "1 of 2 rows have no label"),
        (("", ""), "single_label_classification", "has no labels"),
    ],
)
def test_bad_labels_are_named(tmp_path: Path, labels: tuple[str, str], kind: Any, message: str) -> None:
    folder = videos(tmp_path / "set", [("a.mp4", labels[0]), ("b.mp4", labels[1])])
    with pytest.raises(DataError, match=message):
        open_source(folder, require_labels=True, label_kind=kind)


@pytest.mark.parametrize(
    ("kind", "label", "message"),
    [
        ("single_label_classification", None, "clip-7 has no label; .* its label or remove it"),
        ("single_label_classification", 3, "clip-7 has the label 3, but the classes are 0 to 2"),
        ("single_label_classification", "run", "one class number of 0 to 2 is wanted"),
        ("single_label_classification", (1,), "one class number"),
        ("single_label_classification", float("nan"), "one class number"),
        ("multi_label_classification", 1, "class numbers of 0 to 2"),
        ("multi_label_classification", (0, 3), "the classes are 0 to 2"),
        ("regression", float("nan"), "a finite number"),
        ("regression", "tall", "a finite number"),
    ],
)
def test_label_in_a_batch_is_checked(kind: Any, label: Any, message: str) -> None:
    good = {"regression": 0.5, "multi_label_classification": (0, 2)}.get(kind, 2)
    coding = LabelEncoder(kind=kind, num_classes=1 if kind == "regression" else 3)
    assert coding.encode([Sample("clip-6", b"", good)]).shape[0] == 1
    with pytest.raises(DataError, match=message):
        coding.encode([Sample("clip-6", b"", good), Sample("clip-7", b"", label)])


def test_several_labels_are_zeros_and_ones() -> None:
    coding = LabelEncoder(kind="multi_label_classification", num_classes=3)
    assert coding.encode([Sample("a", b"", (0, 2)), Sample("b", b"", ())]).tolist() == [[1, 0, 1], [0, 0, 0]]


@pytest.mark.fault
def test_stride_is_assumed_only_without_a_processor_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Damage the processor file: a stride of 4 would be a silent change of the recipe."""
    recipe = FinetuneRecipe(dataset=("motion",), model=str(tmp_path), output_dir=str(tmp_path / "out"))
    (tmp_path / "config.json").write_text("{}")
    assert resolve_frame_stride(recipe) == 4 and "has no processor" in capsys.readouterr().out
    (tmp_path / "preprocessor_config.json").write_text("")
    with pytest.raises(ValueError, match="preprocessor_config.json"):
        resolve_frame_stride(recipe)
