"""Test uploads over Xet by real clients in their own processes; this process reads back what they sent."""

import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.utils import get_session

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining

from . import LocalHub
from .commits import LfsStore
from .storage import LARGE_BYTES, Repo
from .xet import XetUploads

pytest.importorskip("hf_xet", reason="the clients upload over Xet only with hf_xet")

ID = "org/name"
LARGE = bytes(range(256)) * 1000


@pytest.fixture
def api(hub: LocalHub) -> HfApi:
    """Return the client of the user who may write; this process does not use Xet."""
    return HfApi(token=hub.token)


def run(hub: LocalHub, code: str, *arguments: object) -> str:
    """Return what a program prints whose uploads go over Xet."""
    environment = {**hub.environment(xet=True), "HF_TOKEN": hub.token}
    code = f"import sys; from huggingface_hub import *; api = HfApi(); {code}"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def assert_sent_over_xet(hub: LocalHub, *, tokens: int | None = None) -> None:
    asked = hub.requests("GET .*/xet-write-token/")
    assert {request.status for request in asked} == {200} and tokens in (None, len(asked))
    assert not hub.requests("objects/batch|PUT ")


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_commit_of_large_and_small_files(hub: LocalHub, api: HfApi, tmp_path: Path, kind: str) -> None:
    api.create_repo(ID, repo_type=kind)
    files = {"by_name.bin": LARGE, "by_size.dat": (LARGE * 42)[: LARGE_BYTES + 1], "small.txt": b"small", "e.bin": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    code = "api.create_commit(sys.argv[1], commit_message='x', repo_type=sys.argv[2], operations="
    code += "[CommitOperationAdd(path.rpartition('/')[2], path) for path in sys.argv[3:]])"
    run(hub, code, ID, kind, *(tmp_path / name for name in files))
    assert_sent_over_xet(hub, tokens=1)
    there = Path(snapshot_download(ID, repo_type=kind))
    assert {name: (there / name).read_bytes() for name in files} == files
    assert len(api.list_repo_commits(ID, repo_type=kind)) == 2


def test_sender_reads_back_its_folder(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    """Read while the sender still has its upload open."""
    api.create_repo(ID)
    (tmp_path / "set" / "sub").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "set" / "sub" / f"{number}.bin").write_bytes(LARGE + bytes([number]))
    code = "api.upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2]); print(snapshot_download(sys.argv[1]))"
    there = Path(run(hub, code, ID, tmp_path / "set").splitlines()[-1])
    assert_sent_over_xet(hub)
    assert [(there / "sub" / f"{number}.bin").read_bytes()[-1] for number in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("processes", [1, 2])
def test_consecutive_commits(hub: LocalHub, api: HfApi, tmp_path: Path, processes: int) -> None:
    """The same bytes come again under another name, and at the start of a longer file."""
    api.create_repo(ID)
    files = {"a.bin": LARGE, "again.bin": LARGE, "longer.bin": LARGE + b"more"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    upload = f"[api.upload_file(repo_id='{ID}', path_in_repo=path.rpartition('/')[2], path_or_fileobj=path) "
    upload += "for path in sys.argv[1:]]"
    paths = [tmp_path / name for name in files]
    for group in [paths] if processes == 1 else [paths[:1], paths[1:]]:
        run(hub, upload, *group)
    assert_sent_over_xet(hub, tokens=3)
    assert {name: Path(hf_hub_download(ID, name)).read_bytes() for name in files} == files
    assert len(api.list_repo_commits(ID)) == 4


def test_existing_content_makes_no_commit(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    api.create_repo(ID)
    (tmp_path / "a.bin").write_bytes(LARGE)
    code = f"print(api.upload_file(repo_id='{ID}', path_in_repo='a.bin', path_or_fileobj=sys.argv[1]).oid)"
    assert run(hub, code, tmp_path / "a.bin") == run(hub, code, tmp_path / "a.bin") == api.repo_info(ID).sha
    assert len(hub.requests("POST .*/commit/")) == 1


def test_pull_request_and_branch(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    api.create_repo(ID)
    api.create_branch(ID, branch="training/state")
    (tmp_path / "a.bin").write_bytes(LARGE)
    upload = f"api.upload_file(repo_id='{ID}', path_in_repo='a.bin', path_or_fileobj=sys.argv[1], "
    run(hub, f"{upload} create_pr=True); {upload} revision='training/state')", tmp_path / "a.bin")
    assert_sent_over_xet(hub, tokens=2)
    for revision in ("refs/pr/1", "training/state"):
        assert Path(hf_hub_download(ID, "a.bin", revision=revision)).read_bytes() == LARGE
    assert api.list_repo_files(ID) == [".gitattributes"]


def test_only_writers_get_a_token(hub: LocalHub, api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give no token unless uploads can be read: a client with `hf_xet` never falls back to LFS by itself."""
    api.create_repo(ID)

    def status(token: str | None) -> int:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return get_session().get(f"{hub.endpoint}/api/models/{ID}/xet-write-token/main", headers=headers).status_code

    assert [status(token) for token in (None, hub.read_token, hub.token)] == [401, 403, 200]
    monkeypatch.setattr("tests.local_hub.uploads.can_read_xet", lambda: False)
    assert status(hub.token) == 404


@pytest.mark.integration
def test_model_is_pushed_and_loaded(hub: LocalHub, tmp_path: Path) -> None:
    original = VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny"))
    original.save_pretrained(tmp_path / "model")
    code = (
        "from hf_videomae import VideoMAEForPreTraining as M; M.from_pretrained(sys.argv[2]).push_to_hub(sys.argv[1])"
    )
    run(hub, code, ID, tmp_path / "model")
    assert_sent_over_xet(hub)
    loaded = VideoMAEForPreTraining.from_pretrained(ID).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in original.state_dict().items())


def test_parquet_dataset_is_pushed_and_streamed(hub: LocalHub) -> None:
    code = "from datasets import Dataset; rows = Dataset.from_dict({'number': list(range(1000))}); "
    run(hub, code + "rows.push_to_hub(sys.argv[1], num_shards=2)", ID)
    assert_sent_over_xet(hub)
    hub.forget()
    rows = datasets.load_dataset(ID, split="train", streaming=True)
    assert [row["number"] for row in rows] == list(range(1000))
    assert [request for request in hub.requests("GET /cdn/") if request.status == 206]


def test_upload_of_many_segments_is_read_from_its_shards(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    """Files share chunks and have segments in several places, which shifts what follows in the shard."""
    import hf_xet

    api.create_repo(ID)
    uploads = XetUploads(Repo(hub.root, "models", ID))
    token = uploads.open()
    parts = [torch.randint(0, 256, (400_000,), dtype=torch.uint8).numpy().tobytes() for _ in range(3)]
    contents = [parts[0], parts[1] + parts[0] + parts[2], parts[2] + parts[1], b"x"]
    session = hf_xet.XetSession()
    with session.new_upload_commit(
        endpoint=token.headers["X-Xet-Cas-Url"], token="x", token_expiry_unix_secs=2**40
    ) as commit:
        handles = [commit.start_upload_bytes(content, sha256=hf_xet.COMPUTE_SHA256) for content in contents]
    names = [handle.result().xet_info.sha256 for handle in handles]
    uploads.collect(["0" * 64, *names])
    paths = [LfsStore(uploads.repo).find(name) for name in names]
    assert [path and path.read_bytes() for path in paths] == contents
    assert LfsStore(uploads.repo).find("0" * 64) is None
    assert len(list((uploads.repo.history / "xet").iterdir())) == 1, "no copy is left"
