"""`--resume org/name`: the newest checkpoint that a run published on the Hub, brought to this machine.

The branch `training-state` of a model repository holds `checkpoint-STEP/`, all files of a local checkpoint, and beside
it the lines that the run wrote. What its state file names is compared with the sizes on the Hub before anything is
fetched; what came is compared with the digests that the Hub states before the checkpoint gets its name.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..cards import is_hub_id
from ..data.downloads import TRIES, download
from ..data.network import (
    Patience,
    causes,
    reason_of,
    shard_seconds,
    until_it_answers,
    until_it_passes,
)
from ..data.refusals import no_hub
from ..data.samples import DataError
from ..data.uploading import RemoteFile, is_same, list_files
from . import report
from .checkpoints import (
    ORIGIN_FILE,
    STATE_FILE,
    TEMPORARY,
    CheckpointError,
    fault_in,
    fault_of,
    newest_checkpoint,
    place,
    read_state,
    run_id_of,
    settings_in,
    step_of,
)
from .errors import say

STATE_BRANCH = "training-state"
"""Where a published run keeps its state."""

# Not run.json: a run writes it anew when it starts, and one that says "finished" belongs beside a final model.
_LINES = re.compile(
    "|".join(map(re.escape, (report.METRICS_FILE, report.BAD_VIDEOS_FILE, report.NOT_FINITE_FILE)))
    + r"|samples-\d+\.jsonl"
)
_PROBE_SECONDS = 10.0
_UNAUTHORIZED = 401

_Result = TypeVar("_Result")


def is_remote(resume: str) -> bool:
    """Whether `--resume` means a repository of the Hub: `org/name`, and neither it nor `org` is a folder here."""
    return is_hub_id(resume) and not Path(resume).exists() and not Path(resume).parent.is_dir()


@dataclass(frozen=True)
class Remote:
    """A whole checkpoint on the Hub.

    Attributes:
        repo: `org/name`.
        commit: of the branch.
        name: `checkpoint-STEP`.
        state: what its `run_state.json` holds.
        files: to fetch, by their paths in the repository.
    """

    repo: str
    commit: str
    name: str
    state: Mapping[str, Any]
    files: Mapping[str, RemoteFile]

    @property
    def num_bytes(self) -> int:
        """Bytes to fetch."""
        return sum(file.size for file in self.files.values())

    @property
    def step(self) -> int:
        """The step that it stands at."""
        return step_of(Path(self.name)) or 0

    def is_of_run_in(self, output_dir: Path) -> bool:
        """Whether a directory holds the same run, by its record or, until it has one, by its checkpoint."""
        wanted = self.state.get("run_id")
        if wanted is None:
            return False
        return wanted in (report.run_id_in(output_dir), run_id_of(newest_checkpoint(output_dir)))

    def no_older_in(self, output_dir: Path) -> Path | None:
        """A directory's own newest checkpoint, where it is of the same run and stands at the same step or later."""
        local = newest_checkpoint(output_dir) if self.is_of_run_in(output_dir) else None
        return local if local is not None and (step_of(local) or 0) >= self.step else None


# Looking.


def newest_remote(repo: str) -> Remote:
    """The newest whole checkpoint of a repository; others are passed over, visibly.

    Raises:
        CheckpointError: when there is none, or the Hub does not give it.
    """
    commit, files = _asked(repo, lambda: _list(repo))
    sizes = {path: file.size for path, file in files.items()}
    names = {path.partition("/")[0] for path in sizes if "/" in path}
    steps = {step: name for name in names if (step := step_of(Path(name))) is not None}
    fault = "it has no checkpoint-STEP folder"
    for _, name in sorted(steps.items(), reverse=True):
        text, own = _read_state(repo, name, commit=commit, sizes=sizes), _below(name, sizes)
        found = fault_in(own, text)
        if found is None and text is not None:
            state = json.loads(text)
            wanted = {f"{name}/{file}" for file in (*state["files"], STATE_FILE)}
            chosen = {path: file for path, file in files.items() if path in wanted or _LINES.fullmatch(path)}
            return Remote(repo, commit, name, state, chosen)
        fault = f"{name} is not whole: {found}"
        say(f"note: {name} of {repo} is not whole ({found}) and is passed over")
    raise CheckpointError(
        f"--resume {repo}: its branch {STATE_BRANCH} holds no whole checkpoint ({fault}); let its run push another, "
        f"or start a new run from its weights with --model {repo}"
    )


def settings_of(repo: str, *, output_dir: str, overwrite: bool = False) -> dict[str, Any]:
    """The settings of the run to go on with.

    Args:
        repo: `org/name`.
        output_dir: where a newer checkpoint may be.
        overwrite: that one does not count.

    Raises:
        CheckpointError: when there is no such run.
    """
    remote = newest_remote(repo)
    local = None if overwrite else remote.no_older_in(Path(output_dir))
    settings = settings_in(remote.state if local is None else read_state(local))
    # A run of before its state told left its lines.
    logs = any(re.fullmatch(r"samples-\d+\.jsonl", path) for path in remote.files)
    return {**settings, "log_samples": True} if logs else settings


def _list(repo: str) -> tuple[str, dict[str, RemoteFile]]:
    """The newest commit of the branch, and its files."""
    from huggingface_hub import HfApi

    commit = HfApi().model_info(repo, revision=STATE_BRANCH, timeout=_PROBE_SECONDS).sha
    assert commit is not None
    return commit, list_files(repo, repo_type="model", revision=commit)


def _below(name: str, sizes: Mapping[str, int]) -> dict[str, int]:
    return {path.removeprefix(f"{name}/"): size for path, size in sizes.items() if path.startswith(f"{name}/")}


def _read_state(repo: str, name: str, *, commit: str, sizes: Mapping[str, int]) -> str | None:
    path = f"{name}/{STATE_FILE}"
    if path not in sizes:
        return None
    found = _asked(repo, lambda: download(repo, path, revision=commit))
    return found.read_text(encoding="utf-8", errors="replace")


# Fetching.


def fetch(remote: Remote, output_dir: Path, *, replacing: Sequence[Path] = ()) -> Path:
    """Bring a checkpoint to `OUTPUT_DIR/checkpoint-STEP`, whole or not at all, and beside it the lines of its run.

    Args:
        remote: from `newest_remote`.
        output_dir: made where it is missing.
        replacing: files of another run, which go once everything is here.

    Raises:
        CheckpointError: when the Hub does not give it, or the disk does not take it.
    """
    say(f"fetching {remote.name} of {remote.repo}@{remote.commit[:8]} ({remote.num_bytes / 1e6:.1f} MB)")
    # Of the same name at the next try, which goes on with what is there.
    folder = output_dir / f"{TEMPORARY}{remote.name}-{remote.commit[:12]}"
    waiting = Patience(f"{remote.name} of {remote.repo}")

    def fetch_and_place() -> Path:
        for tries_left in reversed(range(TRIES)):
            until_it_passes(lambda: _fetch_into(folder, remote, waiting), waiting)
            if not (damaged := _drop_damaged(folder, remote)):
                break
            _tell_damaged(damaged[0], remote, tries_left)
        return _place(folder, remote, output_dir, replacing=replacing)

    return _told(remote.repo, fetch_and_place)


def _fetch_into(folder: Path, remote: Remote, waiting: Patience) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    before, wanted = len(_lacking(folder, remote)), [_literal(path) for path in remote.files]
    try:
        snapshot_download(remote.repo, revision=remote.commit, local_dir=folder, allow_patterns=wanted)
    except OSError as error:
        told = any(isinstance(cause, (HfHubHTTPError, OfflineModeIsEnabled)) for cause in causes(error))
        if told or error.errno is not None:
            raise
        # What came is not what was announced: the client threw it away.
        raise ConnectionError(str(error)) from error
    finally:
        if len(_lacking(folder, remote)) < before:
            waiting.progress()
    # Where the Hub does not answer, the client is content with a folder that has something in it.
    lacking = _lacking(folder, remote)
    if lacking:
        raise ConnectionError(f"{lacking[0]} did not come whole")


def _drop_damaged(folder: Path, remote: Remote) -> list[str]:
    """Take away the files whose content is not what the Hub states, so that they are fetched again."""
    damaged = [path for path, file in remote.files.items() if not is_same(folder / path, file)]
    for path in damaged:
        (folder / path).unlink()
    return damaged


def _tell_damaged(path: str, remote: Remote, tries_left: int) -> None:
    if tries_left:
        say(f"note: {path} of {remote.repo} came damaged (its content is not what the Hub states); fetching it again")
        return
    raise CheckpointError(
        f"{path} came damaged {TRIES} times (its content is not what the Hub states); check the network (a proxy may "
        f"change files) and the disk, or give a local checkpoint directory"
    )


def _lacking(folder: Path, remote: Remote) -> list[str]:
    """Files that are not here in their size."""
    return [
        path
        for path, file in remote.files.items()
        if not (folder / path).is_file() or (folder / path).stat().st_size != file.size
    ]


def _literal(path: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", path)


def _place(folder: Path, remote: Remote, output_dir: Path, *, replacing: Sequence[Path]) -> Path:
    """The checkpoint comes last: without it, the rest is a run that has saved nothing yet."""
    if (fault := fault_of(folder / remote.name)) is not None:
        raise CheckpointError(
            f"{remote.name} is not whole on the Hub ({fault}): it was damaged before it was pushed; give a local "
            f"checkpoint directory, or start a new run from its weights with --model"
        )
    origin = {"repository": remote.repo, "commit": remote.commit}
    (folder / remote.name / ORIGIN_FILE).write_text(json.dumps(origin), encoding="utf-8")
    for path in replacing:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in remote.files:
        if "/" not in name:
            (folder / name).replace(output_dir / name)
    place(folder / remote.name, output_dir / remote.name)
    shutil.rmtree(folder)
    return output_dir / remote.name


# What goes wrong.


def _asked(repo: str, ask: Callable[[], _Result]) -> _Result:
    """An answer of a Hub that is there."""
    waiting = Patience(repo, seconds=shard_seconds())
    return _told(repo, lambda: until_it_answers(ask, waiting))


def _told(repo: str, work: Callable[[], _Result]) -> _Result:
    """What the clients raise becomes a line for the user."""
    # The HTTP client's own error: which client it is depends on the version of huggingface_hub.
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        return work()
    except (DataError, CheckpointError) as error:
        raise CheckpointError(f"--resume {repo}: {error}") from error
    except (LookupError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"--resume {no_hub(error, repo)}") from error
    except (HfHubHTTPError, HTTPError, OSError) as error:
        raise CheckpointError(f"--resume {repo}: {_in_words(error, repo)}") from error


def _in_words(error: Exception, repo: str) -> str:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    chain = list(causes(error))
    words = {
        GatedRepoError: f"{repo} is gated: accept its terms on its page on the Hub, then log in with `hf auth login`",
        RevisionNotFoundError: f"{repo} has no branch {STATE_BRANCH}: its run was published without its state; push "
        f"with --hub_strategy checkpoint, or start a new run from its weights with --model {repo}",
        RepositoryNotFoundError: "it is neither a directory here nor a model on the Hub that you may read; check the "
        "name, and for a private one log in with `hf auth login`",
        OfflineModeIsEnabled: "it is no directory here, and the Hub is switched off (HF_HUB_OFFLINE); unset it, or "
        "give a local checkpoint directory",
    }
    for kind, text in words.items():
        if any(isinstance(cause, kind) for cause in chain):
            return text
    refused = next((cause for cause in chain if isinstance(cause, HfHubHTTPError)), None)
    if refused is not None and refused.response.status_code == _UNAUTHORIZED:
        return "the Hub does not know your token; log in with `hf auth login`, or mend HF_TOKEN"
    if refused is not None:
        return f"the Hub does not give it ({reason_of(error)}); try again later, or give a local checkpoint directory"
    if isinstance(error, OSError) and error.errno is not None and isinstance(error.filename, str):
        return f"{error.filename} cannot be written ({error.strerror}); free space, or give another --output_dir"
    return f"the Hub cannot be reached ({reason_of(error)}); check the network, or give a local checkpoint directory"
