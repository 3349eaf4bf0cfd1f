"""Measure what publishing costs a run: its steps with every save pushed, against the same steps without.

    python examples/benchmarks/publishing.py                     # two minutes
    python examples/benchmarks/publishing.py --pairs 5 --max_steps 200

The same short pre-training runs in turn without and with `--push_to_hub --hub_strategy checkpoint`, against the tests'
Hub on loopback (from a clone: `tests/local_hub`), which uses some of the same machine. The script prints the median
step of each run and of all runs, and how long each save was blocked by its push; it asserts nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WARMUP_STEPS = 3


def main() -> int:
    """Measure and print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2, help="runs of each kind")
    parser.add_argument("--max_steps", type=int, default=60)
    parser.add_argument("--save_every", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=16)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.local_hub import LocalHub

    with tempfile.TemporaryDirectory() as scratch:
        hub = LocalHub(Path(scratch) / "hub", home=Path(scratch) / "home")
        hub.start()
        try:
            compare_runs(hub, Path(scratch), arguments)
        finally:
            hub.stop()
    return 0


def compare_runs(hub: Any, scratch: Path, arguments: argparse.Namespace) -> None:
    """Run the pairs, and print their times."""
    steps: dict[bool, list[float]] = {False: [], True: []}
    differences, blocked, pushes = [], [], 0
    for pair in range(arguments.pairs):
        medians = {}
        for publishing in (False, True):
            folder = scratch / f"run-{pair}-{publishing}"
            run(hub, folder, arguments, id=f"org/run-{pair}" if publishing else None)
            seconds = [line["seconds"] for line in read_lines(folder / "metrics.jsonl")][WARMUP_STEPS:]
            steps[publishing] += seconds
            medians[publishing] = 1000 * statistics.median(seconds)
            published = read_lines(folder / "published.jsonl") if publishing else []
            blocked += [1000 * line["blocked_seconds"] for line in published if "blocked_seconds" in line]
            pushes += sum("commit" in line for line in published)
        differences.append(medians[True] - medians[False])
        print(f"pair {pair + 1}: without {medians[False]:.1f} ms, publishing {medians[True]:.1f} ms", flush=True)
    for publishing, name in ((False, "without"), (True, "publishing")):
        print(f"median step, {name}: {1000 * statistics.median(steps[publishing]):.1f} ms of {len(steps[publishing])}")
    print(f"median difference of a pair: {statistics.median(differences):+.1f} ms; {pushes} pushes")
    longest = max(blocked)
    print(f"a push blocked the training for {statistics.median(blocked):.1f} ms (median), {longest:.1f} ms (maximum)")


def run(hub: Any, folder: Path, arguments: argparse.Namespace, *, id: str | None) -> None:
    """Run one short pre-training."""
    settings = {"output_dir": folder, "max_steps": arguments.max_steps, "save_every": arguments.save_every}
    settings |= {"batch_size": arguments.batch_size, "num_workers": 0, "log_every": 1}
    command = [sys.executable, str(ROOT / "examples" / "pretrain.py")]
    command += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    if id is not None:
        command += ["--push_to_hub", "--hub_model_id", id, "--hub_strategy", "checkpoint"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    variables = {**hub.environment(), "HF_TOKEN": hub.token, "HF_VIDEOMAE_HUB_SPACING": "0", "PYTHONPATH": path}
    process = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        raise SystemExit(f"a run failed:\n{process.stdout}{process.stderr}")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    sys.exit(main())
