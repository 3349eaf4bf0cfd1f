"""Test the model's contract: counts, independence of samples, sizes, compile, meta device, errors."""

import copy
import math
from pathlib import Path

import pytest
import torch

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel
from hf_videomae.ops.masking import random_mask, running_cell_mask, tube_mask

SMALL = {
    "image_size": 32,
    "patch_size": 8,
    "num_frames": 8,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "decoder_hidden_size": 24,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 3,
    "decoder_intermediate_size": 48,
    "mask_ratio": 0.75,
    "use_mean_pooling": False,
}
GRID = (4, 4, 4)


def small(**fields) -> VideoMAEForPreTraining:
    return VideoMAEForPreTraining(VideoMAEConfig(**{**SMALL, **fields})).eval()


def clips(batch: int = 2, frames: int = 8, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randn(batch, frames, channels, height, width)


def on_meta(model_class: type, config: VideoMAEConfig) -> int:
    with torch.device("meta"):
        return model_class(config).num_parameters()


@pytest.mark.parametrize(
    ("preset", "pretraining", "classifier"),
    [
        ("small", 24.03, 22.03),
        ("base", 94.21, 86.54),
        ("large", 343.0, 304.3),
        ("huge", 692.5, 632.1),
        ("giant", 1026.3, 1012.2),
    ],
)
def test_parameter_counts_match_the_paper(preset: str, pretraining: float, classifier: float) -> None:
    tolerance = 0.006 if pretraining < 100 else 0.06
    found = on_meta(VideoMAEForPreTraining, VideoMAEConfig.from_preset(preset))
    assert found / 1e6 == pytest.approx(pretraining, abs=tolerance)
    config = VideoMAEConfig.from_preset(preset, task="classification", num_labels=400)
    found = on_meta(VideoMAEForVideoClassification, config)
    assert found / 1e6 == pytest.approx(classifier, abs=tolerance)


class TestPreTraining:
    def test_outputs_have_their_shapes(self) -> None:
        model, mask = small(), tube_mask(GRID, 0.75, batch_size=2)
        outputs = model(clips(), mask)
        assert outputs.logits.shape == (2, 48, 3 * 2 * 8 * 8)
        assert torch.equal(outputs.bool_masked_pos, mask)
        assert outputs.bool_decoder_masked_pos is None
        assert 0.5 < outputs.loss.item() < 2

    def test_mask_is_drawn_from_the_config(self) -> None:
        model = small(mask_type="random", mask_ratio=0.6)
        first, again = (model(clips(), generator=torch.Generator().manual_seed(5)) for _ in range(2))
        assert first.bool_masked_pos.sum(1).tolist() == [38, 38]
        assert torch.equal(first.bool_masked_pos, again.bool_masked_pos)
        assert not torch.equal(first.bool_masked_pos[0], first.bool_masked_pos[1])

    def test_no_output_depends_on_another_sample(self) -> None:
        model, mask = small(), random_mask(GRID, 0.75, batch_size=2)
        first = clips()
        second = first.clone()
        second[0] = torch.randn_like(second[0])
        before, after = model(first, mask).logits, model(second, mask).logits
        assert torch.equal(before[1], after[1])
        assert not torch.equal(before[0], after[0])

    def test_masked_pixels_do_not_reach_the_prediction(self) -> None:
        model, mask = small(), tube_mask(GRID, 0.75, batch_size=1)
        clip = clips(1)
        hidden = mask.view(1, 4, 1, 4, 4).repeat_interleave(2, 1).repeat_interleave(8, 3).repeat_interleave(8, 4)
        changed = torch.where(hidden, torch.randn_like(clip), clip)
        assert torch.equal(model(clip, mask).logits, model(changed, mask).logits)

    def test_decoder_mask_limits_the_decoded_tokens(self) -> None:
        model = small()
        clip, mask = clips(), tube_mask(GRID, 0.75, batch_size=2)
        skipped = running_cell_mask(GRID, 0.5, batch_size=2)
        outputs = model(clip, mask, bool_decoder_masked_pos=skipped)
        assert outputs.logits.shape[1] == 32
        index = (~skipped).nonzero()[:, 1].view(2, 32)
        error = (outputs.logits - model.targets(clip, index)).square().mean(-1)
        counted = mask.gather(1, index)
        torch.testing.assert_close(outputs.loss, error[counted].mean())

    def test_decoder_mask_is_drawn_from_the_config(self) -> None:
        outputs = small(decoder_mask_type="running_cell")(clips())
        assert outputs.bool_decoder_masked_pos.sum(1).tolist() == [32, 32]
        assert outputs.logits.shape[1] == 32

    @pytest.mark.parametrize("kind", ["mse", "l1", "smooth_l1"])
    def test_losses_match_their_definitions(self, kind: str) -> None:
        model, clip, mask = small(reconstruction_loss=kind), clips(), tube_mask(GRID, 0.75, batch_size=2)
        outputs = model(clip, mask)
        difference = outputs.logits - model.targets(clip, mask.nonzero()[:, 1].view(2, 48))
        expected = {
            "mse": difference.square(),
            "l1": difference.abs(),
            "smooth_l1": torch.where(difference.abs() < 1, difference.square() / 2, difference.abs() - 0.5),
        }
        torch.testing.assert_close(outputs.loss, expected[kind].mean())

    def test_loss_and_targets_are_float32_in_bfloat16(self) -> None:
        model, clip, mask = small(), clips(), tube_mask(GRID, 0.75, batch_size=2)
        reference = model(clip, mask).loss
        outputs = model.to(torch.bfloat16)(clip, mask)
        assert outputs.logits.dtype == torch.bfloat16 and outputs.loss.dtype == torch.float32
        assert abs(outputs.loss - reference) < 0.02

    def test_other_channel_counts_work(self) -> None:
        assert small(num_channels=5)(clips(channels=5)).logits.shape[-1] == 5 * 128
        assert small(num_channels=1, norm_pix_loss=False)(clips(channels=1)).loss.isfinite()

    @pytest.mark.parametrize(
        ("mask", "word"),
        [
            (torch.zeros(2, 64, dtype=torch.bool), "some must be hidden"),
            (torch.ones(2, 32, dtype=torch.bool), r"shape \(2, 32\); wanted \(batch, 64\)"),
            (torch.arange(128).view(2, 64) < 70, r"\[64, 6\] tokens"),
            (tube_mask(GRID, 0.75), "is for 1 clips"),
            (tube_mask(GRID, 0.75, batch_size=2).float(), "torch.bool"),
        ],
    )
    def test_invalid_masks_are_refused(self, mask: torch.Tensor, word: str) -> None:
        with pytest.raises(ValueError, match=word):
            small()(clips(), mask)

    @pytest.mark.parametrize("clip", [clips()[0], clips().transpose(1, 2), clips(frames=7), clips(height=33)])
    def test_invalid_clips_are_refused(self, clip: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=r"wanted \(batch, frames, 3, height, width\)|not a positive multiple"):
            small()(clip)

    @pytest.mark.filterwarnings(
        "ignore:`gradient_checkpointing_enable`"
    )  # the newer name is not in the oldest release
    def test_gradient_checkpointing_changes_nothing(self) -> None:
        model, clip, mask = small().train(), clips(), tube_mask(GRID, 0.75, batch_size=2)
        model(clip, mask).loss.backward()
        expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        model.zero_grad()
        model.gradient_checkpointing_enable()
        model(clip, mask).loss.backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name])

    @pytest.mark.integration
    def test_compiles_as_one_graph(self) -> None:
        model = small(num_hidden_layers=1).train()
        clip, mask = clips(), tube_mask(GRID, 0.5, batch_size=2)
        expected = model(clip, mask).loss
        expected.backward()
        gradient = model.mask_token.grad.clone()
        model.zero_grad()
        compiled = torch.compile(model, fullgraph=True)
        loss = compiled(clip, mask).loss
        loss.backward()
        assert abs(loss - expected) < 1e-4
        torch.testing.assert_close(model.mask_token.grad, gradient, atol=1e-5, rtol=1e-3)
        with pytest.raises(RuntimeError, match="another number of masked tokens"):
            compiled(clip, tube_mask(GRID, 0.75, batch_size=2))


class TestSizes:
    """Test clips of other sizes than the trained one."""

    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        folder = tmp_path / "saved"
        fields = {**SMALL, "image_size": 224, "patch_size": 16, "num_frames": 16, "mask_ratio": 0.9}
        VideoMAEForPreTraining(VideoMAEConfig(**fields)).save_pretrained(folder)
        return folder

    @pytest.mark.parametrize("frames", [8, 16, 32])
    @pytest.mark.parametrize(("height", "width"), [(112, 112), (224, 224), (160, 256)])
    def test_all_heads_load_one_checkpoint(self, saved: Path, frames: int, height: int, width: int) -> None:
        clip = clips(1, frames, 3, height, width)
        tokens = frames // 2 * (height // 16) * (width // 16)
        at_call = VideoMAEModel.from_pretrained(saved)
        at_load = VideoMAEModel.from_pretrained(saved, num_frames=frames, image_size=[height, width])
        with torch.no_grad():
            found = at_call(clip).last_hidden_state
            assert found.shape == (1, tokens, 48)
            assert torch.equal(found, at_load(clip).last_hidden_state)
            assert VideoMAEForPreTraining.from_pretrained(saved).eval()(clip).loss.isfinite()

    def test_trained_size_keeps_its_position_table(self, saved: Path) -> None:
        model = VideoMAEModel.from_pretrained(saved)
        from hf_videomae.ops.patches import sinusoid_table

        assert torch.equal(model.embeddings.position_table, sinusoid_table(1568, 48))


class TestClassifier:
    def config(self, **fields) -> VideoMAEConfig:
        return VideoMAEConfig(**{**SMALL, "use_mean_pooling": True, "num_labels": 5, **fields})

    def test_first_loss_is_the_log_of_the_classes(self) -> None:
        model = VideoMAEForVideoClassification(self.config())
        assert model(clips(), labels=torch.tensor([0, 4])).loss.item() == pytest.approx(math.log(5), abs=1e-3)

    def test_soft_labels_do_not_change_the_config(self) -> None:
        model = VideoMAEForVideoClassification(self.config())
        soft = torch.tensor([[0.7, 0.3, 0, 0, 0], [0, 0, 0, 0.5, 0.5]])
        outputs = model(clips(), labels=soft)
        expected = -(soft * outputs.logits.log_softmax(-1)).sum(-1).mean()
        torch.testing.assert_close(outputs.loss, expected)
        assert model.config.problem_type is None
        model(clips(), labels=torch.tensor([0, 1]))

    def test_multi_label_and_regression_losses(self) -> None:
        multi = VideoMAEForVideoClassification(self.config(problem_type="multi_label_classification"))
        outputs = multi(clips(), labels=torch.ones(2, 5))
        torch.testing.assert_close(outputs.loss, -outputs.logits.sigmoid().log().mean())
        regression = VideoMAEForVideoClassification(self.config(num_labels=1))
        outputs = regression(clips(), labels=torch.tensor([1.0, 2.0]))
        torch.testing.assert_close(outputs.loss, (outputs.logits[:, 0] - torch.tensor([1.0, 2.0])).square().mean())

    @pytest.mark.parametrize(
        ("labels", "word"), [([0, 5], "from 0 to 5"), ([-1, 0], "from -1 to 0"), ([[0, 1]], "one class per clip")]
    )
    def test_invalid_labels_are_refused(self, labels: list, word: str) -> None:
        with pytest.raises(ValueError, match=word):
            VideoMAEForVideoClassification(self.config())(clips(), labels=torch.tensor(labels))

    def test_hidden_states_and_attentions_are_returned(self) -> None:
        model = VideoMAEForVideoClassification(self.config()).eval()
        assert model.config._attn_implementation == "sdpa"
        clip = clips()
        plain = model(clip)
        outputs = model(clip, output_attentions=True, output_hidden_states=True)
        assert len(outputs.attentions) == 2 and outputs.attentions[0].shape == (2, 3, 64, 64)
        torch.testing.assert_close(outputs.attentions[0].sum(-1), torch.ones(2, 3, 64))
        assert len(outputs.hidden_states) == 3
        torch.testing.assert_close(outputs.logits, plain.logits, atol=1e-6, rtol=0)
        assert model.config._attn_implementation == "sdpa"

    def test_drop_path_grows_and_acts_in_training_alone(self) -> None:
        model = VideoMAEForVideoClassification(self.config(drop_path_rate=0.5, num_hidden_layers=3))
        assert [layer.drop_path.rate for layer in model.videomae.encoder.layer] == [0.0, 0.25, 0.5]
        clip = clips(8)
        assert torch.equal(model.eval()(clip).logits, model(clip).logits)
        model.train()
        assert not torch.equal(model(clip).logits, model(clip).logits)
        branch = torch.ones(4000, 1, 1)
        kept = model.videomae.encoder.layer[2].drop_path(branch)
        assert set(kept.unique().tolist()) == {0.0, 2.0}
        assert kept.mean().item() == pytest.approx(1.0, abs=0.1)

    def test_models_export(self) -> None:
        model = VideoMAEForVideoClassification(self.config()).eval()
        clip = clips()
        exported = torch.export.export(model, (clip,)).module()
        torch.testing.assert_close(exported(clip).logits, model(clip).logits)


class TestInitialisation:
    def test_pretraining_init_is_xavier_over_the_joint_matrix(self) -> None:
        model = small(hidden_size=192, intermediate_size=768, num_attention_heads=3)
        layer = model.videomae.encoder.layer[0]
        bound = math.sqrt(6 / (4 * 192))
        assert layer.attention.attention.query.weight.abs().max() <= bound
        assert layer.attention.attention.query.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
        assert layer.intermediate.dense.weight.std().item() == pytest.approx(math.sqrt(2 / (192 + 768)), rel=0.03)
        assert model.encoder_to_decoder.weight.abs().max() <= 1 / math.sqrt(192)
        assert model.encoder_to_decoder.weight.std().item() == pytest.approx(1 / math.sqrt(3 * 192), rel=0.05)
        assert 0 < model.mask_token.abs().max() <= 0.02
        assert layer.attention.attention.query.bias.abs().sum() == 0

    def test_cube_projection_init_is_torchs_default(self) -> None:
        weight = small(hidden_size=192).videomae.embeddings.patch_embeddings.projection.weight
        assert weight.std().item() == pytest.approx(1 / math.sqrt(3 * 3 * 2 * 64), rel=0.03)

    def test_classifier_init_is_normal_with_a_tiny_head(self) -> None:
        config = VideoMAEConfig(**{**SMALL, "hidden_size": 192, "use_mean_pooling": True, "num_labels": 50})
        model = VideoMAEForVideoClassification(config)
        query = model.videomae.encoder.layer[1].attention.attention.query.weight
        assert query.std().item() == pytest.approx(0.02, rel=0.03)
        assert model.classifier.weight.std().item() == pytest.approx(2e-5, rel=0.05)
        assert model.classifier.bias.abs().sum() == 0


class TestLoading:
    def test_loaded_fresh_head_is_initialized_as_if_built(self, tmp_path: Path) -> None:
        """New parts are initialized as in a model that was never loaded, also after the meta device."""
        small(hidden_size=192).save_pretrained(tmp_path)
        model = VideoMAEForVideoClassification.from_pretrained(tmp_path, num_labels=50)
        assert model.classifier.weight.std().item() == pytest.approx(2e-5, rel=0.05)
        assert torch.equal(model.fc_norm.weight, torch.ones(192))

    def test_meta_device_keeps_the_numbers(self, tmp_path: Path) -> None:
        model, clip, mask = small(), clips(), tube_mask(GRID, 0.75, batch_size=2)
        model.save_pretrained(tmp_path)
        loaded = VideoMAEForPreTraining.from_pretrained(tmp_path)
        assert torch.equal(loaded(clip, mask).logits, model(clip, mask).logits)
        placed = VideoMAEForPreTraining.from_pretrained(tmp_path, device_map={"": "cpu"})
        assert torch.equal(placed(clip, mask).logits, model(clip, mask).logits)

    @pytest.mark.filterwarnings("ignore:The following device_map keys")  # accelerate takes parameters for modules
    def test_offloaded_weights_are_loaded(self, tmp_path: Path) -> None:
        model, clip, mask = small(), clips(), tube_mask(GRID, 0.75, batch_size=2)
        model.save_pretrained(tmp_path / "saved")
        device_map = {name: "cpu" for name, _ in model.named_children()}
        device_map |= {"mask_token": "cpu", "videomae": "disk"}
        loaded = VideoMAEForPreTraining.from_pretrained(
            tmp_path / "saved", device_map=device_map, offload_folder=str(tmp_path / "offload")
        )
        torch.testing.assert_close(loaded(clip, mask).logits, model(clip, mask).logits)

    def test_pretrained_checkpoint_gets_mean_pooling_with_a_warning(self, tmp_path: Path, caplog) -> None:
        small().save_pretrained(tmp_path)
        config = VideoMAEConfig.from_pretrained(tmp_path, num_labels=5)
        before = copy.deepcopy(config.to_dict())
        for options in ({"num_labels": 5}, {"config": config}):
            model = VideoMAEForVideoClassification.from_pretrained(tmp_path, **options)
            assert model.fc_norm is not None and model.videomae.layernorm is None
            assert model.config.use_mean_pooling and model.num_labels == 5
        assert caplog.text.count("fresh fc_norm") == 2
        assert config.to_dict() == before
        kept = VideoMAEForVideoClassification.from_pretrained(tmp_path, use_mean_pooling=False)
        assert kept.fc_norm is None

    def test_mean_pooling_without_architectures_in_the_config(self, tmp_path: Path) -> None:
        import json

        small().save_pretrained(tmp_path)
        values = json.loads((tmp_path / "config.json").read_text())
        del values["architectures"]
        (tmp_path / "config.json").write_text(json.dumps(values))
        assert VideoMAEForVideoClassification.from_pretrained(tmp_path).fc_norm is not None

    def test_classifier_keeps_its_own_pooling(self, tmp_path: Path) -> None:
        config = VideoMAEConfig(**SMALL, num_labels=5)
        model = VideoMAEForVideoClassification(config).eval()
        model.save_pretrained(tmp_path)
        loaded = VideoMAEForVideoClassification.from_pretrained(tmp_path)
        assert loaded.fc_norm is None and loaded.videomae.layernorm is not None
        clip = clips()
        assert torch.equal(loaded(clip).logits, model(clip).logits)

    def test_missing_and_unexpected_weights_are_errors(self, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        small().save_pretrained(tmp_path)
        path = tmp_path / "model.safetensors"
        weights = load_file(path)
        lost = "videomae.encoder.layer.0.attention.attention.q_bias"
        bias = weights.pop(lost)
        save_file(weights, path, metadata={"format": "pt"})
        with pytest.raises(
            ValueError, match=r"Not in the file: videomae.encoder.layer.0.attention.attention.query.bias"
        ):
            VideoMAEForPreTraining.from_pretrained(tmp_path)
        save_file(
            {**weights, lost: bias, lost.replace("q_bias", "k_bias"): bias.clone()}, path, metadata={"format": "pt"}
        )
        with pytest.raises(ValueError, match=r"Not in the model: .*k_bias"):
            VideoMAEForPreTraining.from_pretrained(tmp_path)
        with pytest.raises(ValueError, match=r"Not in the model: .*k_bias"):
            VideoMAEModel.from_pretrained(tmp_path)

    def test_key_biases_are_ignored_with_a_warning(self, tmp_path: Path) -> None:
        """transformers 5.6 to 5.17 saved them, with the query's and value's under their names in memory."""
        from safetensors.torch import load_file, save_file

        model, clip, mask = small(), clips(), tube_mask(GRID, 0.75, batch_size=2)
        model.save_pretrained(tmp_path)
        path = tmp_path / "model.safetensors"
        renamed = {
            name.replace("q_bias", "query.bias").replace("v_bias", "value.bias"): value
            for name, value in load_file(path).items()
        }
        queries = [name for name in renamed if name.endswith("query.bias")]
        added = {name.replace("query", "key"): torch.randn(len(renamed[name])) for name in queries}
        save_file({**renamed, **added}, path, metadata={"format": "pt"})
        loaded = VideoMAEForPreTraining.from_pretrained(tmp_path)
        assert torch.equal(loaded(clip, mask).logits, model(clip, mask).logits)

        with torch.no_grad():  # and with the biases in place the numbers are the same
            for name, module in loaded.named_modules():
                if name.endswith(".key"):
                    module.bias = torch.nn.Parameter(added[f"{name}.bias"])
        torch.testing.assert_close(loaded(clip, mask).logits, model(clip, mask).logits, atol=1e-5, rtol=0)

    def test_new_decoder_needs_its_flag(self, tmp_path: Path) -> None:
        config = VideoMAEConfig(**{**SMALL, "use_mean_pooling": True}, num_labels=5)
        classifier = VideoMAEForVideoClassification(config)
        classifier.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="new_decoder=True"):
            VideoMAEForPreTraining.from_pretrained(tmp_path)
        model = VideoMAEForPreTraining.from_pretrained(tmp_path, new_decoder=True)
        assert type(model) is VideoMAEForPreTraining
        assert 0 < model.mask_token.abs().max() <= 0.02
        expected = classifier.videomae.encoder.layer[0].intermediate.dense.weight
        assert torch.equal(model.videomae.encoder.layer[0].intermediate.dense.weight, expected)
        assert model(clips()).loss.isfinite()

    def test_checkpoint_of_another_model_is_refused(self, tmp_path: Path) -> None:
        import transformers

        config = transformers.ViTConfig(
            hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24
        )
        transformers.ViTModel(config).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="'vit' model"):
            VideoMAEForPreTraining.from_pretrained(tmp_path)


def test_attention_implementations_agree() -> None:
    model, clip, mask = small(), clips(), tube_mask(GRID, 0.75, batch_size=2)
    expected = model(clip, mask).logits
    model.set_attn_implementation("eager")
    torch.testing.assert_close(model(clip, mask).logits, expected, atol=1e-6, rtol=0)


def test_gradients_under_bfloat16_autocast_are_those_of_float32() -> None:
    """torch's CPU LayerNorm of bfloat16 inputs sums the gradients of float32 weights in bfloat16."""
    torch.manual_seed(0)
    model = VideoMAEForPreTraining(VideoMAEConfig.from_preset("small", num_hidden_layers=1)).train()
    clips, mask = torch.randn(1, 16, 3, 224, 224), tube_mask((8, 14, 14), 0.9, batch_size=1)

    def gradients(dtype: torch.dtype) -> dict[str, torch.Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            model(clips, mask).loss.backward()
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}

    exact, low = gradients(torch.float32), gradients(torch.bfloat16)
    differences = {name: (low[name] - exact[name]).norm() / exact[name].norm() for name in exact if "norm" in name}
    assert max(differences.values()) < 0.02, differences
    total = [torch.cat([values[name].flatten() for name in exact]) for values in (exact, low)]
    assert (total[1] - total[0]).norm() / total[0].norm() < 0.01
