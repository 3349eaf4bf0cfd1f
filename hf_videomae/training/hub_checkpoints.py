"""Download the newest checkpoint that a run published on the Hub, for `--resume org/name`.

The branch `training-state` of a model repository holds `checkpoint-STEP/` with all files of a local checkpoint, and
the lines of JSON that the run wrote. Before the download, the files that the state file names are compared with the
sizes on the Hub; after it, their contents are compared with the checksums of the Hub. Only then does the checkpoint
get its name.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .. import run_files
from ..cards import is_hub_id
from ..checkpoint_dir import (
    FETCHED_FROM_FILE,
    STATE_FILE,
    CheckpointError,
    checkpoint_run_id,
    checkpoint_step,
    find_listing_error,
    incomplete_reason,
    latest_checkpoint,
    read_state,
    resume_settings,
)
from ..console import log_main
from ..errors import DataError
from ..hub.client import RemoteFile, has_same_content, list_files
from ..hub.download import MAX_DOWNLOAD_ATTEMPTS, download
from ..hub.retry import (
    RetryPolicy,
    cause_chain,
    retry_first_request,
    retry_transient,
    root_cause_message,
    shard_retry_seconds,
)
from ..hub.source_errors import not_the_hub_error
from ..run_files import STATE_BRANCH
from .checkpoints import TEMPORARY_PREFIX, rename_into_place

# Not run.json: a run writes a new one when it starts, and one that says "finished" belongs to a final model.
_LOG_FILES = re.compile(
    "|".join(map(re.escape, (run_files.METRICS_FILE, run_files.BAD_VIDEOS_FILE, run_files.NONFINITE_FILE)))
    + r"|samples-\d+\.jsonl"
)
_PROBE_SECONDS = 10.0
_UNAUTHORIZED = 401

_Result = TypeVar("_Result")


def is_hub_resume(resume: str) -> bool:
    """Return whether `--resume` names a Hub repository: `org/name`, if neither it nor `org` is a local folder."""
    return is_hub_id(resume) and not Path(resume).exists() and not Path(resume).parent.is_dir()


@dataclass(frozen=True)
class HubCheckpoint:
    """A complete checkpoint on the Hub.

    Attributes:
        repo: `org/name`.
        commit: commit of the branch.
        name: `checkpoint-STEP`.
        state: content of its `run_state.json`.
        files: path in the repository -> file, of all files to download.
    """

    repo: str
    commit: str
    name: str
    state: Mapping[str, Any]
    files: Mapping[str, RemoteFile]

    @property
    def num_bytes(self) -> int:
        """Return the number of bytes to download."""
        return sum(file.size for file in self.files.values())

    @property
    def step(self) -> int:
        """Return the step of the checkpoint."""
        return checkpoint_step(Path(self.name)) or 0

    def is_same_run(self, output_dir: Path) -> bool:
        """Return whether a folder holds the same run, by its `run.json` or, if it has none yet, by its checkpoint."""
        run_id = self.state.get("run_id")
        if run_id is None:
            return False
        return run_id in (run_files.read_run_id(output_dir), checkpoint_run_id(latest_checkpoint(output_dir)))

    def find_local_checkpoint(self, output_dir: Path) -> Path | None:
        """Return the newest checkpoint of a folder, if it is of the same run and of the same step or a later one."""
        local = latest_checkpoint(output_dir) if self.is_same_run(output_dir) else None
        return local if local is not None and (checkpoint_step(local) or 0) >= self.step else None


# Finding.


def latest_hub_checkpoint(repo: str) -> HubCheckpoint:
    """Return the newest complete checkpoint of a repository; print a note for each incomplete one.

    Raises:
        CheckpointError: if there is none, or the Hub does not provide it.
    """
    commit, files = _query_hub(repo, lambda: _list_state_branch(repo))
    sizes = {path: file.size for path, file in files.items()}
    names = {path.partition("/")[0] for path in sizes if "/" in path}
    steps = {step: name for name in names if (step := checkpoint_step(Path(name))) is not None}
    reason = "it has no checkpoint-STEP folder"
    for _, name in sorted(steps.items(), reverse=True):
        text, own = _read_state_file(repo, name, commit=commit, sizes=sizes), _files_under(name, sizes)
        error = find_listing_error(own, text)
        if error is None and text is not None:
            state = json.loads(text)
            wanted = {f"{name}/{file}" for file in (*state["files"], STATE_FILE)}
            chosen = {path: file for path, file in files.items() if path in wanted or _LOG_FILES.fullmatch(path)}
            return HubCheckpoint(repo, commit, name, state, chosen)
        reason = f"{name} is incomplete: {error}"
        log_main(f"note: {name} of {repo} is incomplete ({error}) and is skipped")
    raise CheckpointError(
        f"--resume {repo}: its branch {STATE_BRANCH} holds no complete checkpoint ({reason}); let its run push "
        f"another, or start a new run from its weights with --model {repo}"
    )


def hub_resume_settings(repo: str, *, output_dir: str, overwrite: bool = False) -> dict[str, Any]:
    """Return the settings of the run to resume.

    Args:
        repo: `org/name`.
        output_dir: local folder, which may hold a newer checkpoint of the run.
        overwrite: ignore that one.

    Raises:
        CheckpointError: if there is no such run.
    """
    remote = latest_hub_checkpoint(repo)
    local = None if overwrite else remote.find_local_checkpoint(Path(output_dir))
    settings = resume_settings(remote.state if local is None else read_state(local))
    # An older run does not say in its state that it logs its samples, but its files are there.
    logs = any(re.fullmatch(r"samples-\d+\.jsonl", path) for path in remote.files)
    return {**settings, "log_samples": True} if logs else settings


def _list_state_branch(repo: str) -> tuple[str, dict[str, RemoteFile]]:
    """Return the newest commit of the branch, and its files by path."""
    from huggingface_hub import HfApi

    commit = HfApi().model_info(repo, revision=STATE_BRANCH, timeout=_PROBE_SECONDS).sha
    assert commit is not None
    return commit, list_files(repo, repo_type="model", revision=commit)


def _files_under(name: str, sizes: Mapping[str, int]) -> dict[str, int]:
    return {path.removeprefix(f"{name}/"): size for path, size in sizes.items() if path.startswith(f"{name}/")}


def _read_state_file(repo: str, name: str, *, commit: str, sizes: Mapping[str, int]) -> str | None:
    path = f"{name}/{STATE_FILE}"
    if path not in sizes:
        return None
    local_path = _query_hub(repo, lambda: download(repo, path, revision=commit))
    return local_path.read_text(encoding="utf-8", errors="replace")


# Downloading.


def download_checkpoint(remote: HubCheckpoint, output_dir: Path, *, replacing: Sequence[Path] = ()) -> Path:
    """Download a checkpoint to `OUTPUT_DIR/checkpoint-STEP`, completely or not at all, and the lines of its run.

    Args:
        remote: from `latest_hub_checkpoint`.
        output_dir: created if it is missing.
        replacing: files of another run, which are removed after the download.

    Raises:
        CheckpointError: if the Hub does not provide it, or the disk does not accept it.
    """
    log_main(f"fetching {remote.name} of {remote.repo}@{remote.commit[:8]} ({remote.num_bytes / 1e6:.1f} MB)")
    # It has the same name in the next attempt, which continues with the files that are there.
    folder = output_dir / f"{TEMPORARY_PREFIX}{remote.name}-{remote.commit[:12]}"
    retry_policy = RetryPolicy(f"{remote.name} of {remote.repo}")

    def download_and_install() -> Path:
        for tries_left in reversed(range(MAX_DOWNLOAD_ATTEMPTS)):
            retry_transient(lambda: _download_files(folder, remote, retry_policy), retry_policy)
            if not (damaged := _delete_corrupt(folder, remote)):
                break
            _report_corrupt(damaged[0], remote, tries_left)
        return _install_checkpoint(folder, remote, output_dir, replacing=replacing)

    return _as_checkpoint_error(remote.repo, download_and_install)


def _download_files(folder: Path, remote: HubCheckpoint, retry_policy: RetryPolicy) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    before, wanted = len(_missing_files(folder, remote)), [_escape_glob(path) for path in remote.files]
    try:
        snapshot_download(remote.repo, revision=remote.commit, local_dir=folder, allow_patterns=wanted)
    except OSError as error:
        is_hub_error = any(isinstance(cause, (HfHubHTTPError, OfflineModeIsEnabled)) for cause in cause_chain(error))
        if is_hub_error or error.errno is not None:
            raise
        # The client discarded a file that differs from what the Hub announced.
        raise ConnectionError(str(error)) from error
    finally:
        if len(_missing_files(folder, remote)) < before:
            retry_policy.reset()
    # If the Hub does not answer, the client accepts a folder that holds any file.
    missing = _missing_files(folder, remote)
    if missing:
        raise ConnectionError(f"{missing[0]} did not come whole")


def _delete_corrupt(folder: Path, remote: HubCheckpoint) -> list[str]:
    """Delete the files whose content is not what the Hub states, for another download; return their paths."""
    damaged = [path for path, file in remote.files.items() if not has_same_content(folder / path, file)]
    for path in damaged:
        (folder / path).unlink()
    return damaged


def _report_corrupt(path: str, remote: HubCheckpoint, tries_left: int) -> None:
    if tries_left:
        log_main(f"note: {path} of {remote.repo} came damaged (its content is not what the Hub states): trying again")
        return
    raise CheckpointError(
        f"{path} came damaged {MAX_DOWNLOAD_ATTEMPTS} times (its content is not what the Hub states); check the "
        f"network (a proxy may change files) and the disk, or give a local checkpoint directory"
    )


def _missing_files(folder: Path, remote: HubCheckpoint) -> list[str]:
    """Return the files that are missing or have another size."""
    return [
        path
        for path, file in remote.files.items()
        if not (folder / path).is_file() or (folder / path).stat().st_size != file.size
    ]


def _escape_glob(path: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", path)


def _install_checkpoint(folder: Path, remote: HubCheckpoint, output_dir: Path, *, replacing: Sequence[Path]) -> Path:
    """Move the lines and then the checkpoint into place; without it, they look like a run that has saved nothing."""
    if (reason := incomplete_reason(folder / remote.name)) is not None:
        raise CheckpointError(
            f"{remote.name} is incomplete on the Hub ({reason}): it was damaged before it was pushed; give a local "
            f"checkpoint directory, or start a new run from its weights with --model"
        )
    origin = {"repository": remote.repo, "commit": remote.commit}
    (folder / remote.name / FETCHED_FROM_FILE).write_text(json.dumps(origin), encoding="utf-8")
    for path in replacing:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in remote.files:
        if "/" not in name:
            (folder / name).replace(output_dir / name)
    rename_into_place(folder / remote.name, output_dir / remote.name)
    shutil.rmtree(folder)
    return output_dir / remote.name


# Errors.


def _query_hub(repo: str, ask: Callable[[], _Result]) -> _Result:
    """Return the answer of the Hub, after retries; raise `CheckpointError` if there is none."""
    retry_policy = RetryPolicy(repo, seconds=shard_retry_seconds())
    return _as_checkpoint_error(repo, lambda: retry_first_request(ask, retry_policy))


def _as_checkpoint_error(repo: str, work: Callable[[], _Result]) -> _Result:
    """Do something with the Hub; turn an error of its client into a `CheckpointError` in one line."""
    # HTTPError is that of the HTTP client, which depends on the version of huggingface_hub.
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        return work()
    except (DataError, CheckpointError) as error:
        raise CheckpointError(f"--resume {repo}: {error}") from error
    except (LookupError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"--resume {not_the_hub_error(error, repo)}") from error
    except (HfHubHTTPError, HTTPError, OSError) as error:
        raise CheckpointError(f"--resume {repo}: {_describe_hub_error(error, repo)}") from error


def _describe_hub_error(error: Exception, repo: str) -> str:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    chain = list(cause_chain(error))
    messages = {
        GatedRepoError: f"{repo} is gated: accept its terms on its page on the Hub, then log in with `hf auth login`",
        RevisionNotFoundError: f"{repo} has no branch {STATE_BRANCH}: its run was published without its state; push "
        f"with --hub_strategy checkpoint, or start a new run from its weights with --model {repo}",
        RepositoryNotFoundError: "it is neither a directory here nor a model on the Hub that you may read; check the "
        "name, and for a private one log in with `hf auth login`",
        OfflineModeIsEnabled: "it is not a directory here, and the Hub is switched off (HF_HUB_OFFLINE); unset it, or "
        "give a local checkpoint directory",
    }
    for error_type, message in messages.items():
        if any(isinstance(cause, error_type) for cause in chain):
            return message
    refused = next((cause for cause in chain if isinstance(cause, HfHubHTTPError)), None)
    if refused is not None and refused.response.status_code == _UNAUTHORIZED:
        return "the Hub does not know your token; log in with `hf auth login`, or correct HF_TOKEN"
    remedy = "or give a local checkpoint directory"
    if refused is not None:
        return f"the Hub does not give it ({root_cause_message(error)}); try again later, {remedy}"
    if isinstance(error, OSError) and error.errno is not None and isinstance(error.filename, str):
        return f"{error.filename} cannot be written ({error.strerror}); free space, or give another --output_dir"
    return f"the Hub cannot be reached ({root_cause_message(error)}); check the network, {remedy}"
