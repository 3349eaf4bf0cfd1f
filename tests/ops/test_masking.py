"""Test masks: exact counts, equal in every sample, seeded."""

import pytest
import torch

from hf_videomae.ops import masking

GRID = (8, 14, 14)
MAKERS = {
    "tube": masking.tube_mask,
    "random": masking.random_mask,
    "frame": masking.frame_mask,
    "running_cell": masking.running_cell_mask,
}


@pytest.mark.parametrize(("ratio", "per_slice"), [(0.75, 147), (0.9, 176), (0.95, 186)])
def test_tube_counts_match_the_paper(ratio: float, per_slice: int) -> None:
    mask = masking.tube_mask(GRID, ratio, batch_size=5)
    slices = mask.view(5, 8, 196)
    assert (slices.sum(2) == per_slice).all()
    assert (slices == slices[:, :1]).all(), "a tube is the same in every slice"


@pytest.mark.parametrize(
    ("kind", "ratio", "count"),
    [("tube", 0.9, 1408), ("random", 0.9, 1411), ("frame", 0.875, 7 * 196), ("running_cell", 0.5, 784)],
)
def test_masked_counts_follow_the_ratio(kind: str, ratio: float, count: int) -> None:
    mask = masking.make_mask(kind, GRID, ratio, batch_size=4)
    assert mask.shape == (4, 1568) and mask.dtype == torch.bool
    assert mask.sum(1).tolist() == [count] * 4
    assert masking.compute_num_masked(kind, GRID, ratio) == count


def test_giant_counts_match_the_paper() -> None:
    assert masking.tube_mask((8, 16, 16), 0.9).sum() == 1840


def test_frame_masks_hide_whole_slices() -> None:
    slices = masking.frame_mask(GRID, 0.875, batch_size=6).view(6, 8, 196).float().mean(2)
    assert set(slices.flatten().tolist()) == {0.0, 1.0}


def test_running_cell_moves_by_one_each_slice() -> None:
    cells = masking.running_cell_mask((4, 4, 4), 0.5, batch_size=8).view(8, 4, 2, 2, 2, 2)
    assert (cells == cells[:, :, :1, :, :1, :]).all(), "one cell tiled over space"
    flat = cells[:, :, 0, :, 0, :].flatten(2)  # (B, T', 4)
    assert (flat[:, 1:] == flat[:, :-1].roll(-1, dims=2)).all()


@pytest.mark.parametrize("kind", MAKERS)
def test_masks_are_seeded_and_differ_between_samples(kind: str) -> None:
    first, again = (
        MAKERS[kind](GRID, 0.5, batch_size=32, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    other = MAKERS[kind](GRID, 0.5, batch_size=32, generator=torch.Generator().manual_seed(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique(dim=0)) > 1


def test_every_token_is_equally_likely() -> None:
    share = masking.tube_mask((2, 4, 4), 0.75, batch_size=4000).float().mean(0)
    assert (share - 0.75).abs().max() < 0.04


@pytest.mark.parametrize(
    ("kind", "grid", "ratio", "word"),
    [
        ("tube", GRID, 1.0, "outside"),
        ("tube", GRID, 0.0, "outside"),
        ("tube", (8, 2, 2), 0.1, "hides 0 of 4"),
        ("frame", (2, 4, 4), 0.4, "hides 0 of 2"),
        ("running_cell", (2, 7, 7), 0.5, "even grid"),
        ("running_cell", (2, 4, 4), 0.2, "hides 0 of 4"),
        ("block", GRID, 0.5, "choose one of tube"),
    ],
)
def test_impossible_masks_are_refused(kind: str, grid: tuple[int, int, int], ratio: float, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        masking.make_mask(kind, grid, ratio)


def test_split_keeps_raster_order() -> None:
    mask = torch.tensor([[True, False, True, False], [False, False, True, True]])
    visible, masked = masking.split_by_mask(mask, 2)
    assert visible.tolist() == [[1, 3], [0, 1]]
    assert masked.tolist() == [[0, 2], [2, 3]]


@pytest.mark.parametrize(
    ("mask", "word"),
    [
        (torch.tensor([[True, False], [True, True]]), r"\[1, 2\]"),
        (torch.tensor([[True, True]]), "some left"),
        (torch.tensor([[1, 0]]), "torch.bool"),
        (torch.ones(1, 3, dtype=torch.bool), r"wanted \(batch, 2\)"),
    ],
)
def test_invalid_masks_are_refused(mask: torch.Tensor, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        masking.count_masked(mask, num_tokens=2)
