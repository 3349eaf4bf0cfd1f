"""Test downloads from URLs in requests: limits, credentials, and the addresses that a server must not visit."""

import ipaddress
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from hf_videomae.serving.endpoint import EndpointHandler, EndpointSettings
from hf_videomae.serving.endpoint.addresses import is_public, parse_url
from tests.helpers.endpoint import refused
from tests.helpers.loopback import Loopback, certificate, no_web_server, serving


def test_url_is_downloaded_without_credentials(
    fetching: EndpointHandler, server: Loopback, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    expected = fetching({"inputs": video.read_bytes()})
    assert fetching({"inputs": f" {server.url('/video')}?signed=1#part "}) == expected
    assert server.asked[-1] == "/video?signed=1" and server.headers["Host"] == server.address
    assert "hf_secret" not in str(server.headers)
    assert not {"Authorization", "Cookie"} & set(server.headers)
    assert fetching({"inputs": server.url("/to//to//video")}) == expected  # relative, twice
    assert fetching({"inputs": server.url(f"/to/http:~{server.address}/video")}) == expected


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/missing", "answers HTTP 404"),
        ("/empty", "this is not a video file"),
        ("/packed", "packed"),
        ("/boasts", "has 1000000000000 bytes; at most 200000"),
        ("/breaks", "stopped after 100 of"),
        ("/endless", "more than 200000 bytes"),
        ("/loop", "redirects more than 3 times"),
        ("/to/http:~127.0.0.1:1/video", "the URL redirects|not on the public internet"),
        ("/to/http:~169.254.169.254/latest/meta-data", "not on the public internet"),
        ("/to/http:~[::1]/", "not on the public internet"),
        ("/to/file:~/etc/passwd", "redirects, and there the URL must begin with http"),
        ("/to/http:~a:b@example.org/", "redirects, and there the URL holds a name or password"),
        ("/to/http:~[", "redirects to one that is malformed"),
    ],
)
def test_misbehaving_servers_are_refused(fetching: EndpointHandler, server: Loopback, path: str, words: str) -> None:
    text = refused(fetching, server.url(path))
    assert any(word in text for word in words.split("|"))
    assert server.address not in text and "127.0.0.1" not in text


@pytest.mark.parametrize("path", ["/drips/headers", "/drips/body", "/silent"])
def test_slow_servers_time_out(impatient: EndpointHandler, server: Loopback, path: str) -> None:
    start = time.monotonic()
    assert refused(impatient, server.url(path)).startswith("the URL's server took too long: 0.3 s without a byte")
    assert time.monotonic() - start < 20  # the silent one waits 30, the others do not end


@pytest.mark.parametrize("path", ["/drips/headers", "/drips/body", "/silent"])
def test_download_ends_with_the_time_of_its_request(model_dir: Path, server: Loopback, path: str) -> None:
    hurried = EndpointHandler(model_dir, settings=EndpointSettings(allow=(server.address,), request_seconds=0.2))
    assert refused(hurried, server.url(path)).startswith("the answer takes longer than 0.2 s")


def test_answer_of_other_servers_is_not_quoted(model_dir: Path) -> None:
    with no_web_server() as address:
        fetching = EndpointHandler(model_dir, settings=EndpointSettings(allow=(address,)))
        text = refused(fetching, f"http://{address}/")
        assert text == "the URL cannot be downloaded: the server there is not a web server"
    assert "refused" in refused(fetching, f"http://{address}/")
    with serving(b"") as server:
        fetching = EndpointHandler(model_dir, settings=EndpointSettings(allow=(server.address,)))
        assert "speaks no https" in refused(fetching, f"https://{server.address}/")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "100.100.100.200", "168.63.129.16", "0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1", "198.18.0.1",
        "192.0.0.192", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001::1]", "[2001:db8::1]", "[fe80::1]",
        "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[100::1]", "localhost", "LOCALHOST", "localhost.",
    ],
)  # fmt: skip
def test_private_addresses_are_refused(handler: EndpointHandler, host: str) -> None:
    text = refused(handler, f"http://{host}/video.mp4")
    assert text in ("the URL's host is not on the public internet", "the URL's host cannot be found")
    assert host.startswith("localhost.") or "found" not in text  # that name is not known everywhere


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.org/a.mp4", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("gopher://127.0.0.1:25/", "http:// or https://"),
        ("concat://a|b", "http:// or https://"),
        ("hf://datasets/a/b/c.mp4", "http:// or https://"),
        ("http://", "neither a name nor an address"),
        ("http://user:secret@8.8.8.8/", "name or password"),
        ("http://8.8.8.8@127.0.0.1/", "name or password"),
        ("http://@8.8.8.8/", "name or password"),
        ("http://2130706433/", "usual spelling"),
        ("http://0x7f000001/", "usual spelling"),
        ("http://127.1/", "usual spelling"),
        ("http://0177.0.0.1/", "usual spelling"),
        ("http://127.0.0.0x1/", "usual spelling"),
        ("http://127.0.0.1%2f.example.org/", "usual spelling"),
        ("http://[fe80::1%25eth0]/", "usual spelling|malformed"),
        ("http://[127.0.0.1]/", "usual spelling|malformed"),
        ("http://[v1.a]/", "usual spelling|malformed"),
        ("http://a..b/", "usual spelling"),
        ("http://8.8.8.8:22/", "port is 22; 80 and 443"),
        ("http://8.8.8.8:0/", "port is 0"),
        ("http://8.8.8.8:99999/", "malformed"),
        ("http://8.8.8.8\\@127.0.0.1/", "backslashes"),
        ("http://exa mple.org/", "spaces"),
        ("http://example.org/\r\nHost: x", "spaces"),
        ("http://１２７.0.0.1/", "outside ASCII"),
        ("http://example.org/" + "a" * 5000, "longer than 4096"),
    ],
)
def test_invalid_urls_are_refused_without_a_request(
    handler: EndpointHandler, url: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)
    monkeypatch.setattr(socket, "create_connection", None)
    text = refused(handler, url)
    assert any(word in text for word in words.split("|")) and "secret" not in text


def test_public_addresses_are_accepted() -> None:
    for address in ("8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::8a"):
        assert is_public(ipaddress.ip_address(address))
    target = parse_url("HTTPS://Example.ORG/a%20b?c=d#e")
    assert (target.scheme, target.host, target.port, target.path) == ("https", "example.org", 443, "/a%20b?c=d")


def resolving_to(*answers: list[str]) -> Any:
    """Return a `getaddrinfo` that gives one answer after the other."""
    left = list(answers)

    def getaddrinfo(host: str, port: int, *arguments: Any, **settings: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in left.pop(0)]

    return getaddrinfo


def test_name_is_resolved_once_and_its_address_is_used(
    fetching: EndpointHandler, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.server_port
    # A second lookup would give another address; connecting to an address needs no lookup.
    numbers = socket.getaddrinfo
    monkeypatch.setattr(socket, "create_connection", pinned(numbers, monkeypatch))
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to(["127.0.0.1"], ["10.0.0.1"]))
    assert fetching({"inputs": f"http://videos.example:{port}/video"})
    assert server.headers["Host"] == f"videos.example:{port}"
    assert "public" in refused(fetching, f"http://videos.example:{port}/video")


def test_certificate_is_checked_against_the_name(
    model_dir: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = certificate(tmp_path, name="videos.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    numbers = socket.getaddrinfo
    monkeypatch.setattr(socket, "create_connection", pinned(numbers, monkeypatch))
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to(["127.0.0.1"], ["127.0.0.1"], ["127.0.0.1"]))
    with serving(video.read_bytes(), certificate=trusted) as server:
        fetching = EndpointHandler(model_dir, settings=EndpointSettings(allow=(server.address,)))
        assert fetching({"inputs": f"https://videos.example:{server.server_port}/video"})
        assert server.headers["Host"] == f"videos.example:{server.server_port}"
        text = refused(fetching, f"https://other.example:{server.server_port}/video")
        assert text == "the URL's server has no certificate for its name that is trusted here"
        monkeypatch.delenv("SSL_CERT_FILE")
        assert "certificate" in refused(fetching, f"https://videos.example:{server.server_port}/video")
        assert server.asked == ["/video"]


def pinned(numbers: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    connect = socket.create_connection

    def create_connection(address: tuple[str, int], **settings: Any) -> socket.socket:
        assert ipaddress.ip_address(address[0])
        with monkeypatch.context() as original:
            original.setattr(socket, "getaddrinfo", numbers)
            return connect(address, **settings)

    return create_connection


def test_one_private_address_among_public_ones_is_refused(
    handler: EndpointHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "create_connection", None)
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to(["8.8.8.8", "192.168.0.1"]))
    assert refused(handler, "http://both.example/") == "the URL's host is not on the public internet"


def test_allowlist_includes_the_port(fetching: EndpointHandler, server: Loopback) -> None:
    with serving(b"") as other:
        assert "public" in refused(fetching, other.url("/video"))
        assert "public" in refused(fetching, server.url(f"/to/http:~{other.address}/video"))
        assert not other.asked
