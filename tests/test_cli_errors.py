"""Test that the command fails cleanly on a closed pipe, an unusable folder, a full disk or conflicting flags."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_videomae import VideoMAEConfig, VideoMAEModel, VideoMAEVideoProcessor
from hf_videomae.cli import main
from tests.helpers.datasets_on_disk import write_folder
from tests.helpers.small_disk import small_disk

pytestmark = pytest.mark.fault
ROOT = Path(__file__).resolve().parents[1]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    printed = capsys.readouterr().err
    assert left.value.code == 2 and printed.count("\n") == 1, printed
    return printed


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--license", "mit"], "--license"),
        (["--model_id", "org/name"], "--model_id"),
        (["--overwrite", "--license", "mit"], "--license and --overwrite"),
    ],
)
def test_flags_with_check_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], named: str
) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    printed = refused(capsys, "card", str(tmp_path), "--check", *arguments)
    assert f"so {named} would have no effect" in printed


def test_convert_refuses_a_number_of_classes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, fixtures_dir: Path
) -> None:
    for name in ("original_finetune.pth", "original_pretrain_tube90.pth"):
        printed = refused(capsys, "convert", str(fixtures_dir / name), str(tmp_path / "out"), "--num_labels", "7")
        assert "num_labels 7 " in printed and "--head_indices" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["convert", "features", "reconstruct"])
def test_output_that_cannot_be_created_is_refused_first(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "out")
    arguments = {
        "convert": ["missing.pth", place],
        "features": ["missing.mp4", "--model", "missing", "--output_dir", place],
        "reconstruct": ["missing.mp4", "--model", "missing", "--output", f"{place}/strip"],
    }[command]
    assert f"{tmp_path / 'file'} is a file" in refused(capsys, command, *arguments)


COMMAND = [sys.executable, "-m", "hf_videomae.cli", "card", "--check"]


@pytest.mark.parametrize("command", ["check", "help"])
def test_closed_pipe_ends_the_command_quietly(tmp_path: Path, command: str) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    arguments = [*COMMAND[:3], "--help"] if command == "help" else [*COMMAND, str(tmp_path)]
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(arguments, env=environment, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == ""
    # argparse of Python 3.11.4 and later ignores that its help cannot be written.
    assert done.returncode == 141 or (command == "help" and done.returncode == 0)


def test_full_disk_is_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, str(tmp_path)], env=environment, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2 and "No space left on device" in done.stderr and "Traceback" not in done.stderr


def test_conversion_on_full_disk_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, fixtures_dir: Path
) -> None:
    with small_disk(tmp_path / "disk", megabytes=0.1) as disk:
        arguments = [str(fixtures_dir / "original_finetune.pth"), str(disk / "out"), "--num_attention_heads", "3"]
        with pytest.raises(SystemExit) as left:
            main(["convert", *arguments, "--image_size=32", "--num-frames", "8", "--no_check"])
        error = capsys.readouterr().err.splitlines()[-1]
        assert left.value.code == 2 and f"the checkpoint cannot be written to {disk / 'out'}: No space left" in error
        assert "it needs about " in error and not list((disk / "out").iterdir())


@pytest.mark.parametrize("file_format", ["parquet", "safetensors"])
def test_features_on_full_disk_are_written_by_a_later_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file_format: str
) -> None:
    config = VideoMAEConfig.from_preset("tiny", num_hidden_layers=1)
    VideoMAEModel(config).save_pretrained(tmp_path / "model")
    VideoMAEVideoProcessor.from_config(config).save_pretrained(tmp_path / "model")
    videos = write_folder(tmp_path / "videos", count=2)
    with small_disk(tmp_path / "disk", megabytes=0.05) as disk:
        command = ["features", str(videos), "--model", str(tmp_path / "model"), "--output_dir", str(disk / "out")]
        command += ["--format", file_format, "--pool", "token", "--device", "cpu"]
        with pytest.raises(SystemExit) as left:
            main(command)
        error = capsys.readouterr().err.splitlines()[-1]
        assert left.value.code == 2 and f"the features cannot be written to {disk / 'out'}: No space left" in error
        assert [path.name for path in (disk / "out").iterdir()] == ["features.json"]
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert main(command) == 0 and "2 videos written" in capsys.readouterr().out
