"""Hold the files of a run as they are at a save, by hard links, so that nothing the run does later changes them.

Training waits only for the links. Files that keep growing (JSON lines) are cut to their size at that moment later, in
the thread that publishes them.
"""

import errno
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cards.card_check import check_card
from ..cards.header import license_from_header, parse_header_or_empty
from ..cards.markdown import CARD_FILE, is_unedited
from ..cards.run_card import render_run_card
from ..cards.run_metadata import EXAMPLES_FILE, read_run_metadata
from ..cards.snippets import HANDLER_FILE, REQUIREMENTS_FILE
from ..checkpoint_checksums import dump_checksummed_state
from ..checkpoint_dir import FETCHED_FROM_FILE, STATE_FILE, checkpoint_step
from ..hub.client import FileContent
from ..redaction import redact_secrets
from ..run_files import (
    BAD_VIDEOS_FILE,
    CONFUSION_FILE,
    EVALUATION_FILE,
    LOSS_CURVE_FILE,
    METRICS_FILE,
    NONFINITE_FILE,
    RUN_FILE,
    read_jsonl,
)
from .requirement_line import has_credentials

SNAPSHOT_FOLDER = ".publishing"
"""The folder of all snapshots, inside the run's own: hard links cannot leave a file system."""

_MODEL_PATTERNS = ("config.json", "*.safetensors", "*.safetensors.index.json", "*processor_config.json")
_RUN_STATE_PATTERNS = ("optimizer.safetensors", "rank-*", "run_state.json")
_FINISHED_RUN_PATTERNS = ("reconstruction-*", EVALUATION_FILE, CONFUSION_FILE, EXAMPLES_FILE)
_MANAGED_PATTERNS = (
    *(*_MODEL_PATTERNS, "reconstruction-*", EVALUATION_FILE, CONFUSION_FILE),
    *(LOSS_CURVE_FILE, METRICS_FILE, RUN_FILE),
)
_APPENDED_FILES = (METRICS_FILE, BAD_VIDEOS_FILE, NONFINITE_FILE)
_SAMPLE_LOGS = "samples-*.jsonl"
_NO_HARD_LINK_ERRORS = (errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EACCES)

_snapshot_counter = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run's files at one step.

    Attributes:
        folder: the model and the run's files, laid out as at the top of a finished run; without `run.json`.
        run: `run.json` as of this step.
        step: of the model.
        state: a complete checkpoint, if its state is published too.
        sizes: bytes at the time of the snapshot of each file that keeps growing.
    """

    folder: Path
    run: dict[str, Any]
    step: int
    state: Path | None = None
    sizes: dict[str, int] = field(default_factory=dict)

    def truncate_appended_files(self) -> None:
        """Replace the link to each growing file by a copy of what it held at the time of the snapshot."""
        for name, size in self.sizes.items():
            path, private_copy = self.folder / name, self.folder / f"{name}.own"
            if path.stat().st_nlink == 1:
                continue  # an earlier attempt did it, or the file was copied
            with path.open("rb") as source, private_copy.open("wb") as target:
                _copy_bytes(source, target, size)
            os.replace(private_copy, path)

    def remove(self) -> None:
        """Delete the links."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)


def _copy_bytes(source: Any, target: Any, size: int) -> None:
    while size > 0 and (part := source.read(min(size, 1 << 20))):
        target.write(part)
        size -= len(part)


# Taking a snapshot.


def take_snapshot(
    output_dir: Path, run: dict[str, Any], *, checkpoint: Path | None, step: int, with_state: bool = False
) -> Snapshot:
    """Hold the files of a run as they are now.

    Args:
        output_dir: the run's output folder.
        run: its `run.json`.
        checkpoint: the checkpoint with the model; None: the finished model at the top of the output folder.
        step: of that model.
        with_state: also hold a complete checkpoint: this one, or that of a finished run's last step.
    """
    root = output_dir / SNAPSHOT_FOLDER / f"{step}-{os.getpid()}-{next(_snapshot_counter)}"
    # evaluation.json names its model by the folder of the run, so the snapshot's folder has the same name.
    folder = root / output_dir.resolve().name
    growing = _glob_files(output_dir, (*_APPENDED_FILES, *((_SAMPLE_LOGS,) if with_state else ())))
    state_checkpoint = checkpoint or output_dir / f"checkpoint-{step}"
    state = root / f"checkpoint-{checkpoint_step(state_checkpoint) or step}"
    has_state = with_state and state_checkpoint.is_dir()
    handler_files = (HANDLER_FILE, REQUIREMENTS_FILE) if (output_dir / HANDLER_FILE).is_file() else ()
    finished = _FINISHED_RUN_PATTERNS if checkpoint is None else ()
    try:
        folder.mkdir(parents=True)
        sizes = {path.name: path.stat().st_size for path in growing}
        for path in (
            *_glob_files(checkpoint or output_dir, _MODEL_PATTERNS, exclude=_RUN_STATE_PATTERNS),
            *_glob_files(output_dir, (LOSS_CURVE_FILE, CARD_FILE, *handler_files, *finished)),
            *(_example_videos(output_dir) if checkpoint is None else ()),
            *growing,
        ):
            _hard_link_or_copy(path, folder / path.name)
        for path in _glob_files(state_checkpoint, ("**/*",)) if has_state else ():
            _hard_link_or_copy(path, state / path.relative_to(state_checkpoint))
    except BaseException:  # if the disk is full, leftover links would keep it full
        shutil.rmtree(root, ignore_errors=True)
        raise
    if run.get("steps") not in (step, None):  # the run got further before it failed
        run = {**run, "steps": step, "clips": None, "loss": None}
    return Snapshot(folder=folder, run=run, step=step, state=state if has_state else None, sizes=sizes)


def _glob_files(folder: Path, patterns: tuple[str, ...], *, exclude: tuple[str, ...] = ()) -> list[Path]:
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in paths if not any(path.match(pattern) for pattern in exclude))


def _example_videos(output_dir: Path) -> Iterator[Path]:
    for line in read_jsonl(output_dir / EXAMPLES_FILE):
        video = output_dir / Path(str(line.get("video"))).name
        if video.is_file():
            yield video


def _hard_link_or_copy(path: Path, destination: Path) -> None:
    """Link a file, or copy it if the file system has no hard links: that takes as long as copying takes."""
    if destination.exists():
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, destination)
    except OSError as error:
        if error.errno not in _NO_HARD_LINK_ERRORS:
            raise
        shutil.copyfile(path, destination)


def remove_stale_snapshots(output_dir: Path) -> None:
    """Delete the snapshots of earlier processes that were killed while they published."""
    shutil.rmtree(output_dir / SNAPSHOT_FOLDER, ignore_errors=True)


# The published contents of a snapshot.


def build_main_contents(snapshot: Snapshot, *, model_id: str) -> tuple[dict[str, FileContent], tuple[str, ...]]:
    """Collect the files of `main` by path: model, card, pictures, and the redacted records of run and evaluation.

    Returns:
        The files, and notes on what was left out, for the user.
    """
    folder = snapshot.folder
    card = (folder / CARD_FILE).read_text(encoding="utf-8") if (folder / CARD_FILE).exists() else None
    # A license that the user gave to `hf-videomae card --license` is only in the card that it wrote.
    license = None if card is None else license_from_header(parse_header_or_empty(card))
    metadata = read_run_metadata(folder, snapshot.run, model_id=model_id, license=license)
    if card is None or is_unedited(card):
        card = render_run_card(metadata)
    shown = {name: folder / name for name in sorted(metadata.files) if name != HANDLER_FILE}
    if metadata.evaluation is None:
        shown.pop(CONFUSION_FILE, None)
    handler_files, notes = _collect_handler_files(folder)
    contents: dict[str, FileContent] = {path.name: path for path in _glob_files(folder, _MODEL_PATTERNS)}
    contents |= {**shown, **handler_files, **{example.src: folder / example.src for example in metadata.examples}}
    if (folder / METRICS_FILE).exists():
        contents[METRICS_FILE] = folder / METRICS_FILE
    contents[RUN_FILE] = _to_redacted_json(metadata.run)
    if metadata.evaluation is not None:
        contents[EVALUATION_FILE] = _to_redacted_json(metadata.evaluation)
    problems = check_card(card, folder)
    if problems:
        notes = [*notes, f"the card is left out, the Hub would not accept it: {'; '.join(problems)}"]
    else:
        contents[CARD_FILE] = redact_secrets(card).encode("utf-8")
    return contents, (*metadata.notes, *notes)


def _collect_handler_files(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the files of an endpoint, unless they would publish credentials, and a note if so."""
    if not (folder / HANDLER_FILE).is_file():
        return {}, []
    paths = _glob_files(folder, (HANDLER_FILE, REQUIREMENTS_FILE))
    for path in paths:
        if path.name == REQUIREMENTS_FILE and has_credentials(path.read_text(encoding="utf-8", errors="replace")):
            return {}, [f"{REQUIREMENTS_FILE} holds credentials, so it and {HANDLER_FILE} are left out"]
    return {path.name: path for path in paths}, []


def is_managed_path(path: str) -> bool:
    """Return whether a push writes a file of this path on `main`, and deletes it if the new model has none."""
    return "/" not in path and any(Path(path).match(pattern) for pattern in _MANAGED_PATTERNS)


def build_state_contents(snapshot: Snapshot, *, run_record: FileContent) -> dict[str, FileContent]:
    """Collect the files of the state's branch by path: a complete checkpoint, and the run's files.

    A resumed run needs them unchanged, names of videos and of the dataset included. Only tokens are removed, and, in
    `run.json`, the paths of this machine, because nothing depends on them.

    Args:
        snapshot: one with a state.
        run_record: the redacted `run.json`, as on `main`.
    """
    assert snapshot.state is not None
    checkpoint = snapshot.state
    contents: dict[str, FileContent] = {
        f"{checkpoint.name}/{path.relative_to(checkpoint).as_posix()}": path
        for path in _glob_files(checkpoint, ("**/*",))
        if path.name != FETCHED_FROM_FILE
    }
    contents[f"{checkpoint.name}/{STATE_FILE}"] = _redacted_state_file(checkpoint / STATE_FILE)
    contents |= {name: _redacted_content(snapshot.folder / name) for name in sorted(snapshot.sizes)}
    return {**contents, RUN_FILE: run_record}


def _redacted_content(path: Path) -> FileContent:
    text = path.read_text(encoding="utf-8")
    redacted = redact_secrets(text)
    return path if redacted == text else redacted.encode("utf-8")


def _redacted_state_file(path: Path) -> FileContent:
    """Return the state file; if redacting changed it, with the checksum of the redacted text."""
    content = _redacted_content(path)
    return content if isinstance(content, Path) else dump_checksummed_state(json.loads(content)).encode("utf-8")


def _to_redacted_json(values: dict[str, Any]) -> bytes:
    return redact_secrets(json.dumps(values, indent=2) + "\n").encode("utf-8")
