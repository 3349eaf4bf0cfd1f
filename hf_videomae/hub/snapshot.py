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

from ..cards.document import CARD_FILE, is_untouched
from ..cards.header import header_of, licence_in
from ..cards.scrubbing import safe
from ..data.uploading import Content
from ..evaluation.results import EVALUATION_FILE
from ..evaluation.results import PICTURE_FILE as CONFUSION_FILE
from ..records import write_json
from ..training.checkpoints import ORIGIN_FILE, STATE_FILE, step_of
from ..training.checksums import sealed
from ..training.report import BAD_VIDEOS_FILE, METRICS_FILE, NOT_FINITE_FILE, PICTURE_FILE, RUN_FILE, read_lines
from .card import render_run_card
from .facts import EXAMPLES_FILE, RunFacts, read_json, read_run
from .header import check_card
from .package import has_credentials
from .parts import HANDLER_FILE, REQUIREMENTS_FILE

STAGING = ".publishing"
"""The folder of all snapshots, in the run's own: hard links do not leave a file system."""

_MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", "*processor_config.json")
_RUN_STATE = ("optimizer.safetensors", "rank-*", "run_state.json")
_FINAL = ("reconstruction-*", EVALUATION_FILE, CONFUSION_FILE, EXAMPLES_FILE)
_GROWING = (METRICS_FILE, BAD_VIDEOS_FILE, NOT_FINITE_FILE)
_SAMPLES = "samples-*.jsonl"

_numbers = itertools.count(1)


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

    def settle(self) -> None:
        """Make files that grow this snapshot's own, once."""
        for name, size in self.sizes.items():
            path, own = self.folder / name, self.folder / f"{name}.own"
            if path.stat().st_nlink == 1:
                continue  # another attempt did it, or it was copied
            with path.open("rb") as source, own.open("wb") as target:
                _copy_bytes(source, target, size)
            os.replace(own, path)

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
    root = output_dir / STAGING / f"{step}-{os.getpid()}-{next(_numbers)}"
    with contextlib.ExitStack() as failed:
        # Its links would keep the disk full, if that is what went wrong.
        failed.callback(shutil.rmtree, root, ignore_errors=True)
        held = _hold(root, output_dir, checkpoint=checkpoint, step=step, with_state=with_state)
        failed.pop_all()
    return held


def _hold(root: Path, output_dir: Path, *, checkpoint: Path | None, step: int, with_state: bool) -> Snapshot:
    # Named as the run's own folder: by that name evaluation.json knows its model.
    folder = root / output_dir.resolve().name
    folder.mkdir(parents=True)
    for path in _matching(checkpoint or output_dir, _MODEL_FILES):
        if not any(path.match(pattern) for pattern in _RUN_STATE):
            _link(path, folder / path.name)
    _link_run(output_dir, folder, step=step)
    served = (HANDLER_FILE, REQUIREMENTS_FILE) if (output_dir / HANDLER_FILE).is_file() else ()
    for path in _matching(output_dir, (PICTURE_FILE, CARD_FILE, *served, *(_FINAL if checkpoint is None else ()))):
        _link(path, folder / path.name)
    for path in _examples(folder, output_dir):
        _link(path, folder / path.name)
    sizes = {}
    for path in _matching(output_dir, (*_GROWING, *((_SAMPLES,) if with_state else ()))):
        sizes[path.name] = path.stat().st_size
        _link(path, folder / path.name)
    state = None
    whole = checkpoint or output_dir / f"checkpoint-{step}"
    if with_state and whole.is_dir():
        state = root / f"checkpoint-{step_of(whole) or step}"
        for path in _matching(whole, ("**/*",)):
            (state / path.relative_to(whole)).parent.mkdir(parents=True, exist_ok=True)
            _link(path, state / path.relative_to(whole))
    return Snapshot(folder=folder, step=step, state=state, sizes=sizes)


def _link_run(output_dir: Path, folder: Path, *, step: int) -> None:
    """run.json says how far the run got; a run that failed later than its last save is published as of that save."""
    path = output_dir / RUN_FILE
    run = read_json(path) if path.is_file() else {}
    if run.get("steps") in (step, None):
        return _link(path, folder / RUN_FILE)
    write_json(folder / RUN_FILE, {**run, "steps": step, "clips": None, "loss": None})


def _matching(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return iter(sorted(found))


def _examples(folder: Path, output_dir: Path) -> Iterator[Path]:
    for line in read_lines(folder / EXAMPLES_FILE):
        video = output_dir / Path(str(line.get("video"))).name
        if video.is_file():
            yield video


def _link(path: Path, place: Path) -> None:
    """Where a file system has no hard links the file is copied: it takes the time that copying takes."""
    if place.exists():
        return
    try:
        os.link(path, place)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EACCES):
            raise
        shutil.copyfile(path, place)


def clear(output_dir: Path) -> None:
    """Take away what earlier processes were publishing when they were killed."""
    shutil.rmtree(output_dir / STAGING, ignore_errors=True)


# What of it is published.


def contents_of(snapshot: Snapshot, *, model_id: str) -> tuple[dict[str, Content], tuple[str, ...]]:
    """The files of `main`, by path: model, card, pictures, and what the run and its evaluation say, made public.

    Returns:
        The files, and notes on what was left out, for people.
    """
    snapshot.settle()
    folder = snapshot.folder
    facts = read_run(folder, model_id=model_id, licence=_stated_licence(folder))
    shown = {name: folder / name for name in sorted(facts.files)}
    notes = facts.notes
    if HANDLER_FILE in shown:
        requirements = list(_matching(folder, (REQUIREMENTS_FILE,)))
        if any(has_credentials(path.read_text(encoding="utf-8", errors="replace")) for path in requirements):
            del shown[HANDLER_FILE]
            notes = (*notes, f"{REQUIREMENTS_FILE} holds credentials, so it and {HANDLER_FILE} are left out")
        else:
            shown |= {path.name: path for path in requirements}
    if facts.evaluation is None:
        shown.pop(CONFUSION_FILE, None)
    contents: dict[str, Content] = {path.name: path for path in _matching(folder, _MODEL_FILES)}
    contents |= {**shown, **{example.src: folder / example.src for example in facts.examples}}
    if (folder / METRICS_FILE).exists():
        contents[METRICS_FILE] = folder / METRICS_FILE
    contents[RUN_FILE] = _as_json(facts.run)
    if facts.evaluation is not None:
        contents[EVALUATION_FILE] = _as_json(facts.evaluation)
    card, note = _card(facts, folder)
    if card is not None:
        contents[CARD_FILE] = card.encode("utf-8")
    return contents, (*notes, *filter(None, [note]))


def is_ours(path: str) -> bool:
    """Whether a file on `main` is one that a push puts there: it goes when the model there now has none."""
    names = (*_MODEL_FILES, "reconstruction-*", EVALUATION_FILE, CONFUSION_FILE, PICTURE_FILE, METRICS_FILE, RUN_FILE)
    return "/" not in path and any(Path(path).match(name) for name in names)


def state_of(snapshot: Snapshot) -> dict[str, Content]:
    """The files of the branch of the state, by path: a whole checkpoint, and the run's files beside it.

    A resumed run needs them as they are, the names of videos and of the data set included; tokens are taken out, and
    paths of the machine out of run.json, which nothing depends on.
    """
    snapshot.settle()
    assert snapshot.state is not None
    checkpoint, folder = snapshot.state, snapshot.folder
    contents: dict[str, Content] = {
        f"{checkpoint.name}/{path.relative_to(checkpoint).as_posix()}": path
        for path in _matching(checkpoint, ("**/*",))
        if path.name != ORIGIN_FILE
    }
    state_file = f"{checkpoint.name}/{STATE_FILE}"
    contents[state_file] = _state_without_tokens(checkpoint / STATE_FILE)
    contents |= {name: _without_tokens(folder / name) for name in sorted(snapshot.sizes)}
    contents[RUN_FILE] = _as_json(read_run(folder).run)
    return contents


def _without_tokens(path: Path) -> Content:
    text = path.read_text(encoding="utf-8")
    clean = safe(text)
    return path if clean == text else clean.encode("utf-8")


def _state_without_tokens(path: Path) -> Content:
    """The state file, with the checksum of what is published."""
    found = _without_tokens(path)
    return found if isinstance(found, Path) else sealed(json.loads(found)).encode("utf-8")


def _as_json(values: dict[str, Any]) -> bytes:
    return safe(json.dumps(values, indent=2) + "\n").encode("utf-8")


def _stated_licence(folder: Path) -> str | None:
    """That of a card which `hf-videomae card --license` wrote into the run's folder."""
    card = folder / CARD_FILE
    return licence_in(header_of(card.read_text(encoding="utf-8"))) if card.is_file() else None


def _card(facts: RunFacts, folder: Path) -> tuple[str | None, str | None]:
    """The card, and why there is none: one that was edited here goes as it is."""
    path = folder / CARD_FILE
    text = path.read_text(encoding="utf-8") if path.exists() else None
    if text is None or is_untouched(text):
        text = render_run_card(facts)
    problems = check_card(text, folder)
    if problems:
        return None, f"the card is left out, the Hub would not accept it: {'; '.join(problems)}"
    return safe(text), None
