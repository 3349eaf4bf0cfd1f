"""Test which paths the rows and the card of a dataset may open: its own files, and what the user allows."""

import json
import os
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from hf_videomae.data import DataError, MotionSource, build_loader, open_source
from hf_videomae.data.path_policy import RowPathResolver, parse_allowed_paths, redact_allowed_path
from hf_videomae.prepare import PrepareSettings, prepare
from hf_videomae.video.decoding import VideoDecodeError, open_video
from hf_videomae.video.encoding import EncodeSettings
from hf_videomae.video.url_allowlist import AllowedURL, BlockedVideo
from tests.helpers.loaders import SMALL_CLIPS
from tests.local_hub import LocalHub

pytestmark = pytest.mark.fault
SHA = "a" * 40
HUB_ROOT = f"hf://datasets/org/set@{SHA}"


def video(number: int = 0) -> bytes:
    return bytes(MotionSource()[number].video)


def write_rows(root: Path, videos: list[bytes | str | None], *, plain: bool = False) -> Path:
    """Write a Parquet dataset of embedded videos (bytes), paths (str) and empty rows."""
    values: Any = videos
    if not plain:
        values = [
            {"bytes": item if isinstance(item, bytes) else None, "path": item if isinstance(item, str) else None}
            for item in videos
        ]
    (root / "data").mkdir(parents=True)
    kind = pyarrow.string() if plain else pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({"video": pyarrow.array(values, kind)})
    if not plain:
        described = {"info": {"features": {"video": {"_type": "Video"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(described)})
    parquet.write_table(table, root / "data" / "train.parquet")
    return root


def read_all(source: Any) -> list[Any]:
    return [sample for shard in range(source.num_shards) for sample in source.read_shard(shard)]


class Server:
    """A web server on loopback that serves one video, or redirects, and records the requests."""

    def __init__(self, *, to: str | None = None) -> None:
        self.asked: list[str] = []
        server, content = self, video()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                self.send_response(200 if to is None else 302)
                self.send_header("Content-Length", str(len(content) if to is None else 0))
                if to is not None:
                    self.send_header("Location", to)
                self.end_headers()
                self.wfile.write(content if to is None else b"")

            def log_message(self, *arguments: Any) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> "Server":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def web() -> Iterator[Server]:
    with Server() as server:
        yield server


# The rule.


@pytest.mark.parametrize(
    "path",
    [
        "/etc/hostname",
        "//etc/hostname",
        "../outside.mp4",
        "clips/../../outside.mp4",
        "~/outside.mp4",
        "~root/outside.mp4",
        "file:///etc/hostname",
        "FILE:///etc/hostname",
        "file://server/share/a.mp4",
        "local:///etc/hostname",
        "http://127.0.0.1/a.mp4",
        "http://[::1]/a.mp4",
        "https://videos.example.org/a.mp4",
        "http://user:word@videos.example.org/a.mp4",
        "http://videos.example.org\\@127.0.0.1/a.mp4",
        "hf://datasets/org/other/a.mp4",
        "hf://datasets/org/set2/a.mp4",
        "hf://datasets/org/set@other/a.mp4",
        f"{HUB_ROOT}/../../org/other/a.mp4",
        "hf://org/model/a.mp4",
        "s3://bucket/a.mp4",
        "gs://bucket/a.mp4",
        "ftp://host/a.mp4",
        "memory://a.mp4",
        "reference://a.json",
        "github://org:repo@/a.mp4",
        "simplecache::http://127.0.0.1/a.mp4",
        "filecache::file:///etc/hostname",
        "zip://a.mp4::http://127.0.0.1/a.zip",
        "zip://a.mp4::/etc/a.zip",
        "zip://../a.mp4::clips.zip",
        "tar://a.mp4::clips.tar",
        "C:\\Users\\anna\\a.mp4",
        "\\\\server\\share\\a.mp4",
        "clips/a\0.mp4",
        "clips/a\n.mp4",
        "clips/" + 5000 * "a",
        "",
        ".",
        "..",
    ],
)
@pytest.mark.parametrize("root", ["folder", HUB_ROOT])
def test_paths_out_of_data_set_are_blocked(tmp_path: Path, root: str, path: str) -> None:
    where = str(tmp_path) if root == "folder" else root
    found = RowPathResolver("org/set", root=where).resolve(path)
    assert isinstance(found, BlockedVideo) and found.path[:200] == path[:200] and found.reason
    assert bytes(found) == b"" and "\n" not in found.reason
    again = pickle.loads(pickle.dumps(found))
    assert (again.path, again.reason) == (found.path, found.reason)
    with pytest.raises(VideoDecodeError) as caught:
        open_video(again)
    assert caught.value.reason == found.reason


def test_paths_within_data_set_resolve_against_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    (tmp_path / "clips").mkdir()
    here = RowPathResolver("set", root=str(tmp_path))
    assert here.resolve("clips/a.mp4") == str(tmp_path / "clips/a.mp4")
    assert here.resolve("clips/x/../a.mp4") == str(tmp_path / "clips/a.mp4")
    assert here.resolve(str(tmp_path / "clips/a.mp4")) == str(tmp_path / "clips/a.mp4")
    assert here.resolve("zip://a.mp4::clips.zip") == f"zip://a.mp4::{tmp_path}/clips.zip"
    hub = RowPathResolver("org/set", root=HUB_ROOT)
    assert hub.resolve("clips/a.mp4") == f"{HUB_ROOT}/clips/a.mp4"
    assert hub.resolve(f"{HUB_ROOT}/clips/a b.mp4") == f"{HUB_ROOT}/clips/a b.mp4"
    assert hub.resolve("hf://datasets/org/set/clips/a.mp4") == f"{HUB_ROOT}/clips/a.mp4"
    assert hub.resolve(f"zip://a.mp4::{HUB_ROOT}/c.zip") == f"zip://a.mp4::{HUB_ROOT}/c.zip"


@pytest.mark.parametrize("path", ["\\\\server\\share\\a.mp4", "C:\\videos\\a.mp4", "d:/videos/a.mp4"])
def test_windows_path_is_refused_without_naming_a_folder_of_this_machine(tmp_path: Path, path: str) -> None:
    found = RowPathResolver("set", root=str(tmp_path)).resolve(path)
    assert isinstance(found, BlockedVideo) and "Windows" in found.reason and "allow_paths" not in found.reason


def test_links_out_of_folder_are_blocked(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "set"
    outside.mkdir()
    root.mkdir()
    (outside / "a.mp4").write_bytes(video())
    (root / "file.mp4").symlink_to(outside / "a.mp4")
    (root / "folder").symlink_to(outside)
    for path in ("file.mp4", "folder/a.mp4"):
        found = RowPathResolver("set", root=str(root)).resolve(path)
        assert isinstance(found, BlockedVideo) and f"--allow_paths {outside}" in found.reason
        allowed = RowPathResolver("set", root=str(root), allowed=parse_allowed_paths([str(outside)])).resolve(path)
        assert allowed == str(root / path)


def test_links_of_hub_cache_are_followed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / SHA
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "0123").write_bytes(video())
    (snapshot / "a.mp4").symlink_to(blobs / "0123")
    assert RowPathResolver("set", root=str(snapshot)).resolve("a.mp4") == str(snapshot / "a.mp4")


@pytest.mark.parametrize(
    ("entry", "opened", "closed"),
    [
        ("videos.example.org", "https://videos.example.org/a.mp4", "https://videos.example.org.evil.org/a.mp4"),
        ("videos.example.org", "HTTP://VIDEOS.example.org:80/a.mp4?x=1", "http://videos.example.org:8080/a.mp4"),
        ("videos.example.org", "https://videos.example.org./a.mp4", "https://evil.videos.example.org/a.mp4"),
        ("localhost:8000", "http://localhost:8000/a.mp4", "http://localhost/a.mp4"),
        ("[::1]:8000", "http://[::1]:8000/a.mp4", "http://[::1]/a.mp4"),
        ("s3://bucket/clips", "s3://bucket/clips/a.mp4", "s3://bucket/clips2/a.mp4"),
        ("s3://bucket", "s3://bucket/clips/a.mp4", "s3://bucket/x/%2e%2e/a.mp4"),
        ("https://videos.example.org/open", "https://videos.example.org/open/a", "https://videos.example.org/a"),
        ("hf://datasets/org/other", "hf://datasets/org/other@main/a.mp4", "hf://datasets/org/other2/a.mp4"),
    ],
)
def test_allow_paths_opens_only_what_it_names(entry: str, opened: str, closed: str) -> None:
    paths = RowPathResolver("org/set", root=HUB_ROOT, allowed=parse_allowed_paths([entry]))
    found = paths.resolve(opened)
    assert isinstance(found, AllowedURL) and found == opened
    assert pickle.loads(pickle.dumps(found)).allowed == (entry,)
    assert isinstance(paths.resolve(closed), BlockedVideo)
    assert isinstance(paths.resolve("/etc/hostname"), BlockedVideo)


@pytest.mark.parametrize(
    "entry", ["/no/such/folder", "./nothing", "reference://x", "simplecache::http://h", "s3://", ""]
)
def test_invalid_allow_paths_raises(entry: str) -> None:
    with pytest.raises(DataError, match="--allow_paths"):
        parse_allowed_paths([entry])


def test_published_allow_paths_has_no_folders_or_addresses(tmp_path: Path) -> None:
    assert redact_allowed_path(str(tmp_path)) == f"path/to/{tmp_path.name}"
    assert (
        redact_allowed_path("127.0.0.1:8000")
        == redact_allowed_path("minio")
        == redact_allowed_path("[::1]:80")
        == "HOST"
    )
    assert redact_allowed_path("videos.example.org") == "videos.example.org"


# Datasets.


def test_blocked_path_is_bad_video_with_reason(tmp_path: Path) -> None:
    private = tmp_path / "private.mp4"
    private.write_bytes(video())
    root = write_rows(tmp_path / "set", [*map(video, range(8)), str(private), "../private.mp4", None])
    loader = build_loader(open_source(str(root)), clip_config=SMALL_CLIPS, batch_size=11, seed=0, max_bad_share=0.5)
    batch = next(iter(loader))
    assert {entry["id"] for entry in loader.bad_videos} == {f"data/train.parquet#{row}" for row in (8, 9, 10)}
    reasons = {entry["path"]: entry["reason"] for entry in loader.bad_videos}
    assert f"--allow_paths {tmp_path}" in reasons[str(private)] and "--allow_paths" in reasons["../private.mp4"]
    assert len(batch["sample_ids"]) == 11 and not {"#8", "#9"} & {name[-2:] for name in batch["sample_ids"]}


def test_relative_paths_do_not_depend_on_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoy = tmp_path / "decoy" / "clips"
    decoy.mkdir(parents=True)
    (decoy / "a.bin").write_bytes(video(1))
    root = write_rows(tmp_path / "set", ["clips/a.bin"], plain=True)
    (root / "clips").mkdir()
    (root / "clips" / "a.bin").write_bytes(video(0))
    monkeypatch.chdir(decoy.parent)
    (sample,) = read_all(open_source(str(root)))
    assert Path(sample.video).read_bytes() == video(0)


@pytest.mark.parametrize("plain", [False, True])
def test_data_set_of_urls_raises_unless_host_is_allowed(tmp_path: Path, web: Server, plain: bool) -> None:
    root = str(write_rows(tmp_path / "set", [f"http://{web.host}/{number}.mp4" for number in range(4)], plain=plain))
    with pytest.raises(DataError, match=f"--allow_paths {web.host}") as caught:
        open_source(root)
    assert "\n" not in str(caught.value) and web.asked == []
    loader = build_loader(
        open_source(root, allow_paths=[web.host]), clip_config=SMALL_CLIPS, batch_size=4, seed=0, num_workers=1
    )
    assert len(next(iter(loader))["sample_ids"]) == 4 and loader.bad_videos == [] and len(web.asked) >= 4


def test_json_and_csv_rows_follow_same_rule(tmp_path: Path, web: Server) -> None:
    lines = {"jsonl": json.dumps({"video": f"http://{web.host}/a.mp4"}) + "\n", "csv": "video\n/etc/hostname\n"}
    for kind, text in lines.items():
        root = tmp_path / kind
        root.mkdir()
        (root / f"train.{kind}").write_text(text)
        from hf_videomae.data.hub_dataset import HubDataset

        with pytest.raises(DataError, match="--allow_paths"):
            HubDataset(str(root))
    assert web.asked == []


def test_redirect_out_of_allowed_host_is_blocked(tmp_path: Path, web: Server) -> None:
    with Server(to=f"http://{web.host}/secret.mp4") as redirecting:
        url = f"http://{redirecting.host}/a.mp4"
        for allowed, asked in (([redirecting.host], []), ([redirecting.host, web.host], ["/secret.mp4"])):
            found = RowPathResolver("set", root=str(tmp_path), allowed=allowed).resolve(url)
            if asked:
                open_video(found).close()
            else:
                with pytest.raises(VideoDecodeError, match=f"redirects to {web.host}"):
                    open_video(found)
            assert web.asked == asked


def test_hub_rows_open_only_their_own_repository(hub: LocalHub, web: Server) -> None:
    root = hub.dataset("org/set")
    other = hub.dataset("org/private")
    (other / "secret.mp4").write_bytes(video(1))
    (root / "clips").mkdir()
    (root / "clips" / "a.mp4").write_bytes(video(0))
    paths = ["clips/a.mp4", "hf://datasets/org/private/secret.mp4", f"http://{web.host}/a.mp4", "/etc/hostname"]
    write_rows(root, list(paths), plain=True)
    samples = read_all(open_source("org/set"))
    assert samples[0].video.startswith("hf://datasets/org/set@") and samples[0].video.endswith("/clips/a.mp4")
    open_video(samples[0].video).close()
    assert all(isinstance(sample.video, BlockedVideo) for sample in samples[1:])
    assert hub.requests("private") == [] and web.asked == []
    opened = read_all(open_source("org/set", allow_paths=["hf://datasets/org/private"]))
    open_video(opened[1].video).close()
    assert isinstance(opened[2].video, BlockedVideo)


@pytest.mark.parametrize("pattern", ["{private}/*.parquet", "../private/*.parquet", "http://{host}/a.parquet"])
def test_card_with_data_files_elsewhere_raises(tmp_path: Path, web: Server, pattern: str) -> None:
    private = write_rows(tmp_path / "private", [video()]) / "data"
    root = write_rows(tmp_path / "set", [video()])
    named = pattern.format(private=private, host=web.host)
    header = {"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": named}]}]}
    (root / "README.md").write_text(f"---\n{json.dumps(header)}\n---\n")
    for open_it in (open_source, lambda path: prepare(path, tmp_path / "out")):
        with pytest.raises(DataError, match="takes its data from .*--allow_paths"):
            open_it(str(root))
    assert web.asked == []


def test_parquet_next_to_its_videos_is_read(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "clips").mkdir(parents=True)
    for number in range(4):
        (root / "clips" / f"{number}.mp4").write_bytes(video(number))
    rows = {"video": [f"clips/{number}.mp4" for number in range(4)], "label": ["run", "jump"] * 2}
    parquet.write_table(pyarrow.table(rows), root / "train.parquet")
    source = open_source(str(root), require_labels=True)
    assert source.class_names == ["jump", "run"]
    assert [sample.video for sample in read_all(source)] == [str(root / "clips" / f"{n}.mp4") for n in range(4)]
    done = prepare(str(root), tmp_path / "out", settings=PrepareSettings(encode=EncodeSettings(short_side=32)), jobs=1)
    assert done.report["classes"] == {"jump": 2, "run": 2}


def test_shard_linked_out_of_folder_raises(tmp_path: Path) -> None:
    private = write_rows(tmp_path / "private", [video()]) / "data"
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.parquet").symlink_to(private / "train.parquet")
    with pytest.raises(DataError, match=f"a link in its path leads out .*--allow_paths {private}"):
        open_source(str(tmp_path / "set"))
    assert len(read_all(open_source(str(tmp_path / "set"), allow_paths=[str(private)]))) == 1


def test_prepare_does_not_take_private_file(tmp_path: Path) -> None:
    private = tmp_path / "home" / "private.mp4"
    private.parent.mkdir()
    private.write_bytes(video(3))
    root = write_rows(tmp_path / "set", [video(0), video(1), str(private), f"file://{private}", "../home/private.mp4"])
    settings = PrepareSettings(encode=EncodeSettings(short_side=32))
    done = prepare(str(root), tmp_path / "out", settings=settings, jobs=1)
    assert (done.report["kept"], done.report["dropped"]) == (2, 3)
    dropped = (tmp_path / "out" / "dropped.jsonl").read_text()
    assert "--allow_paths" in dropped and str(tmp_path) not in dropped
    opened = prepare(
        str(root), tmp_path / "all", settings=settings, jobs=1, allow_paths=[str(private.parent)], progress=False
    )
    assert opened.report["kept"] == 5
    card = (tmp_path / "all" / "README.md").read_text()
    assert "--allow_paths path/to/home" in card and str(tmp_path) not in card


def test_named_url_may_redirect_but_not_to_this_machine(web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from hf_videomae.video import _remote

    with Server(to=f"http://{web.host}/a.mp4") as redirecting:
        open_video(f"http://{redirecting.host}/a.mp4").close()
        assert web.asked == ["/a.mp4"]
        # As if the first of them were on the public internet.
        monkeypatch.setattr(_remote, "_is_private", lambda host: host == web.host)
        with pytest.raises(VideoDecodeError, match="not on the public internet"):
            open_video(f"http://{redirecting.host}/a.mp4")
        assert web.asked == ["/a.mp4"]


def test_bad_url_is_listed_without_credentials(tmp_path: Path) -> None:
    with Server() as gone:
        host = gone.host
    url = f"http://{host}/a.mp4?id=7&X-Amz-Signature=0123abcd&token=s3cret"
    root = write_rows(tmp_path / "set", [*map(video, range(3)), url])
    source = open_source(str(root), allow_paths=[host])
    sample = read_all(source)[3]
    assert sample.video == url and sample.location == f"http://{host}/a.mp4?id=7&X-Amz-Signature=TOKEN&token=TOKEN"
    assert os.path.basename(sample.id) == "train.parquet#3"
