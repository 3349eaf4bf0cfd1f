"""Test that commands, scripts and the doctor report a torchvision that does not fit torch in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.fault


@pytest.fixture
def broken_torchvision(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a process in which importing torchvision fails as a wheel of another torch does."""
    package, info = tmp_path / "torchvision", tmp_path / "torchvision-0.20.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.20.0\n")
    return {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "hf_videomae.cli", "predict", "x.mp4", "--model", "folder"],
        ["examples/pretrain.py"],
        ["-c", "import hf_videomae; hf_videomae.VideoMAEConfig; hf_videomae.extract_features"],
    ],
    ids=["command", "script", "library"],
)
def test_broken_torchvision_is_reported_in_one_line(broken_torchvision: dict[str, str], command: list[str]) -> None:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT, env=broken_torchvision)
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode != 0
    assert "torchvision 0.20.0" in line and "nms does not exist" in line and "pip uninstall torchvision" in line
