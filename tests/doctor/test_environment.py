"""Test the command on this machine, and on broken ones: other libraries, a closed port, a small /dev/shm."""

import http.server
import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hf_videomae.doctor import Finding, collect_environment
from hf_videomae.doctor import environment as environment_module
from hf_videomae.doctor.checks import check_decoders, check_hub
from hf_videomae.doctor.environment import _disk_space, _token_source, run_probes
from hf_videomae.video import _torchcodec
from tests.helpers.machines import HUB_VARIABLES, damaged_torchcodec, environment, machine

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hf_abcdefghijklmnopqrstuvwxyz0123"
CLOSED = "http://127.0.0.1:9"
linux = pytest.mark.skipif(sys.platform != "linux", reason="edits ELF libraries")
needs_torchcodec = pytest.mark.skipif(
    _torchcodec.unavailable_reason() is not None, reason="needs a torchcodec that loads"
)


def doctor(*arguments: str, before: tuple[str, ...] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command from the root of the project; takes one import of torch."""
    command = [*before, sys.executable, "-m", "hf_videomae.cli", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(**variables))


def probe(*names: str) -> dict[str, dict[str, Any]]:
    return run_probes(names)


@pytest.fixture
def no_hub_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in HUB_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))


def hub_finding(token: str | None) -> Finding:
    """Return the finding about the Hub that the environment names, asked by the real client."""
    (finding,) = check_hub(machine(hub=probe("hub")["hub"], token=token))
    return finding


@contextmanager
def hub(status: int, body: bytes = b"{}") -> Iterator[tuple[str, list[str | None]]]:
    """Serve one answer to every request, and record the tokens received."""
    shown: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", shown
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.integration
@needs_torchcodec
def test_doctor_reports_this_machine(tmp_path: Path) -> None:
    done = doctor("--offline", "--output_dir", str(tmp_path / "not" / "there" / "yet"))
    lines = done.stdout.splitlines()
    assert lines[0].startswith("hf_videomae ") and "Python 3" in lines[0]
    (decoder,) = [line for line in lines if " torchcodec " in line]
    assert decoder.startswith("ok") and "decodes the test clip" in decoder
    assert (done.returncode == 0) == lines[-1].startswith("everything that is needed works")
    assert not (tmp_path / "not").exists()


@pytest.mark.integration
@linux
@needs_torchcodec
def test_doctor_reports_several_broken_parts(tmp_path: Path) -> None:
    """Libraries that do not load, no second decoder, a closed port, and a container's /dev/shm if permitted."""
    damaged_torchcodec(tmp_path, {b"libavutil.so.": b"libavutil.xx."})
    (tmp_path / "av.py").write_text("raise ImportError('DLL load failed')")
    variables = {"HF_ENDPOINT": CLOSED, "HF_TOKEN": SECRET, "HF_HOME": str(tmp_path / "home")}
    done = doctor("--json", before=small_shared_memory(), PYTHONPATH=f"{tmp_path}:{ROOT}", **variables)
    report = json.loads(done.stdout)
    findings = {finding["about"]: finding for finding in report["findings"]}
    assert done.returncode == 1 and report["healthy"] is False
    assert SECRET not in done.stdout + done.stderr and report["facts"]["token"] == "HF_TOKEN"
    assert findings["torch"]["status"] == "ok"
    assert findings["torchcodec"]["status"] == "broken"
    assert "no FFmpeg libraries are found" in findings["torchcodec"]["found"] and "Likely causes" not in done.stdout
    assert "DLL load failed" in report["facts"]["pyav"]["missing"]
    assert "refused" in findings["hub"]["found"] and "unset HF_ENDPOINT" in findings["hub"]["fix"]
    if small_shared_memory():
        assert findings["shared memory"]["status"] == "broken"
        assert "64 MiB free of 64 MiB" in findings["shared memory"]["found"]


def small_shared_memory() -> tuple[str, ...]:
    """Return a command prefix for a /dev/shm as small as Docker's; empty if forbidden."""
    small = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    unshare = ("unshare", "-rm", "sh", "-c", f'{small} && exec "$@"', "sh")
    allowed = shutil.which("unshare") and subprocess.run([*unshare, "true"], capture_output=True).returncode == 0
    return unshare if allowed else ()


@linux
@needs_torchcodec
def test_torchcodec_for_another_torch_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged_torchcodec(tmp_path, {b"aoti_torch_abi_version": b"aoti_torch_abi_verXXXX"})
    monkeypatch.syspath_prepend(tmp_path)
    answer = probe("torchcodec")["torchcodec"]
    assert "undefined symbol: aoti_torch_abi_verXXXX" in answer["missing"]
    finding = check_decoders(machine(torchcodec=answer))[0]
    assert finding.fix is not None and "--force-reinstall --no-deps torchcodec==" in finding.fix


def test_crashing_decoder_does_not_stop_the_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchcodec").mkdir()
    (tmp_path / "torchcodec" / "__init__.py").write_text("import ctypes; ctypes.string_at(0)")
    (tmp_path / "av.py").write_text("raise ImportError('DLL load failed')")
    monkeypatch.syspath_prepend(tmp_path)
    answers = probe("torchcodec", "pyav")
    assert answers["torchcodec"] == {"crash": "the process was killed by SIGSEGV"}
    assert answers["pyav"]["missing"] == "DLL load failed"


def test_hanging_probe_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "huggingface_hub").mkdir()
    (tmp_path / "huggingface_hub" / "__init__.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(tmp_path)
    assert run_probes(["hub"], seconds=2) == {"hub": {"crash": "no answer within 2 s"}}


@pytest.mark.usefixtures("no_hub_settings")
@pytest.mark.parametrize(
    ("status", "body", "expected", "words"),
    [
        (200, b'{"name": "marie"}', "ok", "of marie"),
        (401, b"{}", "broken", "refuses the token in HF_TOKEN"),
        (500, b"oops", "warning", "HTTP 500"),
        (200, b"<html>log in to this hotel</html>", "broken", "cannot be reached"),
    ],
)
def test_hub_answer_about_the_token_is_reported(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, expected: str, words: str
) -> None:
    with hub(status, body) as (endpoint, shown):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_TOKEN", SECRET)
        finding = hub_finding("HF_TOKEN")
    assert finding.status == expected and words in finding.found
    # The client may ask for something of its own first, without the token.
    assert {token for token in shown if token} == {f"Bearer {SECRET}"} and SECRET not in str(finding)


@pytest.mark.usefixtures("no_hub_settings")
def test_no_token_is_sent_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with hub(401) as (endpoint, shown):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        finding = hub_finding(None)
    assert finding.status == "note" and "no token" in finding.found
    assert set(shown) == {None}


@pytest.mark.integration
@pytest.mark.usefixtures("no_hub_settings")
def test_silent_hub_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes the connection and says nothing
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        finding = hub_finding(None)
    assert finding.status == "broken"
    assert "no answer within" in finding.found or "timeout" in finding.found.lower()


@pytest.mark.usefixtures("no_hub_settings")
@pytest.mark.parametrize("token", [SECRET + "\ninjected: header", SECRET + "\x01", "ünicode-" + SECRET])
def test_invalid_token_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    (tmp_path / "token").write_text(token, encoding="utf-8")
    monkeypatch.setenv("HF_ENDPOINT", CLOSED)
    finding = hub_finding(_token_source(tmp_path / "token"))
    assert finding.status == "broken" and "cannot be reached" in finding.found
    assert SECRET not in str(finding)


@pytest.mark.usefixtures("no_hub_settings")
@pytest.mark.parametrize("environment_forbids", [True, False])
def test_offline_doctor_uses_no_network(monkeypatch: pytest.MonkeyPatch, environment_forbids: bool) -> None:
    asked: list[str] = []
    monkeypatch.setattr(environment_module, "run_probes", lambda names: asked.extend(names) or {})
    if environment_forbids:
        monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    collected = collect_environment(network=environment_forbids)
    assert "torchcodec" in asked and "hub" not in asked
    assert collected.offline_variables == (("HF_DATASETS_OFFLINE",) if environment_forbids else ())
    assert check_hub(collected)[0].status == "note"


def test_disk_space_of_missing_folders_is_that_of_their_parent(tmp_path: Path) -> None:
    space = _disk_space(tmp_path / "a" / "b")
    assert space.error is None and space.total == shutil.disk_usage(tmp_path).total
    (tmp_path / "file").write_text("")
    assert "is a file" in str(_disk_space(tmp_path / "file" / "b").error)
