"""Test our models in the stock Trainer, Accelerate and safetensors: same loss and gradients, every weight restored."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, load_model
from transformers.trainer_utils import load_sharded_checkpoint

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification
from tests.helpers.stock_trainer import MODELS, Clips, logged, trainer, weights_of

pytestmark = pytest.mark.fault

BIASES = ("query.bias", "value.bias")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a tiny classifier of two classes whose biases are all far from zero."""
    return save(VideoMAEForVideoClassification, "classification", tmp_path_factory.mktemp("classifier"), num_labels=2)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(VideoMAEForPreTraining, "pretraining", tmp_path_factory.mktemp("pretrained"))


def save(kind: type, task: str, folder: Path, **fields: object) -> Path:
    torch.manual_seed(0)
    model = kind(VideoMAEConfig.from_preset("tiny", task=task, num_hidden_layers=2, head_init_scale=1.0, **fields))
    with torch.no_grad():
        for value in model.parameters():
            value += 0.05 * torch.randn(value.shape)
    model.save_pretrained(folder)
    return folder


def empty(folder: Path) -> VideoMAEForVideoClassification:
    """Return a model with other weights than the saved one."""
    return VideoMAEForVideoClassification(VideoMAEConfig.from_pretrained(folder))


def check_restored(model: torch.nn.Module, folder: Path) -> None:
    expected = weights_of(VideoMAEForVideoClassification.from_pretrained(folder))
    found = weights_of(model)
    assert found.keys() == expected.keys()
    assert not [name for name, value in found.items() if not torch.equal(value, expected[name])]
    assert any(name.endswith(BIASES) and value.abs().sum() > 0 for name, value in found.items())


class TestLosses:
    """Test the loss and gradient norm that the Trainer logs."""

    def of(self, kind: str, folder: Path, tmp_path: Path, batch: int, accumulation: int, **data: object) -> list:
        model = MODELS[kind].from_pretrained(folder)
        found = trainer(model, tmp_path / kind, batch=batch, accumulation=accumulation, data=Clips(**data))
        found.train()
        return logged(found)

    def test_classifier_agrees_with_stock_for_any_accumulation(self, saved: Path, tmp_path: Path) -> None:
        expected = self.of("stock", saved, tmp_path, 16, 1)
        for batch, accumulation in ((16, 1), (4, 4)):
            found = self.of("ours", saved, tmp_path, batch, accumulation)
            torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-4)

    def test_multi_label_loss_does_not_grow_with_accumulation(self, saved: Path, tmp_path: Path) -> None:
        model = VideoMAEForVideoClassification.from_pretrained(saved, problem_type="multi_label_classification")
        model.save_pretrained(tmp_path / "several")
        one = self.of("ours", tmp_path / "several", tmp_path, 16, 1, several=True)
        four = self.of("ours", tmp_path / "several", tmp_path, 4, 4, several=True)
        torch.testing.assert_close(one, four, rtol=2e-3, atol=1e-4)

    def test_pretraining_loss_does_not_grow_with_accumulation(self, pretrained: Path, tmp_path: Path) -> None:
        one = self.of("pretraining", pretrained, tmp_path, 16, 1, tokens=64)
        four = self.of("pretraining", pretrained, tmp_path, 4, 4, tokens=64)
        torch.testing.assert_close(one, four, rtol=2e-3, atol=1e-4)

    def test_losses_of_a_step_add_up_with_num_items_in_batch(self, saved: Path) -> None:
        model = VideoMAEForVideoClassification.from_pretrained(saved)
        clips, labels = torch.randn(5, 8, 3, 64, 64), torch.tensor([0, 1, 1, -100, 0])
        whole = model(clips, labels).loss
        parts = [model(clips[a:b], labels[a:b], num_items_in_batch=torch.tensor(4)).loss for a, b in ((0, 3), (3, 5))]
        torch.testing.assert_close(sum(parts), whole)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["ours", "pretraining"])
    def test_two_processes_train_alike(self, kind: str, saved: Path, pretrained: Path, tmp_path: Path) -> None:
        folder = pretrained if kind == "pretraining" else saved
        expected = self.launch("pretraining" if kind == "pretraining" else "stock", folder, tmp_path, 1, 16, 1)
        torch.testing.assert_close(self.launch(kind, folder, tmp_path, 2, 4, 2), expected, rtol=5e-3, atol=1e-3)

    def launch(self, kind: str, folder: Path, tmp_path: Path, processes: int, batch: int, accumulation: int) -> list:
        script, output = Path(__file__).with_name("stock_trainer.py"), tmp_path / f"{kind}-{processes}" / "log.json"
        output.parent.mkdir()
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        arguments = [str(script), kind, str(folder), str(output), str(batch), str(accumulation)]
        subprocess.run([*command, *arguments], check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return json.loads(output.read_text())


class TestLoading:
    """Test every way to load a file with q_bias and v_bias."""

    def test_load_state_dict_restores_published_biases(self, saved: Path) -> None:
        model = empty(saved)
        model.load_state_dict(load_file(saved / "model.safetensors"), strict=True)
        check_restored(model, saved)

    def test_assign_restores_a_model_on_the_meta_device(self, saved: Path) -> None:
        with torch.device("meta"):
            model = empty(saved)
        model.load_state_dict(load_file(saved / "model.safetensors"), assign=True)
        assert not [name for name, value in model.named_parameters() if value.is_meta]
        check_restored(model, saved)

    def test_load_state_dict_of_a_submodule(self, saved: Path) -> None:
        model, prefix = empty(saved), "videomae.encoder.layer.1."
        weights = load_file(saved / "model.safetensors")
        layer = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        assert "attention.attention.q_bias" in layer
        model.videomae.encoder.layer[1].load_state_dict(layer)
        bias = model.videomae.encoder.layer[1].attention.attention.query.bias
        assert torch.equal(bias, weights[f"{prefix}attention.attention.q_bias"])

    def test_names_in_memory_still_load(self, saved: Path) -> None:
        model = empty(saved)
        model.load_state_dict(VideoMAEForVideoClassification.from_pretrained(saved).state_dict())
        check_restored(model, saved)

    def test_two_values_for_one_bias_are_refused(self, saved: Path) -> None:
        weights = load_file(saved / "model.safetensors")
        name = next(name for name in weights if name.endswith("q_bias"))
        weights[name.replace("q_bias", "query.bias")] = weights[name] + 1
        with pytest.raises(RuntimeError, match="one weight with two values"):
            empty(saved).load_state_dict(weights)

    def test_biases_are_unexpected_without_qv_bias(self, saved: Path) -> None:
        model = VideoMAEForVideoClassification(VideoMAEConfig.from_pretrained(saved, qv_bias=False))
        with pytest.raises(RuntimeError, match="q_bias"):
            model.load_state_dict(load_file(saved / "model.safetensors"))

    def test_safetensors_load_model_restores_biases(self, saved: Path) -> None:
        model = empty(saved)
        assert load_model(model, saved / "model.safetensors", strict=True) == (set(), [])
        check_restored(model, saved)

    @pytest.mark.parametrize("load", ["in_model", "and_dispatch"])
    def test_accelerate_restores_biases(self, saved: Path, load: str) -> None:
        import accelerate

        model = empty(saved)
        getattr(accelerate, f"load_checkpoint_{load}")(model, str(saved))
        check_restored(model, saved)

    def test_sharded_checkpoint_restores_biases(self, saved: Path, tmp_path: Path) -> None:
        VideoMAEForVideoClassification.from_pretrained(saved).save_pretrained(tmp_path, max_shard_size="800KB")
        assert len(list(tmp_path.glob("model-*.safetensors"))) >= 2
        model = empty(saved)
        load_sharded_checkpoint(model, str(tmp_path), strict=False)
        check_restored(model, saved)

    def test_trainer_resumes_and_keeps_the_best(self, saved: Path, tmp_path: Path) -> None:
        more = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
        first = trainer(
            VideoMAEForVideoClassification.from_pretrained(saved),
            tmp_path,
            batch=4,
            load_best_model_at_end=True,
            metric_for_best_model="score",
            greater_is_better=True,
            **more,
        )
        scores = iter([1.0, 0.0])
        first.compute_metrics = lambda _: {"score": next(scores)}
        first.train()
        assert first.state.best_model_checkpoint.endswith("checkpoint-1")
        check_restored(first.model, tmp_path / "checkpoint-1")

        again = trainer(empty(saved), tmp_path, batch=4, **more)
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
        check_restored(again.model, tmp_path / "checkpoint-2")

    def test_saved_weights_have_the_published_names(self, saved: Path) -> None:
        names = [name for name in load_file(saved / "model.safetensors") if "layer.0.attention.attention" in name]
        assert sorted(name.rpartition("attention.")[2] for name in names if "bias" in name) == ["q_bias", "v_bias"]

    def test_peft_wrapped_model_loads_weights(self, saved: Path) -> None:
        peft = pytest.importorskip("peft")
        settings = peft.LoraConfig(r=2, target_modules=["query", "value"])
        model = peft.get_peft_model(empty(saved), settings)
        model.base_model.model.load_state_dict(
            {
                name.replace("query.weight", "query.base_layer.weight").replace(
                    "value.weight", "value.base_layer.weight"
                ): value
                for name, value in load_file(saved / "model.safetensors").items()
            },
            strict=False,
        )
        check_restored(model.merge_and_unload(), saved)


class TestOutputs:
    def test_return_dict_false_returns_tuples(self, saved: Path, pretrained: Path) -> None:
        clips = torch.randn(2, 8, 3, 64, 64)
        for model in (
            VideoMAEForVideoClassification.from_pretrained(saved).eval(),
            VideoMAEForPreTraining.from_pretrained(pretrained).eval(),
        ):
            more = {} if model.config.use_mean_pooling else {"bool_masked_pos": Clips(tokens=64)[0]["bool_masked_pos"]}
            more = {name: value.expand(2, -1) for name, value in more.items()}
            expected = model(clips, **more)
            model.config.return_dict = False
            for found in (model(clips, **more), model(clips, **more, return_dict=False)):
                assert isinstance(found, tuple)
                torch.testing.assert_close(found, expected.to_tuple())
            assert torch.equal(model(clips, **more, return_dict=True).logits, expected.logits)

    def test_trainer_reports_an_eval_loss_of_pretraining(self, pretrained: Path, tmp_path: Path) -> None:
        model = VideoMAEForPreTraining.from_pretrained(pretrained)
        found = trainer(model, tmp_path, batch=4)
        found.eval_dataset = Clips(8, tokens=64)
        assert 0.1 < found.evaluate()["eval_loss"] < 5

    def test_pretraining_exports_without_strict(self, pretrained: Path) -> None:
        model = VideoMAEForPreTraining.from_pretrained(pretrained).eval()
        clips = torch.randn(2, 8, 3, 64, 64)
        mask = torch.stack([Clips(tokens=64)[index]["bool_masked_pos"] for index in range(4)])
        exported = torch.export.export(model, (clips, mask[:2]), strict=False).module()
        torch.testing.assert_close(exported(clips, mask[2:]).loss, model(clips, mask[2:]).loss)
        fewer = mask[2:].clone()
        fewer[:, :8] = False
        with pytest.raises(RuntimeError, match="another number of masked tokens"):
            exported(clips, fewer)
