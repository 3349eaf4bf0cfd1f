"""Run the stages of a comparison as a user runs them, keep finished ones, test their models and write the report."""

import hashlib
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import logging

from hf_videomae import VideoMAEForVideoClassification, VideoMAEVideoProcessor
from hf_videomae.console import log_main
from hf_videomae.data.source import AnySource
from hf_videomae.evaluation import Evaluation, evaluate, parse_views
from hf_videomae.provenance import package_versions, redacted_command_line
from hf_videomae.run_files import RUN_FILE, read_run_status, write_json
from hf_videomae.training import RecipeError

from .baselines import repeat_middle_frame
from .comparison import ComparisonRow, draw_comparison, markdown_table

EXAMPLES = Path(__file__).resolve().parents[1]
STAGE_FILE = "stage.json"


def run_stage(script: str, arguments: Sequence[str | Path], *, output_dir: Path) -> Path:
    """Run an example script into a directory, unless the same command has finished there.

    An interrupted stage resumes. A stage starts over if its command, its recipe file or the model it starts from has
    changed.

    Args:
        script: name of a file in `examples/`.
        arguments: its flags, except `--output_dir`, `--overwrite` and `--resume`.
        output_dir: the output directory, used by this stage alone.

    Returns:
        the output directory, which holds the model.

    Raises:
        SystemExit: with the script's exit code, if it is not 0; the script has printed the reason.
    """
    flags = [str(argument) for argument in arguments]
    request = {"command": [script, *flags], "inputs": _input_fingerprints(flags)}
    record = output_dir / STAGE_FILE
    is_same = record.exists() and json.loads(record.read_text(encoding="utf-8")) == request
    if is_same and read_run_status(output_dir) == "finished":
        log_main(f"kept: {output_dir} is finished")
        return output_dir
    output_dir.mkdir(parents=True, exist_ok=True)
    write_json(record, request)
    resume = is_same and any(output_dir.glob("checkpoint-*"))
    flags = [*flags, "--output_dir", str(output_dir), "--resume" if resume else "--overwrite"]
    log_main(f"\n$ python examples/{shlex.join([script, *flags])}")
    code = _run([sys.executable, str(EXAMPLES / script), *flags])
    if code:
        raise SystemExit(code)
    return output_dir


def _run(command: list[str]) -> int:
    """Run a script and return its exit code; a stop signal is passed on, so that the script saves and exits itself."""
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except KeyboardInterrupt as error:
        if getattr(error, "number", signal.SIGINT) != signal.SIGINT:  # Ctrl-C reaches the script by itself
            process.send_signal(signal.SIGTERM)
        process.wait()
        raise


def _input_fingerprints(flags: Sequence[str]) -> dict[str, str]:
    """Return what a command depends on besides its flags: recipe files, and when its input models were trained."""
    fingerprints = {}
    for flag in flags:
        recipe, run = EXAMPLES / "recipes" / f"{flag}.yaml", Path(flag) / RUN_FILE
        if recipe.is_file():
            fingerprints[flag] = hashlib.blake2b(recipe.read_bytes(), digest_size=8).hexdigest()
        elif run.is_file():
            fingerprints[flag] = json.loads(run.read_text(encoding="utf-8"))["updated"]
    return fingerprints


def optional_flag(flag: str, value: object) -> list[str]:
    """Return `--flag value`, or nothing for None."""
    return [] if value is None else [f"--{flag}", str(value)]


# The test and the report.


@dataclass(frozen=True)
class EvalSettings:
    """How models are tested: (temporal views, crops), clips per forward pass, decoding processes."""

    views: tuple[int, int]
    batch_size: int
    num_workers: int


def check_seeds(seeds: Sequence[int], **checkpoints: str | None) -> None:
    """Check the seeds; `checkpoints` are settings that name a model instead of training one per seed.

    Raises:
        RecipeError: for no or repeated seeds, or for several seeds and one checkpoint.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise RecipeError(f"seeds are {seeds}; give one or more different numbers")
    for name, checkpoint in checkpoints.items():
        if checkpoint is not None and len(seeds) > 1:
            raise RecipeError(f"{name} names one checkpoint, but each seed has its own: give one seed")


def parse_views_setting(text: str) -> tuple[int, int]:
    """Parse views such as `5x3` to (5, 3).

    Raises:
        RecipeError: for anything else.
    """
    try:
        return parse_views(text)
    except ValueError as error:
        raise RecipeError(f"views: {error}") from None


def measure_accuracy(folder: Path, source: AnySource, *, settings: EvalSettings, repeat_frame: bool = False) -> float:
    """Return the top-1 accuracy of a fine-tuned model; with `repeat_frame` it sees the middle frame of one view."""
    logging.disable_progress_bar()  # loading takes a second
    model = VideoMAEForVideoClassification.from_pretrained(folder)
    with repeat_middle_frame(model) if repeat_frame else nullcontext():
        evaluation = evaluate(
            model,
            source,
            processor=VideoMAEVideoProcessor.from_pretrained(folder),
            views=(1, 1) if repeat_frame else settings.views,
            batch_size=settings.batch_size,
            num_workers=settings.num_workers,
            antialias=True,  # as the clips of these trainings were resized
        )
    assert isinstance(evaluation, Evaluation)  # these trainings have one class per video
    return evaluation.top1


def write_comparison(
    entries: Sequence[ComparisonRow],
    folder: Path,
    *,
    title: str,
    chance: float,
    seeds: Sequence[int],
    facts: dict[str, Any],
    remarks: Sequence[str],
) -> None:
    """Print the table, and write it to comparison.md, the figure to comparison.png, the numbers to comparison.json."""
    table = markdown_table(entries, seeds=seeds, first_column="top-1 accuracy")
    text = "\n".join([table, "", *remarks])
    log_main(f"\n{text}\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.md").write_text(f"# {title}\n\n{text}\n", encoding="utf-8")
    rows = [{"name": entry.name, "values": entry.values, "baseline": entry.is_baseline} for entry in entries]
    record = {"title": title, "seeds": seeds, "chance": chance, "rows": rows, **facts, "remarks": remarks}
    write_json(
        folder / "comparison.json", {**record, "command": redacted_command_line(), "versions": package_versions()}
    )
    draw_comparison(entries, folder / "comparison.png", title=title, chance=chance)
    log_main(f"wrote {folder / 'comparison.md'}, {folder / 'comparison.json'} and {folder / 'comparison.png'}")
