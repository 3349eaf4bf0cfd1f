"""Test the probes: separable classes are separated, noise stays at chance, and the paper's settings are used."""

import math

import pytest
import torch
from torch import Tensor

from hf_videomae.data import DataError
from hf_videomae.evaluation.frozen_features import FrozenFeatures
from hf_videomae.evaluation.probes import (
    ATTENTIVE_CONFIG,
    PAPER_LINEAR_CONFIG,
    ProbeConfig,
    build_probe,
    knn_probabilities,
    learning_rate_scale,
    predict_probabilities,
    run_probe,
    train_probe,
)

CLASSES = ["a", "b", "c"]


def features_of(labels: Tensor, *, shape: tuple[int, ...], noise: float = 0.3, shift: float = 0.0) -> FrozenFeatures:
    """Return features whose class shows in the first axes of the width, the last of `shape`."""
    generator = torch.Generator().manual_seed(len(labels))
    features = noise * torch.randn(len(labels), *shape, generator=generator)
    features[torch.arange(len(labels)), ..., labels] += 1 + shift
    return FrozenFeatures(features, labels, [f"v{i}" for i in range(len(labels))], list(CLASSES), [])


def sets(shape: tuple[int, ...]) -> tuple[FrozenFeatures, FrozenFeatures]:
    return features_of(torch.arange(60) % 3, shape=shape), features_of(torch.arange(31) % 3, shape=shape)


def test_linear_config_is_the_papers() -> None:
    recipe = PAPER_LINEAR_CONFIG
    assert (recipe.optimizer, recipe.learning_rate, recipe.momentum, recipe.weight_decay) == ("sgd", 0.1, 0.9, 0.0)
    assert (recipe.batch_size, recipe.epochs, recipe.warmup_epochs) == (1024, 100, 10)


def test_learning_rate_rises_to_the_peak_and_falls_to_zero() -> None:
    shares = [learning_rate_scale(step, total=100, warmup=10) for step in range(100)]
    assert shares[0] == 0 and shares[5] == 0.5 and shares[10] == max(shares) == 1
    assert shares[55] == pytest.approx(0.5) and 0 < shares[99] < 0.001
    assert learning_rate_scale(0, total=10, warmup=0) == 1


def test_sgd_step_matches_the_formula() -> None:
    features, labels = torch.randn(8, 1, 5), torch.arange(8) % 3
    training = ProbeConfig(epochs=2, warmup_epochs=0, batch_size=8, learning_rate=0.5, standardize=False)
    head = build_probe("linear", features, num_classes=3, training=training)
    weight = head.classifier.weight.detach().clone().requires_grad_()
    bias = head.classifier.bias.detach().clone().requires_grad_()
    velocity = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for share in (1.0, 0.5):
        loss = torch.nn.functional.cross_entropy(features[:, 0] @ weight.T + bias, labels)
        for index, (tensor, gradient) in enumerate(
            zip((weight, bias), torch.autograd.grad(loss, (weight, bias)), strict=True)
        ):
            velocity[index] = 0.9 * velocity[index] + gradient
            tensor.data -= 0.5 * share * velocity[index]
    train_probe(head, features, labels, training=training)
    assert torch.allclose(head.classifier.weight, weight, atol=1e-6)
    assert torch.allclose(head.classifier.bias, bias, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "shape"), [("linear", (1, 16)), ("linear", (2, 16)), ("knn", (2, 16)), ("attentive", (1, 6, 16))]
)
def test_probes_separate_separable_classes(kind: str, shape: tuple[int, ...]) -> None:
    train, test = sets(shape)
    training = None if kind == "linear" else ProbeConfig(optimizer="adamw", learning_rate=3e-3, batch_size=20)
    result = run_probe(kind, train, test, training=training)  # type: ignore[arg-type]
    assert result.top(1) > 0.9 and result.mean_class_accuracy > 0.9
    assert torch.allclose(result.probabilities.sum(1), torch.ones(31), atol=1e-5)
    assert result.to_dict()["top5"] is None and result.train_videos == 60


def test_probes_of_noise_stay_at_chance() -> None:
    train, test = sets((1, 16))
    train.features.normal_(generator=torch.Generator().manual_seed(1))
    test.features.normal_(generator=torch.Generator().manual_seed(2))
    for kind in ("linear", "knn"):
        assert run_probe(kind, train, test).top(1) < 0.6  # type: ignore[arg-type]


def test_attentive_probe_finds_the_informative_token() -> None:
    labels = torch.arange(90) % 3
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(90, 1, 12, 16, generator=generator)
    features[torch.arange(90), 0, 4, labels] += 6
    features[:, 0, 4, 8] += 6  # what the query can look for
    train = FrozenFeatures(features[:60], labels[:60], [""] * 60, CLASSES, [])
    test = FrozenFeatures(features[60:], labels[60:], [""] * 30, CLASSES, [])
    training = ProbeConfig(optimizer="adamw", learning_rate=3e-3, weight_decay=0.05, batch_size=20, epochs=60)
    assert run_probe("attentive", train, test, training=training).top(1) > 0.9


def test_clips_are_averaged_after_softmax() -> None:
    training = ProbeConfig(epochs=1, warmup_epochs=0, standardize=False)
    head = build_probe("linear", torch.zeros(1, 1, 2), num_classes=2, training=training)
    with torch.no_grad():
        head.classifier.weight.copy_(torch.eye(2))
    views = torch.tensor([[[4.0, 0.0], [0.0, 1.0]]])
    expected = (torch.tensor([4.0, 0.0]).softmax(0) + torch.tensor([0.0, 1.0]).softmax(0)) / 2
    assert torch.allclose(predict_probabilities(head, views)[0], expected)


def test_standardizing_removes_the_scale_of_features() -> None:
    train, test = sets((1, 16))
    plain = run_probe("linear", train, test).probabilities
    for features in (train.features, test.features):
        features.mul_(1000).add_(50)
    assert torch.allclose(run_probe("linear", train, test).probabilities, plain, atol=1e-3)


def test_constant_feature_keeps_probabilities_finite() -> None:
    train, test = sets((1, 16))
    train.features[..., 9], test.features[..., 9] = 7.0, 7.0
    assert torch.isfinite(run_probe("linear", train, test).probabilities).all()


def test_knn_matches_hand_computed_votes() -> None:
    train = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[-1.0, -1.0]]])
    answer = knn_probabilities(
        train, torch.tensor([0, 1, 2]), torch.tensor([[[2.0, 0.1]]]), num_classes=3, num_neighbors=2, temperature=1.0
    )
    bank = torch.nn.functional.normalize(train[:, 0] - train.mean((0, 1)), dim=-1)
    query = torch.nn.functional.normalize(torch.tensor([2.0, 0.1]) - train.mean((0, 1)), dim=-1)
    votes = (bank @ query)[:2].exp()
    assert torch.allclose(answer[0], torch.cat((votes / votes.sum(), torch.zeros(1))), atol=1e-6)


def test_knn_with_more_neighbors_than_videos_uses_all() -> None:
    train, test = sets((1, 16))
    assert run_probe("knn", train, test, num_neighbors=1000).top(1) > 0.9


def test_same_seed_gives_the_same_probe_and_keeps_random_state() -> None:
    train, test = sets((1, 16))
    state = torch.get_rng_state()
    first, second = (run_probe("linear", train, test).probabilities for _ in range(2))
    assert torch.equal(first, second) and torch.equal(torch.get_rng_state(), state)


def test_failed_test_videos_count_as_wrong() -> None:
    train, test = sets((1, 16))
    failed = [{"id": "x", "label": 0, "reason": "broken"}] * 31
    broken = FrozenFeatures(test.features, test.labels, test.sample_ids, test.class_names, failed)
    result, whole = run_probe("linear", train, broken), run_probe("linear", train, test)
    assert result.num_videos == 62 and result.top(1) == pytest.approx(whole.top(1) / 2)
    # All failed ones are of class 0: 11 of 42 are left there, the other two classes keep their share.
    expected = (whole.mean_class_accuracy * 3 - 1 + 11 / 42) / 3
    assert result.mean_class_accuracy == pytest.approx(expected, abs=0.03)


def test_test_set_with_other_class_order_is_relabeled() -> None:
    train, test = sets((1, 16))
    swapped = FrozenFeatures(test.features, (test.labels + 1) % 3, test.sample_ids, ["c", "a", "b"], [])
    assert run_probe("linear", train, swapped).top(1) == run_probe("linear", train, test).top(1)


def test_invalid_features_and_settings_are_refused() -> None:
    train, test = sets((1, 16))
    foreign = FrozenFeatures(test.features, test.labels, test.sample_ids, ["a", "b", "z"], [])
    with pytest.raises(DataError, match="'z' is tested but never trained"):
        run_probe("linear", train, foreign)
    single = FrozenFeatures(train.features, torch.zeros_like(train.labels), train.sample_ids, CLASSES, [])
    with pytest.raises(DataError, match="at least two classes"):
        run_probe("linear", single, test)
    with pytest.raises(ValueError, match="pool tokens or per_frame"):
        run_probe("attentive", train, test)
    with pytest.raises(ValueError, match=r"\(60, 1, 4, 16\)"):
        run_probe("linear", *sets((1, 4, 16)))
    with pytest.raises(ValueError, match="one model"):
        run_probe("linear", train, sets((1, 8))[1])
    with pytest.raises(ValueError, match="lower learning rate"):
        run_probe("linear", train, test, training=ProbeConfig(learning_rate=1e38, standardize=False))
    for wrong in ({"epochs": 0}, {"learning_rate": math.nan}, {"warmup_epochs": 101}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ProbeConfig(**wrong)
    assert ATTENTIVE_CONFIG.optimizer == "adamw"
