"""Run `examples/FROM_ZERO.md` from top to bottom as a reader types it, with few steps and a Hub on loopback."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from tests.local_hub import LocalHub
from tests.test_readme import EXAMPLES, ROOT, commands, python_examples, read

PAGE = read(EXAMPLES / "FROM_ZERO.md")
QUICK = ["--max_steps", "2", "--batch_size", "4", "--num_workers", "0"]


def as_typed(words: list[str]) -> list[str] | None:
    """Return the command for this machine, with few steps; None for the Hub's own command."""
    if words[0] == "hf":
        return None
    if words[0] == "hf-videomae":
        offline = ["--offline"] if words[1] == "doctor" else []
        package = ["--package", "hf-videomae @ https://host/hf_videomae.whl"] if words[1] == "endpoint" else []
        return [sys.executable, "-m", "hf_videomae.cli", *words[1:], *offline, *package]
    script = next(place for place, word in enumerate(words) if word.endswith(".py"))
    quick = QUICK if "evaluate" not in words[script] else QUICK[2:]
    return [sys.executable, str(ROOT / words[script]), *words[script + 1 :], *quick]


@pytest.mark.slow
def test_every_command_of_the_page_runs_in_order(hub: LocalHub, tmp_path: Path) -> None:
    variables = {
        "HF_TOKEN": hub.token,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HF_VIDEOMAE_HUB_SPACING": "0",
    }
    environment = {**hub.environment(), **variables, "PATH": os.environ["PATH"]}
    (videos_code, printed, _), (predict_code, answer, _) = python_examples(PAGE)

    def run(command: list[str]) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
        print(f"$ {shlex.join(command)}\n{done.stdout}")
        return done.stdout

    assert run([sys.executable, "-c", videos_code]) == printed
    for command in filter(None, map(as_typed, commands(PAGE))):
        run(command)
    assert run([sys.executable, "-c", predict_code]) == answer
    api = HfApi(token=hub.token)
    assert api.file_exists("org/my-videomae", "model.safetensors") and api.file_exists(
        "org/my-finetuned", "handler.py"
    )
    assert api.file_exists("org/my-videos", "README.md", repo_type="dataset")
    assert (tmp_path / "outputs/finetuned/evaluation.json").is_file()
    assert (tmp_path / "my-space/app.py").is_file() and (tmp_path / "reconstruction.png").is_file()
