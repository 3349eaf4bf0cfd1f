"""Test conversion from and to stock transformers: results load there, and wrong configurations are found and fixed."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from hf_videomae import VideoMAEForVideoClassification
from hf_videomae.cli import main
from hf_videomae.convert import convert_checkpoint, load_original_checkpoint
from tests.helpers.models import loads_in_stock

pytestmark = loads_in_stock

NOT_FIELDS = {"loss", "grad_norms", "num_labels"}
SMALL = {
    "image_size": 32,
    "patch_size": 8,
    "num_frames": 4,
    "hidden_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-12,
}
DECODER = {
    "decoder_hidden_size": 192,
    "decoder_num_attention_heads": 3,
    "decoder_num_hidden_layers": 6,
    "decoder_intermediate_size": 32,
    "use_mean_pooling": False,
}


def scattered(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model.eval()


def clip() -> torch.Tensor:
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", ["original_pretrain_tube90", "original_pretrain_pixels", "original_finetune"])
def test_converted_originals_give_their_numbers_in_stock(name: str, fixtures_dir: Path, tmp_path: Path) -> None:
    facts = json.loads((fixtures_dir / f"{name}.json").read_text())
    fields = [
        word for key, value in facts.items() if key not in NOT_FIELDS for word in (f"--{key}", json.dumps(value))
    ]
    assert main(["convert", str(fixtures_dir / f"{name}.pth"), str(tmp_path / "out"), *fields]) == 0
    tensors = load_file(fixtures_dir / f"{name}.safetensors")
    written = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert written["stock"] and written["differences"][0]["largest"] < 1e-5
    with torch.no_grad():
        if "pretrain" in name:
            model = transformers.VideoMAEForPreTraining.from_pretrained(tmp_path / "out").eval()
            logits = model(tensors["pixel_values"], tensors["bool_masked_pos"].bool()).logits
        else:
            model = transformers.VideoMAEForVideoClassification.from_pretrained(tmp_path / "out").eval()
            logits = model(tensors["pixel_values"]).logits
    torch.testing.assert_close(logits, tensors["logits"], atol=5e-5, rtol=0)


def test_converted_v2_model_gives_its_numbers_in_stock(fixtures_dir: Path, tmp_path: Path) -> None:
    # Stock has no decoder mask: it decodes every masked token, and these are compared.
    name = "v2_pretrain_dual_mask"
    facts = json.loads((fixtures_dir / f"{name}.json").read_text())
    fields = {key: value for key, value in facts.items() if key not in NOT_FIELDS}
    done = convert_checkpoint(fixtures_dir / f"{name}.pth", **fields)
    done.save(tmp_path / "out")
    tensors = load_file(fixtures_dir / f"{name}.safetensors")
    mask = tensors["bool_masked_pos"].bool()
    stock = transformers.VideoMAEForPreTraining.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        ours = done.model(tensors["pixel_values"], mask, bool_decoder_masked_pos=~mask).logits
        torch.testing.assert_close(stock(tensors["pixel_values"], mask).logits, ours, atol=5e-5, rtol=0)


def test_wrong_heads_and_depth_are_named_and_fixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = transformers.VideoMAEConfig(**SMALL, num_labels=5, decoder_hidden_size=192, decoder_num_hidden_layers=12)
    wrong = scattered(transformers.VideoMAEForVideoClassification(config))
    wrong.save_pretrained(tmp_path / "hub")
    right = transformers.VideoMAEForVideoClassification.from_pretrained(tmp_path / "hub", num_attention_heads=6).eval()

    assert main(["convert", str(tmp_path / "hub"), str(tmp_path / "as_it_was")]) == 0
    errors = capsys.readouterr().err
    assert "num_attention_heads 16 should be 6" in errors and "--fix" in errors
    assert "decoder_num_hidden_layers 12 should be 4" in errors
    unfixed = VideoMAEForVideoClassification.from_pretrained(tmp_path / "as_it_was").eval()

    assert main(["convert", str(tmp_path / "hub"), str(tmp_path / "fixed"), "--fix", "--json"]) == 0
    output, errors = capsys.readouterr()
    report = json.loads(output)
    assert "should be" not in errors
    assert report["differences"][0]["largest"] < 1e-5 < 1e-2 < report["differences"][1]["largest"]
    repaired = VideoMAEForVideoClassification.from_pretrained(tmp_path / "fixed").eval()
    stock = transformers.VideoMAEForVideoClassification.from_pretrained(tmp_path / "fixed").eval()
    assert (repaired.config.num_attention_heads, repaired.config.decoder_num_hidden_layers) == (6, 4)
    with torch.no_grad():
        torch.testing.assert_close(unfixed(clip()).logits, wrong(clip()).logits, atol=1e-5, rtol=0)
        for model in (repaired, stock):
            torch.testing.assert_close(model(clip()).logits, right(clip()).logits, atol=1e-5, rtol=0)
        assert (repaired(clip()).logits - wrong(clip()).logits).abs().max() > 1e-2


@pytest.mark.parametrize("trained", [4, 6])
def test_untrained_decoder_layers_are_dropped(trained: int, tmp_path: Path) -> None:
    model = transformers.VideoMAEForPreTraining(transformers.VideoMAEConfig(**SMALL, **DECODER))
    scattered(model.videomae)
    for layer in model.decoder.decoder_layers[:trained]:
        scattered(layer)
    model.save_pretrained(tmp_path / "hub")
    done = convert_checkpoint(tmp_path / "hub", fix=True)
    assert done.model.config.decoder_num_hidden_layers == trained
    dropped = [
        key_mapping
        for key_mapping in done.report.keys
        if "decoder_layers.5" in key_mapping.key and "never trained" in key_mapping.note
    ]
    assert bool(dropped) == (trained == 4)


def test_correct_configuration_is_unchanged(tmp_path: Path) -> None:
    model = scattered(transformers.VideoMAEModel(transformers.VideoMAEConfig(**{**SMALL, "num_attention_heads": 6})))
    model.save_pretrained(tmp_path / "hub")
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    done = convert_checkpoint(tmp_path / "hub", fix=True)
    assert not done.report.warnings and done.model.config.num_attention_heads == config["num_attention_heads"]
    assert [difference.against for difference in done.report.differences] == ["transformers' own class"]
    assert all(key_mapping.became for key_mapping in done.report.keys)
    with pytest.raises(ValueError, match="is the source itself"):
        done.save(tmp_path / "hub")


def test_shards_are_joined_and_missing_ones_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = scattered(transformers.VideoMAEModel(transformers.VideoMAEConfig(**{**SMALL, "num_attention_heads": 6})))
    model.save_pretrained(tmp_path / "hub", max_shard_size="1MB")
    shards = sorted((tmp_path / "hub").glob("model-*.safetensors"))
    assert len(shards) > 1
    done = convert_checkpoint(tmp_path / "hub")
    capsys.readouterr()
    assert done.report.hashes.keys() == {shard.name for shard in shards}
    for source, words in ((shards[0], "give its folder"), (tmp_path / "hub", f"missing: {shards[0].name}")):
        if source.is_dir():
            shards[0].unlink()
        with pytest.raises(SystemExit) as stop:
            main(["convert", str(source), str(tmp_path / "out")])
        errors = capsys.readouterr().err
        assert stop.value.code == 2 and words in errors and len(errors.splitlines()) == 1


class TestV2Repository:
    """V2's repositories on the Hub: an encoder and its fc_norm, with a config.json of their own."""

    described = {
        "model_type": "VideoMAEv2_Base",
        "auto_map": {"AutoModel": "modeling_videomaev2.VideoMAEv2"},
        "model_config": {
            "img_size": 32,
            "num_heads": 3,
            "num_frames": 16,
            "layer_norm_eps": 1e-6,
            "drop_path_rate": 0.0,
            "init_values": 0.0,
            "cos_attn": False,
            "use_learnable_pos_emb": False,
        },
    }

    def write(self, folder: Path, fixtures_dir: Path, **changes: object) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        weights = torch.load(fixtures_dir / "original_finetune.pth", weights_only=True)["module"]
        kept = {f"model.{name}": value for name, value in weights.items() if not name.startswith("head.")}
        save_file(kept, folder / "model.safetensors")
        described = {**self.described, "model_config": {**self.described["model_config"], **changes}}
        (folder / "config.json").write_text(json.dumps(described))
        (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# VideoMAE V2\n")
        (folder / "modeling_videomaev2.py").write_text("raise RuntimeError('this code must never run')\n")
        return folder

    def check(self, source: str | Path, fixtures_dir: Path, out: Path) -> dict[str, object]:
        tensors = load_file(fixtures_dir / "original_finetune.safetensors")
        done = convert_checkpoint(source)
        done.save(out)
        assert done.report.differences[0].largest < 1e-5
        for family in (VideoMAEForVideoClassification, transformers.VideoMAEForVideoClassification):
            with torch.no_grad():
                logits = family.from_pretrained(out).eval()(tensors["pixel_values"]).logits
            torch.testing.assert_close(logits, tensors["pooled"], atol=5e-5, rtol=0)
        assert (out / "README.md").read_text().startswith("---\nlicense: cc-by-nc-4.0\n---\n")
        return done.report.to_dict()

    def test_folder_is_converted(self, fixtures_dir: Path, tmp_path: Path) -> None:
        report = self.check(self.write(tmp_path / "v2", fixtures_dir), fixtures_dir, tmp_path / "out")
        assert ["sampled dense" in line for line in report["assumed"]] == [True]
        # The file within the folder means the same.
        self.check(tmp_path / "v2" / "model.safetensors", fixtures_dir, tmp_path / "again")

    def test_hub_repository_is_converted_without_its_code(self, hub, fixtures_dir: Path, tmp_path: Path) -> None:
        self.write(hub.model("OpenGVLab/VideoMAEv2-Tiny"), fixtures_dir)
        self.check("OpenGVLab/VideoMAEv2-Tiny", fixtures_dir, tmp_path / "out")
        assert not hub.requests("modeling_videomaev2.py")
        with pytest.raises(ValueError, match="the Hub does not give it"):
            convert_checkpoint("OpenGVLab/none")

    def test_new_head_keeps_the_norm(self, fixtures_dir: Path, tmp_path: Path) -> None:
        convert_checkpoint(self.write(tmp_path / "v2", fixtures_dir)).save(tmp_path / "out")
        model = VideoMAEForVideoClassification.from_pretrained(tmp_path / "out", num_labels=7)
        norm = torch.load(fixtures_dir / "original_finetune.pth", weights_only=True)["module"]["fc_norm.weight"]
        assert model.num_labels == 7 and torch.equal(model.fc_norm.weight, norm)

    def test_unsupported_variants_are_refused(self, fixtures_dir: Path, tmp_path: Path) -> None:
        self.write(tmp_path / "v2", fixtures_dir, cos_attn=True)
        with pytest.raises(ValueError, match="cos_attn=True"):
            load_original_checkpoint(tmp_path / "v2")


class TestHeadIndices:
    fields = ["--image_size", "32", "--num_attention_heads", "3"]

    def test_rows_and_names_follow_the_list(self, fixtures_dir: Path, tmp_path: Path) -> None:
        source = fixtures_dir / "original_finetune.pth"
        (tmp_path / "map.json").write_text("[4, 0, 2]")
        (tmp_path / "names.txt").write_text("waving\nboxing\nrunning fast\n")
        chosen = ["--head_indices", str(tmp_path / "map.json"), "--id2label", str(tmp_path / "names.txt")]
        assert main(["convert", str(source), str(tmp_path / "out"), *chosen, *self.fields]) == 0
        tensors = load_file(fixtures_dir / "original_finetune.safetensors")
        stock = transformers.VideoMAEForVideoClassification.from_pretrained(tmp_path / "out").eval()
        with torch.no_grad():
            logits = stock(tensors["pixel_values"]).logits
        torch.testing.assert_close(logits, tensors["logits"][:, [4, 0, 2]], atol=5e-5, rtol=0)
        assert stock.config.id2label == {0: "waving", 1: "boxing", 2: "running fast"}

    @pytest.mark.parametrize(
        ("text", "words"),
        [("[0, 5]", "classes 0 to 4"), ('{"0": 1}', "JSON list"), ("[0.5]", "JSON list"), ("[0", "is not JSON")],
    )
    def test_invalid_lists_are_refused(
        self, text: str, words: str, fixtures_dir: Path, tmp_path: Path, capsys
    ) -> None:
        (tmp_path / "map.json").write_text(text)
        arguments = ["--head_indices", str(tmp_path / "map.json"), *self.fields]
        with pytest.raises(SystemExit) as stop:
            main(["convert", str(fixtures_dir / "original_finetune.pth"), str(tmp_path / "out"), *arguments])
        assert stop.value.code == 2 and words in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_model_without_classifier_is_refused(self, fixtures_dir: Path) -> None:
        fields = {"image_size": 32, "num_attention_heads": 3, "decoder_num_attention_heads": 3}
        with pytest.raises(ValueError, match="has no classifier"):
            convert_checkpoint(fixtures_dir / "original_pretrain_tube90.pth", head_indices=[0], **fields)
