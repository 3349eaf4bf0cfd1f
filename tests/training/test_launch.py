"""Launch modes of accelerate that are not supported are refused instead of ignored."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_videomae.training import RunError, RunRecipe, build_accelerator

pytestmark = pytest.mark.fault
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("ACCELERATE_USE_FSDP", "FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "parallel"),
    ],
)
def test_unsupported_launch_modes_are_refused(variable: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(RunError, match=rf"{name}.*{variable}.*MULTI_GPU"):
        build_accelerator(RunRecipe())


@pytest.mark.slow
def test_fsdp_configuration_on_cpu_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fsdp.yaml").write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nuse_cpu: true\nnum_machines: 1\n"
        "num_processes: 1\nmachine_rank: 0\nmixed_precision: 'no'\nfsdp_config:\n  fsdp_version: 2\n"
    )
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(tmp_path / "fsdp.yaml")]
    arguments = ["--model", "tiny", "--max_steps", "1", "--output_dir", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, str(ROOT / "examples" / "pretrain.py"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert "FSDP" in line and "MULTI_GPU" in line and done.returncode
    assert not (tmp_path / "out").exists()
