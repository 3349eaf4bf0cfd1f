"""Test image models inflated to video: on a still they compute what the image model does without its [CLS] token."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel
from hf_videomae.cli import main
from hf_videomae.convert import convert_checkpoint
from tests.helpers.models import SMALL_SIZES

DECODER = {
    "decoder_hidden_size": 24,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 3,
    "decoder_intermediate_size": 48,
}
FAMILIES = {
    "vit": (transformers.ViTConfig, transformers.ViTForImageClassification, {}),
    "vit_mae": (transformers.ViTMAEConfig, transformers.ViTMAEForPreTraining, DECODER),
}


def write_image_model(folder: Path, family: str) -> torch.nn.Module:
    """Write a stock image model with random weights, including norms and key biases."""
    make_config, make_model, more = FAMILIES[family]
    model = make_model(make_config(**SMALL_SIZES, **more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    return model.vit


def layers_of(vit: torch.nn.Module) -> torch.nn.ModuleList:
    return vit.layers if hasattr(vit, "layers") else vit.encoder.layer


@torch.no_grad()
def features_without_cls(vit: torch.nn.Module, image: Tensor) -> Tensor:
    tokens = vit.embeddings.patch_embeddings(image) + vit.embeddings.position_embeddings[:, 1:]
    for layer in layers_of(vit):
        outputs = layer(tokens)
        tokens = outputs[0] if isinstance(outputs, tuple) else outputs
    return vit.layernorm(tokens)


def still(image: Tensor, frames: int) -> Tensor:
    return image[:, None].repeat(1, frames, 1, 1, 1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("inflate", ["mean", "center"])
def test_still_video_gives_the_image_models_features(family: str, inflate: str, tmp_path: Path) -> None:
    vit = write_image_model(tmp_path / "image", family)
    assert main(["convert", str(tmp_path / "image"), str(tmp_path / "out"), "--inflate", inflate]) == 0
    model = VideoMAEModel.from_pretrained(tmp_path / "out").eval()
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        patches = model.embeddings.patch_embeddings(still(image, 16)).unflatten(1, (8, 16))
        expected = vit.embeddings.patch_embeddings(image)[:, None].expand(-1, 8, -1, -1)
        torch.testing.assert_close(patches, expected, atol=1e-5, rtol=1e-5)
        features = model(still(image, 2)).last_hidden_state
    torch.testing.assert_close(features, features_without_cls(vit, image), atol=1e-4, rtol=0)


def test_report_covers_every_key(tmp_path: Path) -> None:
    write_image_model(tmp_path / "image", "vit_mae")
    report = convert_checkpoint(tmp_path / "image").report
    notes = {key_mapping.key: key_mapping for key_mapping in report.keys}
    assert len(notes) == 46 + 2 * 16  # a layer of the encoder has 16 weights
    assert "new_decoder=True" in notes["decoder.decoder_pred.weight"].note
    assert "token" in notes["vit.embeddings.cls_token"].note
    assert "softmax" in notes["vit.encoder.layer.2.attention.attention.key.bias"].note
    assert notes["vit.embeddings.position_embeddings"].became == ("videomae.embeddings.position_embeddings",)
    assert report.differences[0].largest < 1e-4 and not report.stock


def test_position_table_is_trained_and_saved(tmp_path: Path) -> None:
    write_image_model(tmp_path / "image", "vit")
    convert_checkpoint(tmp_path / "image").save(tmp_path / "out")
    model = VideoMAEForVideoClassification.from_pretrained(tmp_path / "out", num_labels=2, head_init_scale=1.0)
    table = model.videomae.embeddings.position_embeddings
    before = table.detach().clone()
    model(torch.randn(2, 16, 3, 32, 32), labels=torch.tensor([0, 1])).loss.backward()
    assert table.grad.abs().sum() > 0
    with torch.no_grad():
        table -= table.grad
    model.save_pretrained(tmp_path / "tuned")
    again = VideoMAEForVideoClassification.from_pretrained(tmp_path / "tuned").videomae.embeddings.position_embeddings
    assert torch.equal(again, table) and not torch.equal(again, before)


def test_pretraining_needs_a_new_decoder(tmp_path: Path) -> None:
    write_image_model(tmp_path / "image", "vit_mae")
    convert_checkpoint(tmp_path / "image").save(tmp_path / "out")
    with pytest.raises(ValueError, match="new_decoder=True"):
        VideoMAEForPreTraining.from_pretrained(tmp_path / "out")
    model = VideoMAEForPreTraining.from_pretrained(tmp_path / "out", new_decoder=True)
    assert torch.isfinite(model(torch.randn(1, 16, 3, 32, 32)).loss)


def test_sinusoid_positions_load_in_stock(tmp_path: Path) -> None:
    vit = write_image_model(tmp_path / "image", "vit")
    done = convert_checkpoint(tmp_path / "image", positions="sinusoid")
    assert done.report.stock and done.report.differences[0].largest > 0.1
    done.save(tmp_path / "out")
    stock = transformers.VideoMAEModel.from_pretrained(tmp_path / "out").eval()
    clip = torch.randn(1, 16, 3, 32, 32)
    with torch.no_grad():
        features, expected = stock(clip).last_hidden_state, done.model(clip).last_hidden_state
    torch.testing.assert_close(features, expected, atol=5e-5, rtol=0)
    assert vit.embeddings.position_embeddings.shape[1] == 17


def as_timm(vit: torch.nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a timm ViT with the same weights."""
    embeddings = vit.embeddings
    weights = {
        "cls_token": embeddings.cls_token,
        "pos_embed": embeddings.position_embeddings,
        "patch_embed.proj.weight": embeddings.patch_embeddings.projection.weight,
        "patch_embed.proj.bias": embeddings.patch_embeddings.projection.bias,
    }
    for number, layer in enumerate(layers_of(vit)):
        attention = layer.attention
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        modules = {"attn.proj": attention.o_proj, "norm1": layer.layernorm_before, "norm2": layer.layernorm_after}
        modules |= {"mlp.fc1": layer.mlp.fc1, "mlp.fc2": layer.mlp.fc2}
        for leaf in ("weight", "bias"):
            weights[f"blocks.{number}.attn.qkv.{leaf}"] = torch.cat([getattr(part, leaf) for part in parts])
            weights |= {f"blocks.{number}.{name}.{leaf}": getattr(module, leaf) for name, module in modules.items()}
    weights |= {"norm.weight": vit.layernorm.weight, "norm.bias": vit.layernorm.bias}
    return {name: value.detach().clone() for name, value in weights.items()}


@pytest.fixture
def vit(tmp_path: Path) -> torch.nn.Module:
    model = write_image_model(tmp_path / "image", "vit")
    if not hasattr(model, "layers"):
        pytest.skip("the names of an older release of transformers")
    return model


def test_timm_names_are_converted(vit: torch.nn.Module, tmp_path: Path) -> None:
    torch.save({"model": as_timm(vit)}, tmp_path / "timm.pth")
    # timm's eps is 1e-6 and stock's 1e-12: given, as a user would who knows better.
    done = convert_checkpoint(tmp_path / "timm.pth", num_attention_heads=3, layer_norm_eps=1e-12)
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        features = done.model(still(image, 2)).last_hidden_state
    torch.testing.assert_close(features, features_without_cls(vit, image), atol=1e-4, rtol=0)
    assert "key's third" in next(
        key_mapping.note for key_mapping in done.report.keys if key_mapping.key == "blocks.0.attn.qkv.bias"
    )


def test_head_on_mean_of_patches_is_kept(vit: torch.nn.Module, tmp_path: Path) -> None:
    weights = as_timm(vit)
    weights["fc_norm.weight"], weights["fc_norm.bias"] = weights.pop("norm.weight"), weights.pop("norm.bias")
    weights |= {"head.weight": torch.randn(4, 48), "head.bias": torch.randn(4)}
    torch.save(weights, tmp_path / "pooled.pth")
    done = convert_checkpoint(tmp_path / "pooled.pth", num_attention_heads=3)
    assert isinstance(done.model, VideoMAEForVideoClassification) and done.model.num_labels == 4
    assert done.report.differences[0].largest < 1e-4


def test_other_sizes_interpolate_the_image_positions(vit: torch.nn.Module, tmp_path: Path) -> None:
    done = convert_checkpoint(tmp_path / "image", image_size=48, num_frames=4)
    assert done.model.config.table_grid == (2, 4, 4) and done.model.config.grid == (2, 6, 6)
    assert done.model(torch.randn(1, 4, 3, 48, 48)).last_hidden_state.shape == (1, 72, 48)
    assert done.report.unchecked is not None


def test_pixel_statistics_of_image_model_are_kept(vit: torch.nn.Module, tmp_path: Path) -> None:
    statistics = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.5]}
    (tmp_path / "image" / "preprocessor_config.json").write_text(json.dumps(statistics))
    done = convert_checkpoint(tmp_path / "image")
    assert list(done.processor.image_std) == [0.25, 0.5, 0.5] == list(done.model.config.image_std)


def test_other_than_plain_vit_is_refused_by_name(vit: torch.nn.Module, tmp_path: Path) -> None:
    torch.save({**as_timm(vit), "blocks.0.ls1.gamma": torch.ones(48)}, tmp_path / "scaled.pth")
    with pytest.raises(ValueError, match="no place for: blocks.0.ls1.gamma"):
        convert_checkpoint(tmp_path / "scaled.pth", num_attention_heads=3)
    without = {name: value for name, value in as_timm(vit).items() if name != "pos_embed"}
    torch.save(without, tmp_path / "rotary.pth")
    with pytest.raises(ValueError, match="no position embeddings"):
        convert_checkpoint(tmp_path / "rotary.pth", num_attention_heads=3)
    torch.save(as_timm(vit), tmp_path / "heads.pth")
    with pytest.raises(ValueError, match="give num_attention_heads"):
        convert_checkpoint(tmp_path / "heads.pth")


def test_unknown_choices_are_named(vit: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose sinusoid or learned"):
        VideoMAEConfig(position_embedding="rotary")
    with pytest.raises(ValueError, match="choose one of mean, center"):
        convert_checkpoint(tmp_path / "image", inflate="first")
    with pytest.raises(ValueError, match="choose one of image, sinusoid"):
        convert_checkpoint(tmp_path / "image", positions="none")
