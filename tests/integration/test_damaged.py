"""Test a dataset with 5 % damaged files, in two processes with two workers each."""

from pathlib import Path

import pytest

from tests.helpers.datasets_on_disk import DAMAGES, damage, write_folder
from tests.helpers.running import lines, pretrain, started, write_small_model

NUM_VIDEOS, STEPS = 80, 25


def write_damaged_set(root: Path) -> dict[str, Path]:
    """Write 80 videos, four of them damaged in different ways, and return those by their damage."""
    write_folder(root, count=NUM_VIDEOS)
    videos = sorted(root.rglob("*.mp4"))
    assert len(videos) == NUM_VIDEOS
    damaged = dict(zip(DAMAGES, videos[7::20], strict=True))
    for kind, path in damaged.items():
        damage(path, kind)
    return damaged


@pytest.mark.slow
def test_damaged_files_are_replaced_and_named_once_without_a_hang(tmp_path: Path) -> None:
    damaged = write_damaged_set(tmp_path / "set")
    folder, model = tmp_path / "run", write_small_model(tmp_path / "model")
    arguments = ["--dataset", tmp_path / "set", "--model", model, "--output_dir", folder, "--num_workers", 2]
    arguments += ["--batch_size", 4, "--max_steps", STEPS, "--log_samples", "--log_every", 5]
    with started(pretrain(*arguments, processes=2), log=tmp_path / "log") as run:
        printed = run.finish()
    assert f"done: {STEPS} steps, {STEPS * 8} clips" in printed

    named = {line["path"]: line["reason"] for line in lines(folder / "bad_videos.jsonl")}
    assert len(lines(folder / "bad_videos.jsonl")) == len(named) == len(damaged)
    for kind, path in damaged.items():
        print(f"{kind}: {named[str(path)].splitlines()[0]}")
        assert named[str(path)]

    seen = [lines(folder / f"samples-{rank}.jsonl") for rank in (0, 1)]
    for steps in seen:
        assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
        assert all(len(line["sample_ids"]) == 4 for line in steps)
    used = {id for steps in seen for line in steps for id in line["sample_ids"]}
    good = {path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*.mp4")}
    good -= {path.relative_to(tmp_path / "set").as_posix() for path in damaged.values()}
    # Two and a half epochs have passed: every good video was seen, and nothing else.
    assert used == good
