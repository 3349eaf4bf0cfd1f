"""Test the local Hub with the real clients: they raise an error if it responds wrongly."""

import subprocess
import sys
import time
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEVideoProcessor

from . import LocalHub
from .faults import Kind


@pytest.fixture
def model(hub: LocalHub) -> Path:
    """Return the folder of a model with a small and a large file, one in a subfolder; branch `v1` differs."""
    folder = hub.model("org/name")
    (folder / "sub").mkdir()
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "sub" / "weights.bin").write_bytes(bytes(range(256)) * 1000)
    (hub.model("org/name", revision="v1") / "config.json").write_text('{"a": 0}')
    return folder


def test_snapshot_equals_folder_and_second_one_sends_one_request(hub: LocalHub, model: Path) -> None:
    copy = Path(snapshot_download("org/name"))
    for name in ("config.json", "sub/weights.bin"):
        assert (copy / name).read_bytes() == (model / name).read_bytes()
    assert copy.is_relative_to(hub.home)
    (large,) = hub.requests("GET /cdn/")
    assert large.sent == 256_000 and not large.token
    hub.forget()
    assert Path(snapshot_download("org/name")) == copy
    assert [request.line for request in hub.requests()] == ["GET /api/models/org/name/revision/main"]


def test_file_of_each_revision(hub: LocalHub, model: Path) -> None:
    assert Path(hf_hub_download("org/name", "config.json")).read_text() == '{"a": 1}'
    assert Path(hf_hub_download("org/name", "config.json", revision="v1")).read_text() == '{"a": 0}'
    sha = HfApi().model_info("org/name", revision="v1").sha
    assert Path(hf_hub_download("org/name", "config.json", revision=sha)).read_text() == '{"a": 0}'
    assert [branch.name for branch in HfApi().list_repo_refs("org/name").branches] == ["main", "v1"]


def test_changed_file_is_a_new_commit(hub: LocalHub, model: Path) -> None:
    before = HfApi().model_info("org/name").sha
    hf_hub_download("org/name", "config.json")
    (model / "config.json").write_text('{"a": 2, "b": 3}')
    assert HfApi().model_info("org/name").sha != before
    assert Path(hf_hub_download("org/name", "config.json")).read_text() == '{"a": 2, "b": 3}'


def test_listings(hub: LocalHub, model: Path) -> None:
    api = HfApi()
    assert sorted(api.list_repo_files("org/name")) == ["config.json", "sub/weights.bin"]
    tree = {entry.path: entry for entry in api.list_repo_tree("org/name", recursive=True)}
    assert set(tree) == {"config.json", "sub", "sub/weights.bin"}
    assert tree["sub/weights.bin"].lfs.size == 256_000 and tree["config.json"].lfs is None
    assert [entry.path for entry in api.list_repo_tree("org/name", "sub")] == ["sub/weights.bin"]
    paths = api.get_paths_info("org/name", ["config.json", "gone.json", "sub"])
    assert [entry.path for entry in paths] == ["config.json", "sub"]
    assert api.file_exists("org/name", "config.json") and not api.file_exists("org/name", "gone.json")


def test_range_requests_read_only_a_part(hub: LocalHub, model: Path) -> None:
    with HfFileSystem().open("hf://org/name/sub/weights.bin", block_size=1000) as file:
        file.seek(100_000)
        assert file.read(10) == bytes(range(160, 170))
    read = [request for request in hub.requests("GET /cdn/") if request.status == 206]
    assert read and sum(request.sent for request in read) < 5000


@pytest.mark.parametrize("token", [None, LocalHub.token])
def test_missing_repository_revision_and_file(hub: LocalHub, model: Path, token: str | None) -> None:
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=token).model_info("org/other")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("org/name", "config.json", revision="v2", token=token)
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("org/name", "gone.json", token=token)


def test_private_and_gated_repositories_and_wrong_token(hub: LocalHub, model: Path) -> None:
    hub.gate("models/org/name")
    assert HfApi().model_info("org/name").gated
    with pytest.raises(GatedRepoError):
        hf_hub_download("org/name", "config.json")
    assert hf_hub_download("org/name", "config.json", token=hub.token)
    hub.hide("models/org/name")
    with pytest.raises(RepositoryNotFoundError):
        HfApi().model_info("org/name")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        HfApi(token="hf_wrong").model_info("org/name")
    assert HfApi(token=hub.token).whoami()["name"] == "org"


def test_token_is_not_sent_to_the_other_host(hub: LocalHub, model: Path) -> None:
    hub.hide("models/org/name")
    snapshot_download("org/name", token=hub.token)
    assert all(request.token for request in hub.requests("/api/models|/resolve/"))
    assert [request.token for request in hub.requests("GET /cdn/")] == [False]


def test_our_models_and_processors_load(hub: LocalHub) -> None:
    original = VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny"))
    original.save_pretrained(hub.model("org/tiny"))
    VideoMAEVideoProcessor(num_frames=8, size={"height": 64, "width": 64}).save_pretrained(hub.model("org/tiny"))
    loaded = VideoMAEForPreTraining.from_pretrained("org/tiny")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in original.state_dict().items())
    assert VideoMAEVideoProcessor.from_pretrained("org/tiny").num_frames == 8
    hub.stop()
    assert VideoMAEForPreTraining.from_pretrained("org/tiny").config.num_frames == 8  # out of the cache


def test_client_in_another_process(hub: LocalHub, model: Path) -> None:
    code = "from huggingface_hub import hf_hub_download; print(hf_hub_download('org/name', 'config.json'))"
    done = subprocess.run([sys.executable, "-c", code], env=hub.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(hub.home)


# Faults.


def test_fault_hits_matching_requests_and_ends(hub: LocalHub, model: Path) -> None:
    hub.fail("GET /cdn/", status=503, times=1, retry_after=0)
    start = time.monotonic()
    with HfFileSystem().open("hf://org/name/sub/weights.bin") as file:
        assert file.read(10) == bytes(range(10))
    assert [request.status for request in hub.requests("GET /cdn/")] == [503, 206]
    # Retry-After, and the second that the client adds.
    assert 1 <= time.monotonic() - start < 5


def test_endless_fault_ends_by_heal(hub: LocalHub, model: Path) -> None:
    hub.fail("/api/models/org/name", status=500, times=None)
    for _ in range(2):
        with pytest.raises(HfHubHTTPError, match="500"):
            HfApi().model_info("org/name")
    hub.heal()
    assert HfApi().model_info("org/name").id == "org/name"


def test_truncated_body_is_requested_again(hub: LocalHub, model: Path) -> None:
    hub.cut_off("GET /cdn/", after_bytes=100_000, kind="truncate")
    path = hf_hub_download("org/name", "sub/weights.bin")
    assert Path(path).read_bytes() == (model / "sub" / "weights.bin").read_bytes()
    assert [(request.sent, request.fault) for request in hub.requests("GET /cdn/")] == [
        (100_000, "truncate"),
        (256_000, None),
    ]


@pytest.mark.parametrize(("kind", "error"), [("reset", ConnectionResetError), ("truncate", IncompleteRead)])
def test_connection_breaks_by_reset_or_clean_end(
    hub: LocalHub, model: Path, kind: Kind, error: type[Exception]
) -> None:
    (model / "long.txt").write_bytes(b"x" * 200_000)
    hub.cut_off("long.txt", after_bytes=100_000, kind=kind)
    connection = HTTPConnection("127.0.0.1", hub.port)
    connection.request("GET", "/org/name/resolve/main/long.txt")
    with pytest.raises(error):
        connection.getresponse().read()
    connection.close()


@pytest.mark.parametrize("path", ["../secret", "%2E%2E/secret", "..%2Fsecret", "sub/../../secret"])
def test_no_file_outside_the_folder_is_served(hub: LocalHub, model: Path, path: str) -> None:
    (model.parent / "secret").write_text("not for you")
    connection = HTTPConnection("127.0.0.1", hub.port)
    connection.request("GET", f"/org/name/resolve/main/{path}")
    assert connection.getresponse().status == 404
    connection.close()


def test_stalled_response_is_late_and_correct(hub: LocalHub, model: Path) -> None:
    hub.stall("config.json", seconds=0.5)
    start = time.monotonic()
    assert HfApi().file_exists("org/name", "config.json")
    assert time.monotonic() - start >= 0.5


@pytest.mark.integration
def test_client_recovers_from_outage(hub: LocalHub, model: Path) -> None:
    HfApi().model_info("org/name")  # a connection is open now
    with hub.outage():
        with pytest.raises(LocalEntryNotFoundError):
            hf_hub_download("org/name", "config.json")
    assert hf_hub_download("org/name", "config.json")


def test_stop_ends_stalled_requests(hub: LocalHub, model: Path) -> None:
    import threading

    hub.stall("config.json", seconds=60)
    asker = threading.Thread(target=_ask_quietly, args=("config.json",))
    asker.start()
    deadline = time.monotonic() + 5
    while not hub.record.faults[0].times == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    start = time.monotonic()
    hub.stop()
    asker.join(timeout=5)
    assert not asker.is_alive() and time.monotonic() - start < 3


def _ask_quietly(name: str) -> None:
    try:
        HfApi().file_exists("org/name", name)
    except (HTTPError, OSError, EntryNotFoundError):
        return
