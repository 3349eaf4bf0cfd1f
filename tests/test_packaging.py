"""Test the wheel: it holds the whole package, nothing else, and runs with only its dependencies."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

import hf_videomae
from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEVideoProcessor

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("setuptools", reason="the extra hf-videomae[dev] is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "hf_videomae", source / "hf_videomae", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "-w",
        str(folder),
    ]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a virtual environment with the wheel, and this one's other packages for its dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # A path in a .pth file brings the packages there, but not the editable install of this project among them.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(environment: Path, *command: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    executable = str(environment / "bin" / command[0])
    done = subprocess.run(
        [executable, *command[1:]],
        capture_output=True,
        text=True,
        cwd=environment,
        env={**clean, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "hf_videomae").rglob("*.py")}
    others = ("py.typed", "doctor/clip.mp4", "cards/hub_names.json")
    assert sources | {f"hf_videomae/{name}" for name in others} <= set(names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"hf_videomae"}
    assert not [name for name in names if name.endswith(".md")], "guides stay in the repository"
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_runs_in_a_clean_environment(environment: Path, tmp_path: Path) -> None:
    config = VideoMAEConfig.from_preset("tiny")
    VideoMAEForPreTraining(config).save_pretrained(tmp_path)
    VideoMAEVideoProcessor.from_config(config).save_pretrained(tmp_path)
    code = f"""
import hf_videomae
print(hf_videomae.__file__)
print(type(hf_videomae.VideoMAEForPreTraining.from_pretrained({str(tmp_path)!r})).__name__)
print(hf_videomae.VideoMAEVideoProcessor.from_pretrained({str(tmp_path)!r}).num_frames)
hf_videomae.register_auto_classes()
from transformers import AutoModel
print(type(AutoModel.from_pretrained({str(tmp_path)!r})).__module__)
"""
    where, model, frames, module = run(environment, "python", "-c", code).split()
    assert Path(where).is_relative_to(environment)
    assert (model, frames, module) == ("VideoMAEForPreTraining", "8", "hf_videomae.modeling_videomae")


def test_command_is_installed(environment: Path) -> None:
    assert "convert" in run(environment, "hf-videomae", "--help")
    assert run(environment, "hf-videomae", "--version").strip() == f"hf-videomae {hf_videomae.__version__}"


def test_pinned_versions_are_within_the_ranges() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    ranges = [*project["dependencies"], *extras["train"], *extras["space"]]
    allowed = {found.name.replace("-", "_"): found.specifier for found in map(requirements.Requirement, ranges)}
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert len(pins) == 5 and not any(pin.startswith("torch") for pin in pins)
    for name, version in (pin.split("==") for pin in pins):
        assert version in allowed[name], f"{name}=={version} is outside {allowed[name]}"
