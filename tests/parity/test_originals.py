"""Compare with the numbers of the original VideoMAE and VideoMAE V2 code, on tiny random models (golden/README.md)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_videomae.convert import load_original_checkpoint

PRETRAINED = ["original_pretrain_tube90", "original_pretrain_pixels", "v2_pretrain_dual_mask"]
NOT_FIELDS = {"loss", "grad_norms", "num_labels"}


def read(folder: Path, name: str):
    facts = json.loads((folder / f"{name}.json").read_text())
    fields = {key: value for key, value in facts.items() if key not in NOT_FIELDS}
    return facts, load_original_checkpoint(folder / f"{name}.pth", **fields), load_file(folder / f"{name}.safetensors")


def original_name(name: str, *, encoder: str) -> str:
    for ours, theirs in (
        ("videomae.embeddings.patch_embeddings.projection", f"{encoder}patch_embed.proj"),
        ("videomae.encoder.layer", f"{encoder}blocks"),
        ("videomae.layernorm", f"{encoder}norm"),
        ("decoder.decoder_layers", "decoder.blocks"),
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("attention.attention.query.bias", "attn.q_bias"),
        ("attention.attention.value.bias", "attn.v_bias"),
        ("attention.output.dense", "attn.proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
        ("classifier", "head"),
    ):
        name = name.replace(ours, theirs)
    return name


def check_gradients(model: torch.nn.Module, expected: dict[str, float], *, encoder: str = "") -> None:
    """Compare every gradient's norm, under the original names: query, key and value are one matrix there."""
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name in [name for name in grads if name.endswith("query.weight")]:
        parts = [grads.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        grads[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    found = {original_name(name, encoder=encoder): grad.norm().item() for name, grad in grads.items()}
    assert found.keys() == expected.keys()
    for name, norm in expected.items():
        assert found[name] == pytest.approx(norm, rel=1e-3, abs=1e-9), name


@pytest.mark.parametrize("name", PRETRAINED)
def test_pretraining_matches_the_original(name: str, fixtures_dir: Path) -> None:
    facts, model, tensors = read(fixtures_dir, name)
    decoder_mask = tensors["decode_mask"].bool() if "decode_mask" in tensors else None
    outputs = model(tensors["pixel_values"], tensors["bool_masked_pos"].bool(), bool_decoder_masked_pos=decoder_mask)
    torch.testing.assert_close(outputs.logits, tensors["logits"], atol=1e-5, rtol=0)
    assert outputs.loss.item() == pytest.approx(facts["loss"], abs=1e-6)
    outputs.loss.backward()
    check_gradients(model, facts["grad_norms"], encoder="encoder.")


@pytest.mark.parametrize("name", PRETRAINED)
def test_targets_match_the_original(name: str, fixtures_dir: Path) -> None:
    _, model, tensors = read(fixtures_dir, name)
    mask = ~tensors["decode_mask"].bool() if "decode_mask" in tensors else tensors["bool_masked_pos"].bool()
    index = mask.nonzero()[:, 1].view(len(mask), -1)
    torch.testing.assert_close(model.targets(tensors["pixel_values"], index), tensors["labels"], atol=1e-5, rtol=0)


def test_fine_tuned_logits_match_the_original(fixtures_dir: Path) -> None:
    facts, model, tensors = read(fixtures_dir, "original_finetune")
    assert model.config.num_labels == facts["num_labels"]
    outputs = model(tensors["pixel_values"], labels=tensors["labels"])
    torch.testing.assert_close(outputs.logits, tensors["logits"], atol=1e-5, rtol=0)
    pooled = model.fc_norm(model.videomae(tensors["pixel_values"]).last_hidden_state.mean(1))
    torch.testing.assert_close(pooled, tensors["pooled"], atol=1e-5, rtol=0)
    assert outputs.loss.item() == pytest.approx(facts["loss"], abs=1e-6)
    outputs.loss.backward()
    check_gradients(model, facts["grad_norms"])


def test_v2_decoder_mask_is_one_of_the_running_cells(fixtures_dir: Path) -> None:
    from hf_videomae.ops.masking import running_cell_mask

    mask = load_file(fixtures_dir / "v2_pretrain_dual_mask.safetensors")["decode_mask"].bool()
    ours = running_cell_mask((8, 4, 4), 0.5, batch_size=64, generator=torch.Generator().manual_seed(0))
    possible = {tuple(row.tolist()) for row in ours}
    assert len(possible) == 4
    assert {tuple(row.tolist()) for row in mask} <= possible
