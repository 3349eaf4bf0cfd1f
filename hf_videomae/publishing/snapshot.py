"""How a run stands at a save: its files, held by hard links, so that nothing that the run does later changes them.

Training waits for the links alone. What goes on growing (lines of JSON) is cut to its size of that moment afterwards,
in whatever thread publishes it.
"""

import contextlib
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
from ..cards.run_metadata import EXAMPLES_FILE, RunMetadata, read_json, read_run_metadata
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
    write_json,
)
from .requirement_line import has_credentials

SNAPSHOT_FOLDER = ".publishing"
"""The folder of all snapshots, in the run's own: hard links do not leave a file system."""

_MODEL_PATTERNS = ("config.json", "*.safetensors", "*.safetensors.index.json", "*processor_config.json")
_RUN_STATE_PATTERNS = ("optimizer.safetensors", "rank-*", "run_state.json")
_FINISHED_RUN_PATTERNS = ("reconstruction-*", EVALUATION_FILE, CONFUSION_FILE, EXAMPLES_FILE)
_APPENDED_FILES = (METRICS_FILE, BAD_VIDEOS_FILE, NONFINITE_FILE)
_SAMPLE_LOGS = "samples-*.jsonl"

_snapshot_counter = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run's files at one step.

    Attributes:
        folder: the model and the run's files, as they lie at the top of a finished run.
        step: of the model.
        state: a whole checkpoint, where its state is published too.
        sizes: bytes of each file that goes on growing.
    """

    folder: Path
    step: int
    state: Path | None = None
    sizes: dict[str, int] = field(default_factory=dict)

    def truncate_appended_files(self) -> None:
        """Make files that grow this snapshot's own, once."""
        for name, size in self.sizes.items():
            path, private_copy = self.folder / name, self.folder / f"{name}.own"
            if path.stat().st_nlink == 1:
                continue  # another attempt did it, or it was copied
            with path.open("rb") as source, private_copy.open("wb") as target:
                _copy_bytes(source, target, size)
            os.replace(private_copy, path)

    def remove(self) -> None:
        """Let go of the files."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)


def _copy_bytes(source: Any, target: Any, size: int) -> None:
    while size > 0 and (part := source.read(min(size, 1 << 20))):
        target.write(part)
        size -= len(part)


def take_snapshot(output_dir: Path, *, checkpoint: Path | None, step: int, with_state: bool = False) -> Snapshot:
    """Hold the files of a run as they are now.

    Args:
        output_dir: of the run.
        checkpoint: whose model it is; None: the finished one at the top of the directory.
        step: of that model.
        with_state: hold the whole checkpoint as well: this, or that of a finished run's last step.
    """
    root = output_dir / SNAPSHOT_FOLDER / f"{step}-{os.getpid()}-{next(_snapshot_counter)}"
    with contextlib.ExitStack() as failed:
        # Its links would keep the disk full, if that is what went wrong.
        failed.callback(shutil.rmtree, root, ignore_errors=True)
        linked = _link_files(root, output_dir, checkpoint=checkpoint, step=step, with_state=with_state)
        failed.pop_all()
    return linked


def _link_files(root: Path, output_dir: Path, *, checkpoint: Path | None, step: int, with_state: bool) -> Snapshot:
    # Named as the run's own folder: by that name evaluation.json knows its model.
    folder = root / output_dir.resolve().name
    folder.mkdir(parents=True)
    for path in _glob_files(checkpoint or output_dir, _MODEL_PATTERNS):
        if not any(path.match(pattern) for pattern in _RUN_STATE_PATTERNS):
            _hard_link_or_copy(path, folder / path.name)
    _link_run_record(output_dir, folder, step=step)
    handler_files = (HANDLER_FILE, REQUIREMENTS_FILE) if (output_dir / HANDLER_FILE).is_file() else ()
    for path in _glob_files(
        output_dir,
        (LOSS_CURVE_FILE, CARD_FILE, *handler_files, *(_FINISHED_RUN_PATTERNS if checkpoint is None else ())),
    ):
        _hard_link_or_copy(path, folder / path.name)
    for path in _example_videos(folder, output_dir):
        _hard_link_or_copy(path, folder / path.name)
    sizes = {}
    for path in _glob_files(output_dir, (*_APPENDED_FILES, *((_SAMPLE_LOGS,) if with_state else ()))):
        sizes[path.name] = path.stat().st_size
        _hard_link_or_copy(path, folder / path.name)
    state = None
    state_checkpoint = checkpoint or output_dir / f"checkpoint-{step}"
    if with_state and state_checkpoint.is_dir():
        state = root / f"checkpoint-{checkpoint_step(state_checkpoint) or step}"
        for path in _glob_files(state_checkpoint, ("**/*",)):
            (state / path.relative_to(state_checkpoint)).parent.mkdir(parents=True, exist_ok=True)
            _hard_link_or_copy(path, state / path.relative_to(state_checkpoint))
    return Snapshot(folder=folder, step=step, state=state, sizes=sizes)


def _link_run_record(output_dir: Path, folder: Path, *, step: int) -> None:
    """run.json says how far the run got; a run that failed later than its last save is published as of that save."""
    path = output_dir / RUN_FILE
    run = read_json(path) if path.is_file() else {}
    if run.get("steps") in (step, None):
        return _hard_link_or_copy(path, folder / RUN_FILE)
    write_json(folder / RUN_FILE, {**run, "steps": step, "clips": None, "loss": None})


def _glob_files(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return iter(sorted(found))


def _example_videos(folder: Path, output_dir: Path) -> Iterator[Path]:
    for line in read_jsonl(folder / EXAMPLES_FILE):
        video = output_dir / Path(str(line.get("video"))).name
        if video.is_file():
            yield video


def _hard_link_or_copy(path: Path, destination: Path) -> None:
    """Where a file system has no hard links the file is copied: it takes the time that copying takes."""
    if destination.exists():
        return
    try:
        os.link(path, destination)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EACCES):
            raise
        shutil.copyfile(path, destination)


def clear(output_dir: Path) -> None:
    """Take away what earlier processes were publishing when they were killed."""
    shutil.rmtree(output_dir / SNAPSHOT_FOLDER, ignore_errors=True)


# What of it is published.


def build_main_contents(snapshot: Snapshot, *, model_id: str) -> tuple[dict[str, FileContent], tuple[str, ...]]:
    """The files of `main`, by path: model, card, pictures, and what the run and its evaluation say, made public.

    Returns:
        The files, and notes on what was left out, for people.
    """
    snapshot.truncate_appended_files()
    folder = snapshot.folder
    metadata = read_run_metadata(folder, model_id=model_id, license=_license_from_card(folder))
    card_files = {name: folder / name for name in sorted(metadata.files)}
    notes = metadata.notes
    if HANDLER_FILE in card_files:
        requirements = list(_glob_files(folder, (REQUIREMENTS_FILE,)))
        if any(has_credentials(path.read_text(encoding="utf-8", errors="replace")) for path in requirements):
            del card_files[HANDLER_FILE]
            notes = (*notes, f"{REQUIREMENTS_FILE} holds credentials, so it and {HANDLER_FILE} are left out")
        else:
            card_files |= {path.name: path for path in requirements}
    if metadata.evaluation is None:
        card_files.pop(CONFUSION_FILE, None)
    contents: dict[str, FileContent] = {path.name: path for path in _glob_files(folder, _MODEL_PATTERNS)}
    contents |= {**card_files, **{example.src: folder / example.src for example in metadata.examples}}
    if (folder / METRICS_FILE).exists():
        contents[METRICS_FILE] = folder / METRICS_FILE
    contents[RUN_FILE] = _to_redacted_json(metadata.run)
    if metadata.evaluation is not None:
        contents[EVALUATION_FILE] = _to_redacted_json(metadata.evaluation)
    card, note = _card_or_problem(metadata, folder)
    if card is not None:
        contents[CARD_FILE] = card.encode("utf-8")
    return contents, (*notes, *filter(None, [note]))


def is_managed_path(path: str) -> bool:
    """Whether a file on `main` is one that a push puts there: it goes when the model there now has none."""
    names = (
        *_MODEL_PATTERNS,
        "reconstruction-*",
        EVALUATION_FILE,
        CONFUSION_FILE,
        LOSS_CURVE_FILE,
        METRICS_FILE,
        RUN_FILE,
    )
    return "/" not in path and any(Path(path).match(name) for name in names)


def build_state_contents(snapshot: Snapshot) -> dict[str, FileContent]:
    """The files of the branch of the state, by path: a whole checkpoint, and the run's files beside it.

    A resumed run needs them as they are, the names of videos and of the data set included; tokens are taken out, and
    paths of the machine out of run.json, which nothing depends on.
    """
    snapshot.truncate_appended_files()
    assert snapshot.state is not None
    checkpoint, folder = snapshot.state, snapshot.folder
    contents: dict[str, FileContent] = {
        f"{checkpoint.name}/{path.relative_to(checkpoint).as_posix()}": path
        for path in _glob_files(checkpoint, ("**/*",))
        if path.name != FETCHED_FROM_FILE
    }
    state_file = f"{checkpoint.name}/{STATE_FILE}"
    contents[state_file] = _redacted_state_file(checkpoint / STATE_FILE)
    contents |= {name: _redacted_content(folder / name) for name in sorted(snapshot.sizes)}
    contents[RUN_FILE] = _to_redacted_json(read_run_metadata(folder).run)
    return contents


def _redacted_content(path: Path) -> FileContent:
    text = path.read_text(encoding="utf-8")
    clean = redact_secrets(text)
    return path if clean == text else clean.encode("utf-8")


def _redacted_state_file(path: Path) -> FileContent:
    """The state file, with the checksum of what is published."""
    found = _redacted_content(path)
    return found if isinstance(found, Path) else dump_checksummed_state(json.loads(found)).encode("utf-8")


def _to_redacted_json(values: dict[str, Any]) -> bytes:
    return redact_secrets(json.dumps(values, indent=2) + "\n").encode("utf-8")


def _license_from_card(folder: Path) -> str | None:
    """That of a card which `hf-videomae card --license` wrote into the run's folder."""
    card = folder / CARD_FILE
    return license_from_header(parse_header_or_empty(card.read_text(encoding="utf-8"))) if card.is_file() else None


def _card_or_problem(metadata: RunMetadata, folder: Path) -> tuple[str | None, str | None]:
    """The card, and why there is none: one that was edited here goes as it is."""
    path = folder / CARD_FILE
    text = path.read_text(encoding="utf-8") if path.exists() else None
    if text is None or is_unedited(text):
        text = render_run_card(metadata)
    problems = check_card(text, folder)
    if problems:
        return None, f"the card is left out, the Hub would not accept it: {'; '.join(problems)}"
    return redact_secrets(text), None
