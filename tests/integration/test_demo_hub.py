"""Test `make demo-hub`: the whole way over a Hub on loopback in a few steps, and how it fails."""

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from tests.helpers.running import ROOT, Started, environment, started
from tests.helpers.scripts import load_script
from tests.local_hub import LocalHub

SCRIPT = ROOT / "examples" / "demo_hub.py"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    return load_script(SCRIPT)


def command(folder: Path, *arguments: object) -> list[str]:
    return [sys.executable, str(SCRIPT), "--output_dir", str(folder), *map(str, arguments)]


@pytest.mark.slow
def test_demo_publishes_a_model_that_stock_transformers_uses(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    small = ["--train_videos", 32, "--test_videos", 16, "--pretrain_steps", 2, "--finetune_steps", 2]
    with started(command(folder, *small), log=tmp_path / "log") as run:
        printed = run.finish()
    assert '"videos": 16' in printed and '"imported_of_ours": []' in printed
    rows = [line.split(" | ")[1] for line in printed.splitlines() if line.startswith(("| examples/", "| stock"))]
    assert len(rows) == 3
    models = folder / "hub" / "models" / "org"
    card = (models / "videomae-tiny-motion-finetuned" / "README.md").read_text()
    evaluation = json.loads((models / "videomae-tiny-motion-finetuned" / "evaluation.json").read_text())
    assert f"{evaluation['metrics']['top1']:.4f}" in card and "base_model: org/videomae-tiny-motion" in card
    assert (models / "videomae-tiny-motion" / "reconstruction-1.png").stat().st_size > 1000
    assert str(tmp_path) not in card


def test_stopped_demo_leaves_nothing_running(tmp_path: Path) -> None:
    everyone: list[psutil.Process] = []
    with started(command(tmp_path / "demo"), log=tmp_path / "log") as run:
        run.until(lambda: (tmp_path / "demo" / "videos").exists())
        everyone += family(run)
        assert any("tests.local_hub" in process.cmdline() for process in everyone)
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(timeout=60) == 128 + signal.SIGTERM
        psutil.wait_procs(everyone, timeout=20)
        assert not [process for process in everyone if process.is_running()]


def family(run: Started) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [process for process in run.everyone() if process.is_running()]
    return []


def test_foreign_folder_is_left_unchanged(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = subprocess.run(command(tmp_path), env=environment(), capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert "holds files that are not of this demo" in done.stderr and len(done.stderr.splitlines()) == 1
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_demo_fails_if_stock_differs_too_much(demo: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    demo.print_accuracies(0.80, {"model": 0.84, "pipeline": 0.76})
    assert "| stock pipeline | 0.760 |" in capsys.readouterr().out
    with pytest.raises(demo.DemoError, match="stock's pipeline is more than 5 points from 0.800"):
        demo.print_accuracies(0.80, {"model": 0.80, "pipeline": 0.74})


def test_hub_program_runs_until_its_input_ends(tmp_path: Path) -> None:
    start = [sys.executable, "-m", "tests.local_hub", "--folder", str(tmp_path / "hub")]
    with subprocess.Popen(start, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        variables = json.loads(server.stdout.readline())
        assert variables["HF_TOKEN"] == LocalHub.token and variables["HF_TOKEN_PATH"] is None
        code = "from huggingface_hub import HfApi; print(HfApi().create_repo('org/name'))"
        told = {name: value for name, value in variables.items() if value is not None}
        client = subprocess.run(
            [sys.executable, "-c", code], env={**environment(), **told}, capture_output=True, text=True
        )
        assert client.stdout.strip() == f"{variables['HF_ENDPOINT']}/org/name", client.stderr
        assert (tmp_path / "hub" / "models" / "org" / "name").is_dir()
        server.stdin.close()
        assert server.wait(timeout=20) == 0
