"""Test conversion of original checkpoints: wrappers, prefixes, inferred architecture, and every key used or named."""

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel
from hf_videomae.convert import convert_checkpoint, load_original_checkpoint
from hf_videomae.convert.reference import compare_original

FIELDS = {"image_size": 32, "num_attention_heads": 3, "decoder_num_attention_heads": 3}


@pytest.fixture
def pretrained(fixtures_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(fixtures_dir / "original_pretrain_tube90.pth", weights_only=True)["model"]


@pytest.fixture
def fine_tuned(fixtures_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(fixtures_dir / "original_finetune.pth", weights_only=True)["module"]


def equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("wrapper", ["model", "module", None])
def test_wrappers_and_prefixes_are_removed(pretrained, prefix: str, wrapper: str | None, tmp_path: Path) -> None:
    weights = {f"{prefix}{name}": value for name, value in pretrained.items()}
    torch.save({"a": weights, "epoch": 3, wrapper: weights} if wrapper else weights, tmp_path / "file.pth")
    torch.save({"model": pretrained}, tmp_path / "plain.pth")
    model = load_original_checkpoint(tmp_path / "file.pth", **FIELDS)
    assert isinstance(model, VideoMAEForPreTraining)
    assert equal(model, load_original_checkpoint(tmp_path / "plain.pth", **FIELDS))


def test_unused_weights_and_options_are_named(pretrained, tmp_path: Path) -> None:
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []}
    saved = {"model_ema": pretrained, "model": pretrained, "optimizer": optimizer, "scaler": {}}
    torch.save(saved, tmp_path / "file.pth")
    torch.save({"model": pretrained}, tmp_path / "plain.pth")
    (warning,) = convert_checkpoint(tmp_path / "file.pth", check=False, **FIELDS).report.warnings
    assert "file.pth" in warning and "other weights" in warning and "left out: model_ema;" in warning
    done = convert_checkpoint(tmp_path / "plain.pth", check=False, fix=True, inflate="center", **FIELDS)
    first, second = done.report.warnings
    assert first.startswith("--fix ") and second.startswith("--inflate and --positions ")
    assert not convert_checkpoint(tmp_path / "plain.pth", check=False, **FIELDS).report.warnings


def test_architecture_is_inferred_from_weights(pretrained, tmp_path: Path) -> None:
    torch.save({"model": pretrained}, tmp_path / "file.pth")
    config = load_original_checkpoint(tmp_path / "file.pth", **FIELDS).config
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (48, 3, 192)
    assert (config.decoder_hidden_size, config.decoder_num_hidden_layers) == (24, 2)
    assert (config.patch_size, config.tubelet_size, config.num_frames) == (8, 2, 16)
    assert config.layer_norm_eps == config.final_layer_norm_eps == 1e-6
    assert config.use_mean_pooling is False


@pytest.mark.parametrize(
    ("preset", "heads", "decoder_heads"),
    [("small", 6, 3), ("base", 12, 6), ("large", 16, 8), ("huge", 16, 8), ("giant", 16, 8)],
)
def test_heads_of_published_sizes_are_inferred(preset: str, heads: int, decoder_heads: int) -> None:
    from hf_videomae.convert.originals import infer_config

    config = VideoMAEConfig.from_preset(preset)
    shapes = {
        "mask_token": (1, 1, config.decoder_hidden_size),
        "encoder.patch_embed.proj.weight": (config.hidden_size, 3, *config.cube),
        "encoder.norm.weight": (config.hidden_size,),
        "encoder.blocks.0.attn.q_bias": (config.hidden_size,),
        f"encoder.blocks.{config.num_hidden_layers - 1}.norm1.weight": (config.hidden_size,),
        "encoder.blocks.0.mlp.fc1.weight": (config.intermediate_size, config.hidden_size),
        f"decoder.blocks.{config.decoder_num_hidden_layers - 1}.norm1.weight": (config.decoder_hidden_size,),
        "decoder.blocks.0.mlp.fc1.weight": (config.decoder_intermediate_size, config.decoder_hidden_size),
    }
    inferred = infer_config({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    assert (inferred["num_attention_heads"], inferred["decoder_num_attention_heads"]) == (heads, decoder_heads)
    expected = config.to_dict()
    assert {name: expected[name] for name in inferred if name != "final_layer_norm_eps"} == {
        name: value for name, value in inferred.items() if name != "final_layer_norm_eps"
    }


def test_training_arguments_are_read_and_caller_overrides(pretrained, tmp_path: Path) -> None:
    arguments = argparse.Namespace(num_frames=16, input_size=32, mask_ratio=0.75, decoder_mask_type="run_cell")
    torch.save({"model": pretrained, "args": arguments}, tmp_path / "file.pth")
    fields = {"num_attention_heads": 3, "decoder_num_attention_heads": 3}
    config = load_original_checkpoint(tmp_path / "file.pth", **fields).config
    assert (config.image_size, config.mask_ratio, config.decoder_mask_type) == (32, 0.75, "running_cell")
    config = load_original_checkpoint(tmp_path / "file.pth", **fields, mask_ratio=0.5).config
    assert config.mask_ratio == 0.5


def test_model_class_follows_the_parts_of_the_file(fine_tuned, tmp_path: Path) -> None:
    fields = {"image_size": 32, "num_attention_heads": 3}
    torch.save({"module": fine_tuned}, tmp_path / "file.pth")
    model = load_original_checkpoint(tmp_path / "file.pth", **fields)
    assert isinstance(model, VideoMAEForVideoClassification) and model.fc_norm is not None and model.num_labels == 5

    headless = {name: value for name, value in fine_tuned.items() if not name.startswith("head.")}
    torch.save(headless, tmp_path / "headless.pth")
    features = load_original_checkpoint(tmp_path / "headless.pth", **fields)
    clip = torch.randn(1, 16, 3, 32, 32)
    expected = model.fc_norm(model.videomae(clip).last_hidden_state.mean(1))
    torch.testing.assert_close(features(clip).logits, expected)

    torch.save({name: value for name, value in headless.items() if "fc_norm" not in name}, tmp_path / "encoder.pth")
    assert isinstance(load_original_checkpoint(tmp_path / "encoder.pth", **fields), VideoMAEModel)


def test_saved_model_loads_with_same_weights(pretrained, tmp_path: Path) -> None:
    torch.save({"model": pretrained}, tmp_path / "file.pth")
    model = load_original_checkpoint(tmp_path / "file.pth", **FIELDS)
    model.save_pretrained(tmp_path / "ours")
    assert equal(VideoMAEForPreTraining.from_pretrained(tmp_path / "ours"), model)


def test_fixed_positions_are_dropped_and_learned_ones_refused(pretrained, tmp_path: Path) -> None:
    from hf_videomae.ops.patches import sinusoid_table

    table = sinusoid_table(128, 48)[None]
    torch.save({"model": {**pretrained, "encoder.pos_embed": table}}, tmp_path / "fixed.pth")
    assert load_original_checkpoint(tmp_path / "fixed.pth", **FIELDS)
    torch.save({"model": {**pretrained, "encoder.pos_embed": torch.randn_like(table)}}, tmp_path / "learned.pth")
    with pytest.raises(ValueError, match="encoder.pos_embed that are not VideoMAE's fixed sinusoid"):
        load_original_checkpoint(tmp_path / "learned.pth", **FIELDS)


def test_comparison_detects_wrong_mapping(pretrained, tmp_path: Path) -> None:
    torch.save({"model": pretrained}, tmp_path / "file.pth")
    model = load_original_checkpoint(tmp_path / "file.pth", **FIELDS)
    assert compare_original(model, pretrained).largest < 1e-5
    attention = model.decoder.decoder_layers[1].attention.attention
    attention.query.weight, attention.value.weight = attention.value.weight, attention.query.weight
    assert compare_original(model, pretrained).largest > 1e-3


def test_report_covers_every_key(pretrained, tmp_path: Path) -> None:
    torch.save({"model": pretrained}, tmp_path / "file.pth")
    done = convert_checkpoint(tmp_path / "file.pth", license="cc-by-nc-4.0", **FIELDS)
    assert [key_mapping.key for key_mapping in done.report.keys] == list(pretrained)
    became = [name for key_mapping in done.report.keys for name in key_mapping.became]
    assert sorted(became) == sorted(done.model.state_dict())
    assert any("num_frames 16, as published" in text for text in done.report.assumed)
    done.save(tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text().startswith("---\nlicense: cc-by-nc-4.0\n---\n")
    edited = (tmp_path / "out" / "README.md").read_text().replace("# Converted weights", "# My weights")
    (tmp_path / "out" / "README.md").write_text(edited)
    done.save(tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text() == edited


class TestErrors:
    def check(self, path: Path, word: str, **fields) -> None:
        with pytest.raises(ValueError, match=word):
            load_original_checkpoint(path, **{**FIELDS, **fields})

    def test_bad_files_are_named(self, tmp_path: Path, fixtures_dir: Path) -> None:
        self.check(tmp_path / "none.pth", "there is no checkpoint file")
        (tmp_path / "empty.pth").touch()
        self.check(tmp_path / "empty.pth", "cannot be read as a checkpoint")
        (tmp_path / "text.pth").write_text("hello")
        self.check(tmp_path / "text.pth", "cannot be read as a checkpoint")
        whole = (fixtures_dir / "original_finetune.pth").read_bytes()
        (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
        self.check(tmp_path / "cut.pth", "cannot be read as a checkpoint")
        (tmp_path / "bad.safetensors").write_bytes(b"12345678901234567890")
        self.check(tmp_path / "bad.safetensors", "cannot be read as safetensors")
        torch.save({"model": {"conv1.weight": torch.zeros(1)}}, tmp_path / "other.pth")
        self.check(tmp_path / "other.pth", "is not a checkpoint of the VideoMAE")

    def test_objects_are_never_unpickled(self, tmp_path: Path) -> None:
        torch.save({"model": {}, "args": Path("x")}, tmp_path / "objects.pth")
        self.check(tmp_path / "objects.pth", "it holds a pathlib.*never unpickled")

        code = b"cposix\nsystem\n(S'touch pwned'\ntR."
        (tmp_path / "code.pth").write_bytes(b"\x80\x02" + code)
        self.check(tmp_path / "code.pth", "cannot be read as a checkpoint .*never unpickled")

    def test_bad_folders_are_named(self, tmp_path: Path, fine_tuned) -> None:
        self.check(tmp_path, "holds no weights")
        for name in ("one.pth", "two.pth"):
            torch.save({"module": fine_tuned}, tmp_path / name)
        self.check(tmp_path, "several files of weights .one.pth, two.pth.: give one of them")
        (tmp_path / "two.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
        self.check(tmp_path / "two.pth", "Git LFS pointer")
        (tmp_path / "two.pth").rename(tmp_path / "pytorch_model-00002-of-00003.bin")
        self.check(tmp_path / "pytorch_model-00002-of-00003.bin", "part 2 of 3 of a sharded checkpoint")
        self.check(tmp_path, "shards without their index")
        self.check(Path("no/such/place"), "there is no checkpoint file")
        self.check(Path("someone/something"), "is not a local file or folder")

    def test_bad_configurations_are_named(self, tmp_path: Path, fine_tuned) -> None:
        save_file(fine_tuned, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text("{")
        self.check(tmp_path, "is not JSON")
        stock = {"videomae.embeddings.patch_embeddings.projection.weight": torch.zeros(48, 3, 2, 8, 8)}
        save_file(stock, tmp_path / "alone.safetensors")
        with pytest.raises(ValueError, match="without its config.json"):
            convert_checkpoint(tmp_path / "alone.safetensors")

    def test_bad_weights_are_named(self, pretrained, tmp_path: Path) -> None:
        torch.save({"model": {**pretrained, "encoder.blocks.0.gamma_1": torch.ones(48)}}, tmp_path / "extra.pth")
        self.check(tmp_path / "extra.pth", "no place for: encoder.blocks.0.gamma_1")
        lost = {name: value for name, value in pretrained.items() if name != "encoder.blocks.1.norm1.bias"}
        torch.save({"model": lost}, tmp_path / "lost.pth")
        self.check(tmp_path / "lost.pth", "lacks encoder.blocks.1.norm1.bias")
        torch.save({"model": pretrained}, tmp_path / "file.pth")
        self.check(tmp_path / "file.pth", "Other shapes", intermediate_size=96)
        self.check(tmp_path / "file.pth", "no field num_layers", num_layers=2)

    def test_unknown_width_asks_for_heads(self, pretrained, tmp_path: Path) -> None:
        torch.save({"model": pretrained}, tmp_path / "file.pth")
        with pytest.raises(ValueError, match="num_attention_heads"):
            load_original_checkpoint(tmp_path / "file.pth", image_size=32)


def license_note(source: Path, out: Path, **options: str) -> str:
    convert_checkpoint(source, check=False, **options, **FIELDS).save(out)
    return (out / "README.md").read_text()


@pytest.mark.parametrize(
    "header",
    ["license: cc-by-nc-4.0", "base_model: MCG-NJU/videomae-base", "base_model: [a/b, MCG-NJU/videomae-base]"],
)
def test_non_commercial_license_stays(pretrained, header: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    torch.save({"model": pretrained}, source / "file.pth")
    (source / "README.md").write_text(f"---\n{header}\n---\n")
    assert license_note(source, tmp_path / "out").startswith("---\nlicense: cc-by-nc-4.0\n---\n")
    with pytest.raises(ValueError, match="cannot be apache-2.0: .* is cc-by-nc-4.0"):
        convert_checkpoint(source, license="apache-2.0", check=False, **FIELDS)


def test_license_must_be_one_the_hub_knows(pretrained, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    torch.save({"model": pretrained}, source / "file.pth")
    with pytest.raises(ValueError, match="of my own"):
        convert_checkpoint(source, license="of my own", check=False, **FIELDS)
    (source / "README.md").write_text("---\nlicense: other\nlicense_name: of-my-own\n---\n")
    note = license_note(source, tmp_path / "out")
    assert note.startswith("---\nlicense: other\nlicense_name: of-my-own\n---\n")
    assert str(tmp_path) not in note and "Converted from `path/to/source`" in note


def test_two_keys_for_one_weight_are_refused(fine_tuned, tmp_path: Path) -> None:
    torch.save(
        {"model": {**fine_tuned, "encoder.fc_norm.weight": fine_tuned["fc_norm.weight"] + 1}}, tmp_path / "a.pth"
    )
    with pytest.raises(ValueError, match="fc_norm.weight and encoder.fc_norm.weight are both fc_norm.weight"):
        load_original_checkpoint(tmp_path / "a.pth", **FIELDS)


def test_revision_of_local_file_is_refused(pretrained, tmp_path: Path) -> None:
    torch.save({"model": pretrained}, tmp_path / "file.pth")
    with pytest.raises(ValueError, match="is local, and revision main is for a Hub repository: leave it out"):
        convert_checkpoint(tmp_path / "file.pth", revision="main", **FIELDS)
