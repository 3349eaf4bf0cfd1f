"""Test pushes to a Hub that gives invalid answers, and which files of earlier pushes are deleted."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hf_videomae.hub import retry
from hf_videomae.hub.commit import FileChanges, commit_files
from hf_videomae.hub.repo import HubTarget
from hf_videomae.hub.retry import RetryPolicy, SourceUnavailable
from hf_videomae.publishing.push import plan_model
from hf_videomae.serving.endpoint.handler_files import _HANDLER_SOURCE
from tests.local_hub import LocalHub
from tests.local_hub.clients import forget_connections

pytestmark = pytest.mark.fault
COMMIT = "POST .*/commit/"
FILES = {"run.json": b'{"run_id": "r1"}', "config.json": b"{}", "model.safetensors": b"weights" * 1000}


@pytest.fixture(autouse=True)
def quick(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_INITIAL_BACKOFF", 0.05)
    monkeypatch.setattr(retry, "_MAX_BACKOFF", 0.05)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    forget_connections()


def push(contents: dict[str, Path | bytes], *, seconds: float = 10.0) -> str:
    retry_policy = RetryPolicy("publishing", seconds=seconds)
    target = HubTarget(id="org/model")

    def plan() -> FileChanges:
        return plan_model(target, contents, run_id="r1")

    return commit_files(target, contents, plan, message="Step 1", retry_policy=retry_policy).commit


def files(hub: LocalHub) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in hub.model("org/model").iterdir()}
    found.pop(".gitattributes", None)
    return found


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("text", ["<html>Log in</html>", "", "{}", "[]", "null", '"done"', '{"commitUrl": 3}'])
def test_commit_with_invalid_answer_is_found_on_branch(hub: LocalHub, text: str, done: bool) -> None:
    hub.answer_page(COMMIT, text=text, done=done)
    commit = push({**FILES})
    assert files(hub) == FILES and commit == HfApi().model_info("org/model").sha
    assert len(HfApi().list_repo_commits("org/model")) == 2  # the empty repository, and this one


def test_commit_that_never_happens_raises(hub: LocalHub) -> None:
    hub.answer_page(COMMIT, times=None)
    with pytest.raises(SourceUnavailable, match="is not the Hub"):
        push({**FILES}, seconds=0.5)
    assert files(hub) == {}


@pytest.mark.parametrize("question", ["GET /api/models", "repos/create", "preupload", "info/lfs"])
@pytest.mark.parametrize("text", ["<html>", "{}"])
def test_other_invalid_answers_are_retried(hub: LocalHub, question: str, text: str) -> None:
    hub.answer_page(question, text=text)
    push({**FILES})
    assert files(hub) == FILES


# Files of earlier pushes.


def test_handler_of_earlier_push_is_deleted(hub: LocalHub) -> None:
    push({**FILES, "handler.py": _HANDLER_SOURCE.encode(), "requirements.txt": b"hf-videomae[av]==1.0\n"})
    assert "handler.py" in files(hub)
    push({**FILES})
    assert files(hub) == FILES


def test_foreign_handler_is_kept(hub: LocalHub) -> None:
    push({**FILES})
    theirs = {"handler.py": b"class EndpointHandler: ...\n", "requirements.txt": b"hf-videomae\n"}
    for name, content in theirs.items():
        (hub.model("org/model") / name).write_bytes(content)
    push({**FILES, "config.json": b'{"a": 1}'})
    assert files(hub) == {**FILES, **theirs, "config.json": b'{"a": 1}'}


def test_foreign_requirements_are_kept(hub: LocalHub) -> None:
    push({**FILES, "handler.py": _HANDLER_SOURCE.encode(), "requirements.txt": b"hf-videomae\nnumpy\n"})
    push({**FILES})
    assert files(hub) == {**FILES, "requirements.txt": b"hf-videomae\nnumpy\n"}
