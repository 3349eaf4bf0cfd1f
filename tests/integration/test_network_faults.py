"""Test network faults of a local Hub, at the start and during a run: one line, exit code 2, nothing lost.

`pytest tests/integration/test_network_faults.py -s -m slow` prints a line with the seconds of every fault.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hf_videomae import VideoMAEConfig, VideoMAEForVideoClassification
from hf_videomae.checkpoint_dir import incomplete_reason, latest_checkpoint
from hf_videomae.data import MotionSource
from tests.helpers.datasets_on_disk import write_parquet, write_webdataset
from tests.helpers.running import PATIENCE, ROOT, Started, lines, pretrain, started, write_small_model
from tests.local_hub import LocalHub
from tests.local_hub.runs import push_state

pytestmark = [pytest.mark.fault, pytest.mark.slow]

FILES = r"GET .*(resolve|cdn)/"
WRITERS = {"parquet": write_parquet, "webdataset": write_webdataset}
ROWS = (12, 12, 12, 12)
# Of this run: pytest and a busy machine are slow, waiting for the Hub would be minutes.
LONGEST = 120.0


@dataclass(frozen=True)
class Case:
    """A fault, and a word of the line that tells it."""

    begin: Callable[[LocalHub], None]
    told: str


def status(code: int) -> Case:
    return Case(lambda hub: hub.fail(FILES, status=code, times=None), f"HTTP {code}")


def corrupt_shards(hub: LocalHub) -> None:
    for path in hub.dataset("org/set").rglob("*"):
        if path.suffix in (".parquet", ".tar"):
            path.write_bytes(b"<html>" * (path.stat().st_size // 6))


def delete_everything(hub: LocalHub) -> None:
    for key in ("datasets/org/set", "models/org/model", "models/org/model-pt"):
        hub.delete(key)


CASES = {
    **{str(code): status(code) for code in (401, 403, 404, 410, 451)},
    "page": Case(lambda hub: hub.answer_page(FILES, times=None), "did not come whole"),
    "empty body": Case(lambda hub: hub.answer_page(FILES, text="", times=None), "did not come whole"),
    "short body": Case(lambda hub: hub.shorten(FILES, after_bytes=3000, times=None), "did not come whole"),
    "deleted": Case(lambda hub: hub.delete("datasets/org/set"), "deleted, renamed or made private"),
    "made private": Case(lambda hub: hub.hide("datasets/org/set"), "made private"),
    "token expired": Case(lambda hub: hub.expire_tokens(), "token"),
    "shards replaced": Case(corrupt_shards, "org/set"),
}


def command(folder: Path, model: Path, *, steps: int, processes: int, resume: bool = False) -> list[str]:
    arguments = ["--dataset", "org/set", "--model", model, "--output_dir", folder, "--batch_size", 4]
    arguments += ["--max_steps", steps, "--num_workers", 1, "--log_every", 1, "--log_samples", "--save_every", 10_000]
    return pretrain(*arguments, *(["--resume"] if resume else []), processes=processes)


def variables(hub: LocalHub, *, token: bool = True) -> dict[str, str]:
    mine = {**hub.environment(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return {**mine, "HF_TOKEN": hub.token} if token else mine


def ended_with(run: Started, code: int) -> str:
    """Check the exit code, or the one that a launcher prints for its processes, and return what was printed."""
    found = run.process.wait(timeout=PATIENCE)
    printed = run.log.read_text()
    assert found != 0, printed
    assert found == code or re.search(rf"exitcode\s*:\s*{code}\b", printed), printed
    return printed


def error_line(printed: str) -> str:
    (line,) = [line for line in printed.splitlines() if line.startswith("error")]
    # The launcher of several processes ends with a traceback of its own.
    assert not any(f'File "{ROOT / part}' in printed for part in ("hf_videomae", "examples")), printed
    return line


@pytest.mark.parametrize("kind", CASES)
def test_fault_in_the_middle_saves_and_ends_in_one_line(hub: LocalHub, tmp_path: Path, kind: str) -> None:
    seconds = fail_in_the_middle(hub, tmp_path, CASES[kind], token=kind not in ("deleted", "made private"))
    assert seconds < LONGEST
    print(f"\nmiddle, 1 process, {kind}: {seconds:.1f} s")


@pytest.mark.parametrize("kind", ["403", "page", "deleted"])
def test_fault_in_the_middle_ends_both_processes(hub: LocalHub, tmp_path: Path, kind: str) -> None:
    seconds = fail_in_the_middle(hub, tmp_path, CASES[kind], token=kind != "deleted", processes=2)
    assert seconds < LONGEST
    print(f"\nmiddle, 2 processes, {kind}: {seconds:.1f} s")


def fail_in_the_middle(
    hub: LocalHub, tmp_path: Path, case: Case, *, token: bool, processes: int = 1, kind: str = "webdataset"
) -> float:
    """Return the seconds from the fault to the end of all processes."""
    WRITERS[kind](hub.dataset("org/set"), rows=ROWS)
    folder, model = tmp_path / "run", write_small_model(tmp_path / "model")
    todo = command(folder, model, steps=10_000, processes=processes)
    with started(todo, log=tmp_path / "log", variables=variables(hub, token=token)) as run:
        run.until(lambda: "step 2/" in run.log.read_text())
        case.begin(hub)
        begun = time.monotonic()
        line = error_line(ended_with(run, 2))
        seconds = time.monotonic() - begun
    assert case.told in line and "org/set" in line and "--resume" in line
    checkpoint = latest_checkpoint(folder)
    assert checkpoint is not None and incomplete_reason(checkpoint) is None
    step = int(checkpoint.name.partition("-")[2])
    assert checkpoint.name in line and step == lines(folder / "metrics.jsonl")[-1]["step"]
    assert [line["step"] for line in lines(folder / "samples-0.jsonl")] == list(range(1, step + 1))
    return seconds


def test_run_resumed_after_a_refusal_equals_an_uninterrupted_one(hub: LocalHub, tmp_path: Path) -> None:
    write_webdataset(hub.dataset("org/set"), rows=ROWS)
    model = write_small_model(tmp_path / "model")
    with started(
        command(tmp_path / "run", model, steps=60, processes=2), log=tmp_path / "log", variables=variables(hub)
    ) as run:
        run.until(lambda: "step 2/" in run.log.read_text())
        hub.fail(FILES, status=403, times=None)
        ended_with(run, 2)
    hub.heal()
    for name, resume in (("run", True), ("straight", False)):
        todo = command(tmp_path / name, model, steps=60, processes=2, resume=resume)
        with started(todo, log=tmp_path / f"log-{name}", variables=variables(hub)) as run:
            run.finish()
    for file in ("samples-0.jsonl", "samples-1.jsonl"):
        assert (tmp_path / "run" / file).read_text() == (tmp_path / "straight" / file).read_text()
    both = [[line["loss"] for line in lines(tmp_path / name / "metrics.jsonl")] for name in ("run", "straight")]
    assert both[0] == both[1] and len(both[0]) == 60


# At the start: every command that opens something of the Hub.

OPENING = {
    "401": Case(lambda hub: hub.fail("", status=401, times=None), "401|does not know your token"),
    "403 of files": Case(lambda hub: hub.fail(FILES, status=403, times=None), "HTTP 403|403"),
    "404 of files": Case(lambda hub: hub.fail(FILES, status=404, times=None), "HTTP 404|404"),
    "page": Case(lambda hub: hub.answer_page("", times=None), "is not the Hub"),
    "page of files": Case(lambda hub: hub.answer_page(FILES, times=None), "damaged|did not come whole|is not the Hub"),
    "short files": Case(lambda hub: hub.shorten(FILES, after_bytes=90, times=None), "damaged|did not come whole"),
    "deleted": Case(delete_everything, "deleted, renamed or made private|neither a|Hub does not give it"),
}
EXAMPLES = {
    "pretrain": ["--dataset", "org/set", "--model", "tiny", "--max_steps", "1", "--batch_size", "4"],
    "pretrain model": ["--dataset", "CLIPS", "--model", "org/model-pt", "--max_steps", "1", "--batch_size", "4"],
    "finetune": ["--dataset", "org/set", "--model", "tiny", "--max_steps", "1", "--batch_size", "4"],
    "finetune model": ["--dataset", "CLIPS", "--model", "org/model", "--max_steps", "1", "--batch_size", "4"],
    "evaluate": ["--dataset", "org/set", "--split", "train", "--model", "MODEL"],
    "evaluate model": ["--dataset", "CLIPS", "--split", "train", "--model", "org/model"],
    "probe": ["--dataset", "org/set", "--test_split", "train", "--model", "MODEL", "--epochs", "1"],
    "pretrain resume": ["--resume", "org/model"],
}
COMMANDS = {
    "prepare": ["prepare", "org/set", "OUT"],
    "predict": ["predict", "CLIP", "--model", "org/model"],
    "features": ["features", "CLIP", "--model", "org/model", "--output_dir", "OUT"],
    "convert": ["convert", "org/model", "OUT"],
}


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of one step."""
    folder = tmp_path_factory.mktemp("run")
    arguments = ["--dataset", "motion", "--model", write_small_model(folder / "model"), "--batch_size", "4"]
    arguments += ["--output_dir", folder / "out", "--max_steps", "2", "--save_every", "1", "--num_workers", "0"]
    with started(pretrain(*arguments, processes=1), log=folder / "log", variables={"PYTHONPATH": str(ROOT)}) as run:
        run.finish()
    return folder / "out"


@pytest.fixture
def on_hub(hub: LocalHub, finished_run: Path) -> LocalHub:
    """Return a Hub with what the commands open: a dataset, a classifier, and the state of a run."""
    write_parquet(hub.dataset("org/set"), rows=(6, 6))
    write_classifier(hub.model("org/model"))
    write_small_model(hub.model("org/model-pt"))
    push_state(hub, finished_run / "checkpoint-1", repo="org/model")
    return hub


def run_command(hub: LocalHub, what: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command of `EXAMPLES` or `COMMANDS` until its end."""
    write_classifier(folder / "model")
    names = MotionSource().class_names or []
    for index, sample in enumerate(MotionSource()[number] for number in range(8)):
        path = folder / "clips" / "train" / names[sample.label] / f"{index}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample.video)
    places = {"MODEL": "model", "CLIPS": "clips", "CLIP": "clip.mp4", "OUT": "out"}
    (folder / "clip.mp4").write_bytes(MotionSource()[0].video)
    if what in EXAMPLES:
        script = ROOT / "examples" / f"{what.split()[0]}.py"
        todo = [sys.executable, str(script), *EXAMPLES[what], "--output_dir", str(folder / "out")]
    else:
        todo = [sys.executable, "-m", "hf_videomae.cli", *COMMANDS[what]]
    todo = [str(folder / places[word]) if word in places else word for word in todo]
    return subprocess.run(todo, env=variables(hub), capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize("what", [*EXAMPLES, *COMMANDS])
def test_command_without_fault_succeeds(on_hub: LocalHub, tmp_path: Path, what: str) -> None:
    done = run_command(on_hub, what, tmp_path)
    assert done.returncode == 0, done.stderr
    assert on_hub.requests("GET .*org/(set|model)")


@pytest.mark.parametrize("kind", OPENING)
@pytest.mark.parametrize("what", [*EXAMPLES, *COMMANDS])
def test_fault_at_the_start_ends_in_one_line(on_hub: LocalHub, tmp_path: Path, what: str, kind: str) -> None:
    OPENING[kind].begin(on_hub)
    begun = time.monotonic()
    done = run_command(on_hub, what, tmp_path)
    print(f"\nstart, {what}, {kind}: {time.monotonic() - begun:.1f} s: {done.stderr.strip().splitlines()[-1:]}")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if re.match(r"(hf-videomae: )?error:", line)]
    assert re.search(OPENING[kind].told, line) and re.search("org/(set|model)", line), line


def write_classifier(folder: Path) -> None:
    names = dict(enumerate(MotionSource().class_names or []))
    config = VideoMAEConfig.from_preset("tiny", task="classification", num_hidden_layers=1, id2label=names)
    VideoMAEForVideoClassification(config).save_pretrained(folder)
