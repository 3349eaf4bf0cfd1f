"""Test damaged files of every kind: two ranks stay in step and list the files they skipped."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from hf_videomae.data import DataError, build_loader, open_source
from hf_videomae.prepare.scan import open_input_dataset
from tests.helpers.datasets_on_disk import DAMAGES, damage, write_folder
from tests.helpers.loaders import SMALL_CLIPS


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """Return 40 videos, four of them damaged, and the ids of the damaged ones."""
    root = write_folder(tmp_path_factory.mktemp("clips"), count=40)
    damaged = sorted(root.rglob("*.mp4"))[3::10]
    for kind, path in zip(DAMAGES, damaged, strict=True):
        damage(path, kind)
    return root, {path.relative_to(root).as_posix() for path in damaged}


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_stay_in_step_with_damaged_files(clips: tuple[Path, set[str]], workers: int) -> None:
    root, damaged = clips
    named: list[dict[str, Any]] = []
    used: list[list[str]] = []
    for rank in range(2):
        loader = build_loader(
            open_source(str(root)),
            clip_config=SMALL_CLIPS,
            batch_size=4,
            seed=0,
            rank=rank,
            world_size=2,
            num_workers=workers,
            max_bad_share=0.2,
        )
        batches = list(islice(loader, 10))  # two epochs
        assert [len(batch["sample_ids"]) for batch in batches] == [4] * 10
        used.append([id for batch in batches for id in batch["sample_ids"]])
        named += loader.bad_videos
    assert {entry["id"] for entry in named} == damaged
    assert all(entry["reason"] and entry["path"] == str(root / entry["id"]) for entry in named)
    assert not damaged & {*used[0], *used[1]}
    # An epoch of both ranks is the dataset, with replacements.
    assert len(set(used[0][:20]) | set(used[1][:20])) >= 40 - 2 * len(damaged)


@pytest.mark.fault
def test_parquet_with_mismatched_levels_raises(tmp_path: Path) -> None:
    # pyarrow aborts the process if it is asked for the size of such a column.
    pa = pytest.importorskip("pyarrow", reason="the extra hf-videomae[train] is not installed")
    import pyarrow.parquet

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pyarrow.parquet.write_table(pa.table({"video": pa.array([{"path": "a.mp4"}], type=kind)}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    optional, required = (b"\x15\x0c\x25" + level + b"\x18\x05bytes" for level in (b"\x02", b"\x00"))
    assert content.count(optional) == 1
    (tmp_path / "a.parquet").write_bytes(content.replace(optional, required))
    with pytest.raises(DataError, match=r"a\.parquet") as caught:
        open_source(str(tmp_path))
    assert "\n" not in str(caught.value)
    (tmp_path / "a.mp4").write_bytes(b"0")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read"):
        open_input_dataset(str(tmp_path))
