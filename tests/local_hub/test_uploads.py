"""Test uploads with the real clients: what they read back, and how they react to refusals and broken connections."""

from pathlib import Path

import datasets
import pytest
import torch
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEVideoProcessor

from . import LocalHub

ID = "org/name"
LARGE = bytes(range(256)) * 1000


@pytest.fixture
def api(hub: LocalHub) -> HfApi:
    """Return the client of the user who may write."""
    return HfApi(token=hub.token)


def write_set(folder: Path) -> Path:
    """Write a small, an empty and a large file, one in a folder."""
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# A set\n")
    (folder / "empty.jsonl").write_text("")
    (folder / "data" / "large.parquet").write_bytes(LARGE)
    return folder


def contents(root: Path) -> dict[str, bytes]:
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != ".gitattributes"}


def text_of(name: str = "a.txt", *, revision: str | None = None, kind: str = "model") -> str:
    return Path(hf_hub_download(ID, name, revision=revision, repo_type=kind)).read_text()


@pytest.mark.parametrize("part_bytes", [None, 100_000], ids=["basic", "parts"])
@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_uploaded_folder_is_downloaded_unchanged(
    hub: LocalHub, api: HfApi, tmp_path: Path, kind: str, part_bytes: int | None
) -> None:
    if part_bytes is not None:
        hub.split_uploads_at(part_bytes)
    folder = write_set(tmp_path / "set")
    assert not api.repo_exists(ID, repo_type=kind)
    api.create_repo(ID, repo_type=kind)
    done = api.upload_folder(repo_id=ID, repo_type=kind, folder_path=folder)
    assert done.oid == api.repo_info(ID, repo_type=kind).sha
    assert contents(Path(snapshot_download(ID, repo_type=kind))) == contents(folder)
    sent = hub.requests("PUT /cdn-upload/")
    assert [request.received for request in sent] == ([256_000] if part_bytes is None else [100_000, 100_000, 56_000])
    assert not any(request.token for request in sent)
    tree = {entry.path: entry for entry in api.list_repo_tree(ID, repo_type=kind, recursive=True)}
    assert tree["data/large.parquet"].lfs is not None and tree["empty.jsonl"].lfs is None


def test_existing_content_is_not_sent_again(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    api.create_repo(ID)
    first = api.upload_folder(repo_id=ID, folder_path=folder)
    hub.forget()
    assert api.upload_folder(repo_id=ID, folder_path=folder).oid == first.oid
    assert not hub.requests("PUT |/commit/")
    # Also under another name: a large file is identified by its content.
    api.upload_file(repo_id=ID, path_in_repo="other.bin", path_or_fileobj=LARGE)
    assert hub.requests("/commit/") and not hub.requests("PUT ")


def test_every_commit_stays_readable_until_squashed(hub: LocalHub, api: HfApi) -> None:
    api.create_repo(ID)
    shas = [
        api.upload_file(repo_id=ID, path_in_repo="a.txt", path_or_fileobj=text).oid
        for text in (b"one", b"two", b"one")
    ]
    assert len(set(shas)) == 3
    assert [text_of(revision=sha) for sha in shas] == ["one", "two", "one"]
    large = [
        api.upload_file(repo_id=ID, path_in_repo="w.bin", path_or_fileobj=LARGE + end).oid for end in (b"1", b"2")
    ]
    kept = [Path(hf_hub_download(ID, "w.bin", revision=sha)).read_bytes()[-1:] for sha in large]
    assert kept == [b"1", b"2"]
    titles = [commit.title for commit in api.list_repo_commits(ID)]
    assert titles == ["Upload w.bin with huggingface_hub"] * 2 + ["Upload a.txt with huggingface_hub"] * 3 + [
        "initial commit"
    ]
    api.super_squash_history(ID)
    assert len(api.list_repo_commits(ID)) == 1 and text_of() == "one"
    with pytest.raises(RevisionNotFoundError):
        api.repo_info(ID, revision=shas[0])


def test_one_commit_adds_copies_and_deletes(hub: LocalHub, api: HfApi) -> None:
    api.create_repo(ID)
    for name in ("a.txt", "sub/b.txt", "sub/c.txt", "w.bin"):
        api.upload_file(repo_id=ID, path_in_repo=name, path_or_fileobj=name.encode())
    operations = [
        CommitOperationAdd("new.txt", b"new"),
        CommitOperationCopy("w.bin", "copy.bin"),
        CommitOperationDelete("a.txt"),
        CommitOperationDelete("sub/"),
    ]
    api.create_commit(ID, operations, commit_message="several things")
    assert sorted(api.list_repo_files(ID)) == [".gitattributes", "copy.bin", "new.txt", "w.bin"]
    before = api.repo_info(ID).sha
    with pytest.raises(EntryNotFoundError, match="doesn't exist"):
        operations = [CommitOperationAdd("b.txt", b"x"), CommitOperationDelete("gone.txt")]
        api.create_commit(ID, operations, commit_message="half of it cannot be")
    assert api.repo_info(ID).sha == before


def test_commit_on_old_parent_is_a_conflict(hub: LocalHub, api: HfApi) -> None:
    api.create_repo(ID)
    old = api.repo_info(ID).sha
    api.upload_file(repo_id=ID, path_in_repo="a.txt", path_or_fileobj=b"one", parent_commit=old)
    with pytest.raises(HfHubHTTPError, match="412") as caught:
        api.upload_file(repo_id=ID, path_in_repo="a.txt", path_or_fileobj=b"two", parent_commit=old)
    assert "A commit has happened since" in str(caught.value) and text_of() == "one"


def test_branches_tags_and_pull_requests(hub: LocalHub, api: HfApi) -> None:
    api.create_repo(ID)
    one = api.upload_file(repo_id=ID, path_in_repo="a.txt", path_or_fileobj=b"one").oid
    api.create_tag(ID, tag="v1")
    api.create_branch(ID, branch="training/state")
    api.upload_file(repo_id=ID, path_in_repo="a.txt", path_or_fileobj=b"state", revision="training/state")
    api.upload_file(repo_id=ID, path_in_repo="a.txt", path_or_fileobj=b"two")
    request = api.upload_file(repo_id=ID, path_in_repo="a.txt", path_or_fileobj=b"asked", create_pr=True)
    assert request.pr_revision == "refs/pr/1"
    texts = {name: text_of(revision=name) for name in ("main", "v1", "training/state", "refs/pr/1")}
    assert texts == {"main": "two", "v1": "one", "training/state": "state", "refs/pr/1": "asked"}
    refs = api.list_repo_refs(ID, include_pull_requests=True)
    assert [branch.name for branch in refs.branches] == ["main", "training/state"]
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1", one)]
    assert [request.ref for request in refs.pull_requests or []] == ["refs/pr/1"]
    for again in (lambda: api.create_tag(ID, tag="v1"), lambda: api.create_branch(ID, branch="training/state")):
        with pytest.raises(HfHubHTTPError, match="409"):
            again()
    api.create_branch(ID, branch="training/state", exist_ok=True)
    api.delete_tag(ID, tag="v1")
    api.delete_branch(ID, branch="training/state")
    assert [branch.name for branch in api.list_repo_refs(ID).branches] == ["main"]


def test_repositories_are_created_changed_and_deleted(hub: LocalHub, api: HfApi) -> None:
    api.create_repo("team/secret", repo_type="dataset", private=True)
    assert hub.is_private("datasets/team/secret")
    api.create_repo("team/secret", repo_type="dataset", exist_ok=True)
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("team/secret", repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=False).dataset_info("team/secret")
    assert api.dataset_info("team/secret").private
    api.update_repo_settings("team/secret", repo_type="dataset", private=False)
    assert not HfApi(token=False).dataset_info("team/secret").private
    api.delete_repo("team/secret", repo_type="dataset")
    assert not api.repo_exists("team/secret", repo_type="dataset")


def test_only_owner_with_write_token_may_write(hub: LocalHub, api: HfApi) -> None:
    api.create_repo(ID)
    refusals = {False: "401", "hf_wrong": "Invalid credentials", hub.read_token: "403 Forbidden.*write rights"}
    for token, words in refusals.items():
        asker = HfApi(token=token)
        with pytest.raises(HfHubHTTPError, match=words):
            asker.create_repo("org/other")
        with pytest.raises(HfHubHTTPError, match=words):
            asker.upload_file(repo_id=ID, path_in_repo="a.txt", path_or_fileobj=b"x")
    with pytest.raises(HfHubHTTPError, match="don't have the rights to write to the namespace stranger"):
        api.create_repo("stranger/name")
    with pytest.raises(RepositoryNotFoundError):
        api.upload_file(repo_id="org/none", path_in_repo="a.txt", path_or_fileobj=b"x")
    assert api.list_repo_files(ID) == [".gitattributes"]
    assert HfApi(token=hub.read_token).whoami()["auth"]["accessToken"]["role"] == "read"


def test_card_with_invalid_yaml_is_refused(hub: LocalHub, api: HfApi) -> None:
    api.create_repo(ID)
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        api.upload_file(repo_id=ID, path_in_repo="README.md", path_or_fileobj=b"---\na: [1\n---\ntext\n")
    assert not hub.requests("/commit/")


# The other clients.


def test_parquet_dataset_is_pushed_and_loaded(hub: LocalHub) -> None:
    rows = datasets.Dataset.from_dict({"text": [f"row {number}" for number in range(10)], "label": [0, 1] * 5})
    rows.push_to_hub("org/set", token=hub.token, num_shards=2)
    loaded = datasets.load_dataset("org/set", split="train", streaming=True)
    assert list(loaded) == list(rows)
    assert sorted(path.name for path in (hub.dataset("org/set") / "data").iterdir()) == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    rows.select(range(4)).push_to_hub("org/set", token=hub.token)
    assert len(datasets.load_dataset("org/set", split="train")) == 4


def test_hub_file_system_writes(hub: LocalHub, api: HfApi) -> None:
    api.create_repo(ID)
    files = HfFileSystem(token=hub.token)
    with files.open(f"hf://{ID}/notes/a.txt", "w") as file:
        file.write("written")
    assert text_of("notes/a.txt") == "written"
    files.rm(f"hf://{ID}/notes/a.txt")
    assert api.list_repo_files(ID) == [".gitattributes"]


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
def test_model_is_pushed_and_loaded(hub: LocalHub, monkeypatch: pytest.MonkeyPatch, stock: bool) -> None:
    from transformers import VideoMAEForPreTraining as Stock

    config = VideoMAEConfig.from_preset("tiny")
    original = VideoMAEForPreTraining(config)
    original.push_to_hub("org/tiny", token=hub.token, private=True)
    VideoMAEVideoProcessor.from_config(config).push_to_hub("org/tiny", token=hub.token)
    assert hub.is_private("models/org/tiny")
    # transformers 5.19 asks for the configuration without the token that it is given.
    monkeypatch.setenv("HF_TOKEN", hub.token)
    loaded = (Stock if stock else VideoMAEForPreTraining).from_pretrained("org/tiny", token=hub.token)
    weights = original.state_dict()
    loaded_weights = {name: value for name, value in loaded.state_dict().items() if name in weights}
    assert len(loaded_weights) > 50 and all(
        torch.equal(value, weights[name]) for name, value in loaded_weights.items()
    )
    assert VideoMAEVideoProcessor.from_pretrained("org/tiny", token=hub.token).num_frames == config.num_frames


# Faults.


@pytest.mark.parametrize("status", [429, 500, 503])
def test_client_retries_failed_upload(hub: LocalHub, api: HfApi, tmp_path: Path, status: int) -> None:
    api.create_repo(ID)
    hub.fail("PUT /cdn-upload/", status=status)
    api.upload_file(repo_id=ID, path_in_repo="w.bin", path_or_fileobj=_file_of(LARGE, tmp_path))
    assert [request.status for request in hub.requests("PUT ")] == [status, 200]
    assert Path(hf_hub_download(ID, "w.bin")).read_bytes() == LARGE


def _file_of(content: bytes, folder: Path) -> Path:
    (folder / "sent.bin").write_bytes(content)
    return folder / "sent.bin"


def test_client_retries_broken_upload(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    api.create_repo(ID)
    hub.hang_up("PUT /cdn-upload/", after_bytes=100_000)
    api.upload_file(repo_id=ID, path_in_repo="w.bin", path_or_fileobj=_file_of(LARGE, tmp_path))
    sent = [(request.received, request.fault) for request in hub.requests("PUT ")]
    assert sent == [(100_000, "hang_up"), (256_000, None)]
    assert Path(hf_hub_download(ID, "w.bin")).read_bytes() == LARGE


def test_commit_with_lost_response_was_made(hub: LocalHub, api: HfApi) -> None:
    api.create_repo(ID)
    hub.cut_off("POST .*/commit/", after_bytes=0)
    with pytest.raises(Exception, match="(?i)peer|reset|disconnect|closed|incomplete"):
        api.upload_file(repo_id=ID, path_in_repo="a.txt", path_or_fileobj=b"one")
    assert text_of() == "one"


def test_refused_commit_was_not_made(hub: LocalHub, api: HfApi) -> None:
    """The client does not retry it either."""
    api.create_repo(ID)
    hub.fail("POST .*/commit/", status=500)
    with pytest.raises(HfHubHTTPError, match="500"):
        api.upload_file(repo_id=ID, path_in_repo="a.txt", path_or_fileobj=b"one")
    assert api.list_repo_files(ID) == [".gitattributes"]
    api.upload_file(repo_id=ID, path_in_repo="a.txt", path_or_fileobj=b"one")
    assert text_of() == "one"


def test_content_must_match_its_checksum(hub: LocalHub, api: HfApi) -> None:
    """An upload address accepts only the content of its name, and a commit only what was uploaded."""
    from http.client import HTTPConnection

    api.create_repo(ID)
    connection = HTTPConnection("localhost", hub.port)
    connection.request("PUT", f"/cdn-upload/models/{ID}/{'0' * 64}", body=b"something else")
    assert connection.getresponse().status == 400
    connection.close()
    lines = '{"key": "header", "value": {"summary": "x"}}\n'
    lines += f'{{"key": "lfsFile", "value": {{"path": "w.bin", "oid": "{"0" * 64}"}}}}\n'
    connection = HTTPConnection("127.0.0.1", hub.port)
    headers = {"Authorization": f"Bearer {hub.token}"}
    connection.request("POST", f"/api/models/{ID}/commit/main", body=lines.encode(), headers=headers)
    assert connection.getresponse().status == 400
    connection.close()
    assert api.list_repo_files(ID) == [".gitattributes"]
