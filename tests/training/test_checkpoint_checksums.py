"""Test that checkpoints damaged at their full size are found, here and on the Hub."""

import json
from pathlib import Path

import pytest

from hf_videomae.checkpoint_dir import find_checkpoint, incomplete_reason, latest_checkpoint
from hf_videomae.publishing.snapshot import _redacted_state_file
from hf_videomae.run_files import read_jsonl
from hf_videomae.training import CheckpointError
from hf_videomae.training.hub_checkpoints import download_checkpoint, latest_hub_checkpoint
from tests.helpers.toy import toy_train
from tests.local_hub import LocalHub
from tests.local_hub.runs import push_state

pytestmark = pytest.mark.fault
FILES = ("model.safetensors", "optimizer.safetensors", "rank-0.safetensors", "rank-0.json", "run_state.json")
REPO = "org/name"


def flip(path: Path, at: float = 0.9) -> None:
    """Change one byte near the end: a number in safetensors, a digit or letter in JSON."""
    content = bytearray(path.read_bytes())
    place = int(len(content) * at)
    while path.suffix == ".json" and not chr(content[place]).isdigit():
        place -= 1
    content[place] ^= 1
    path.write_bytes(content)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run with checkpoints of steps 2 and 4."""
    toy_train(tmp_path / "run", stop_at_step=4, save_every=2, keep_checkpoints=3)
    return tmp_path / "run"


def without_checksums(checkpoint: Path) -> None:
    """Remove the checksums, as in older checkpoints."""
    path = checkpoint / "run_state.json"
    state = json.loads(path.read_text())
    for name in ("sha256", "state_sha256"):
        state.pop(name)
    path.write_text(json.dumps(state, indent=1))


@pytest.mark.parametrize("name", FILES)
def test_resume_takes_older_checkpoint_if_newest_is_damaged(
    run: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(run / "checkpoint-4" / name)
    assert latest_checkpoint(run) == run / "checkpoint-2"
    printed = capsys.readouterr().out
    assert "checkpoint-4 is incomplete" in printed and name in printed
    toy_train(run, resume="auto", save_every=2)
    assert read_jsonl(run / "metrics.jsonl")[-1]["step"] == 6
    assert json.loads((run / "run.json").read_text())["resumed_from"].endswith("checkpoint-2")


def test_damaged_checkpoint_given_by_path_is_refused(run: Path) -> None:
    flip(run / "checkpoint-4" / "optimizer.safetensors")
    with pytest.raises(CheckpointError, match=r"optimizer.safetensors is damaged.*checkpoint-2"):
        find_checkpoint(str(run / "checkpoint-4"), output_dir=run)


def test_checkpoint_without_checksums_is_complete(run: Path) -> None:
    without_checksums(run / "checkpoint-4")
    assert incomplete_reason(run / "checkpoint-4") is None
    toy_train(run, resume="auto")
    assert json.loads((run / "run.json").read_text())["resumed_from"].endswith("checkpoint-4")


@pytest.mark.parametrize(("name", "content"), [("rank-0.json", b"{"), ("model.safetensors", b"\xff" * 8)])
def test_unreadable_files_are_found_without_checksums(run: Path, name: str, content: bytes) -> None:
    without_checksums(run / "checkpoint-4")
    path = run / "checkpoint-4" / name
    path.write_bytes((content * path.stat().st_size)[: path.stat().st_size])
    assert latest_checkpoint(run) == run / "checkpoint-2"


def test_state_with_removed_checksums_is_damaged(run: Path) -> None:
    path = run / "checkpoint-4" / "run_state.json"
    state = json.loads(path.read_text())
    del state["state_sha256"]
    path.write_text(json.dumps(state))
    assert "run_state.json" in (incomplete_reason(run / "checkpoint-4") or "")


def test_published_state_has_new_checksum_after_redaction(run: Path, tmp_path: Path) -> None:
    path = run / "checkpoint-4" / "run_state.json"
    from hf_videomae.checkpoint_checksums import dump_checksummed_state, is_state_intact

    state = json.loads(path.read_text())
    state["recipe"]["dataset"] = "hf_" + "a" * 30
    path.write_text(dump_checksummed_state(state))
    published = _redacted_state_file(path)
    assert isinstance(published, bytes) and b"hf_aaa" not in published
    assert is_state_intact(json.loads(published))


# From the Hub.


@pytest.mark.parametrize("name", ["model.safetensors", "rank-0.json"])
def test_damaged_download_is_repeated(
    hub: LocalHub, run: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    push_state(hub, run / "checkpoint-4")
    remote = latest_hub_checkpoint(REPO)
    hub.corrupt(rf"GET .*/{name}", after_bytes=64)
    fetched = download_checkpoint(remote, tmp_path / "other")
    assert incomplete_reason(fetched) is None
    assert f"{name} of {REPO} came damaged" in capsys.readouterr().out


def test_download_that_stays_damaged_is_one_line(hub: LocalHub, run: Path, tmp_path: Path) -> None:
    push_state(hub, run / "checkpoint-4")
    remote = latest_hub_checkpoint(REPO)
    hub.corrupt(r"GET .*/optimizer.safetensors", after_bytes=64, times=None)
    with pytest.raises(CheckpointError, match="--resume org/name: .*optimizer.safetensors came damaged 3 times"):
        download_checkpoint(remote, tmp_path / "other")
    assert not (tmp_path / "other" / "checkpoint-4").exists()


def test_checkpoint_damaged_on_hub_is_not_installed(hub: LocalHub, run: Path, tmp_path: Path) -> None:
    flip(run / "checkpoint-4" / "model.safetensors")
    push_state(hub, run / "checkpoint-4")
    with pytest.raises(CheckpointError, match="model.safetensors is damaged"):
        download_checkpoint(latest_hub_checkpoint(REPO), tmp_path / "other")
    assert not (tmp_path / "other" / "checkpoint-4").exists()
