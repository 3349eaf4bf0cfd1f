"""The endpoint's handler: its answers, what it refuses and in which words, and where it does not go."""

import base64
import ipaddress
import json
import logging
import math
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_videomae import predict
from hf_videomae.data.motion import MotionSource, encode_clip
from hf_videomae.serving.endpoint import BadRequest, EndpointHandler, EndpointSettings, ServerError
from hf_videomae.serving.endpoint.addresses import is_public, parse_url
from hf_videomae.video import limits
from hf_videomae.video.decoding import VideoDecodeError, open_video
from tests.helpers.loopback import Loopback, certificate, no_web_server, serving
from tests.helpers.models import NAMES, save_model, write_video

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = Path(__file__).parent / "schemas"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def handler(model_dir: Path) -> EndpointHandler:
    return EndpointHandler(str(model_dir))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", repeat=2)


@pytest.fixture(scope="module")
def server(video: Path) -> Iterator[Loopback]:
    with serving(video.read_bytes()) as running:
        yield running


@pytest.fixture(scope="module")
def fetching(model_dir: Path, server: Loopback) -> EndpointHandler:
    """A handler that may go to `server` and takes small files."""
    settings = EndpointSettings(
        allow=(server.address,), max_bytes=200_000, max_concurrent_downloads=3, max_concurrent_decodes=2
    )
    return EndpointHandler(model_dir, settings=settings)


@pytest.fixture(scope="module")
def impatient(model_dir: Path, server: Loopback) -> EndpointHandler:
    """One that a server which answers would be too slow for on a busy machine."""
    settings = EndpointSettings(allow=(server.address,), download_seconds=0.6, read_seconds=0.3)
    return EndpointHandler(model_dir, settings=settings)


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def refused(handler: EndpointHandler, inputs: Any, **parameters: Any) -> str:
    """The text of the error, without its beginning."""
    with pytest.raises(BadRequest) as caught:
        handler({"inputs": inputs, "parameters": parameters})
    text = str(caught.value)
    assert text.startswith("bad request: ") and len(text.splitlines()) == 1 and len(text) < 400
    return text.removeprefix("bad request: ")


# The answer.


def problems(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None) -> list[str]:
    """What of a value does not fit a schema; of JSON schema the words that the stored ones use."""
    root = root or schema
    if "$ref" in schema:
        file, _, place = schema["$ref"].partition("#")
        root = json.loads((SCHEMAS / Path(file).name).read_text()) if file else root
        schema = root
        for part in place.strip("/").split("/"):
            schema = schema[part]
        return problems(value, schema, root)
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float)}
    if "type" in schema and (not isinstance(value, types[schema["type"]]) or isinstance(value, bool)):
        return [f"{value!r} is no {schema['type']}"]
    found = [f"{value!r} is none of {schema['enum']}" for _ in [0] if value not in schema.get("enum", [value])]
    if isinstance(value, dict):
        found += [f"{name} is missing" for name in schema.get("required", []) if name not in value]
        fields = schema.get("properties", {})
        found += [p for name in value.keys() & fields.keys() for p in problems(value[name], fields[name], root)]
    for item in value if isinstance(value, list) else []:
        found += problems(item, schema.get("items", {}), root)
    return found


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SCHEMAS / f"video-classification-{name}.json").read_text())
    return found


def test_the_schemas_are_read() -> None:
    assert problems([{"label": "a"}], schema("output")) == ["score is missing"]
    assert problems([{"label": "a", "score": "1"}], schema("output")) == ["'1' is no number"]
    wrong = {"inputs": "", "parameters": {"function_to_apply": "max", "top_k": 1.5}}
    assert len(problems(wrong, schema("input"))) == 2
    assert problems({}, schema("input")) == ["inputs is missing"]


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_requests_and_answers_are_those_of_the_task(handler: EndpointHandler, video: Path, function: str) -> None:
    parameters = {"top_k": 2, "function_to_apply": function, "num_frames": 8, "frame_sampling_rate": 3}
    request = {"inputs": base64_of(video.read_bytes()), "parameters": parameters}
    assert not problems(request, schema("input"))
    answer = handler(request)
    assert not problems(answer, schema("output")) and json.loads(json.dumps(answer)) == answer
    assert len(answer) == 2 and answer[0]["score"] >= answer[1]["score"]
    assert {item["label"] for item in answer} < set(NAMES)


def test_the_answer_is_that_of_predict(handler: EndpointHandler, model_dir: Path, video: Path) -> None:
    content = video.read_bytes()
    device = handler._model.device
    for parameters, settings in [
        ({}, {}),
        ({"views": "2x3"}, {"views": "2x3"}),
        ({"frame_sampling_rate": 5}, {"sampling": "dense", "stride": 5}),
        ({"top_k": 1, "views": None}, {"top_k": 1}),
    ]:
        (found,) = predict(model_dir, video, device=device, **settings)
        answer = handler({"inputs": base64_of(content), "parameters": parameters})
        expected = [{"label": a, "score": b} for a, b in zip(found.labels, found.scores, strict=True)]
        assert answer == expected
    wrapped = base64.encodebytes(content).decode()
    for same in (wrapped, f"data:video/mp4;base64,{base64_of(content)}", content, bytearray(content)):
        assert handler({"inputs": same}) == handler({"inputs": content, "parameters": None})


def test_the_functions_are_those_of_the_logits(handler: EndpointHandler, video: Path) -> None:
    by_name = {
        function: {
            item["label"]: item["score"]
            for item in handler({"inputs": video.read_bytes(), "parameters": {"function_to_apply": function}})
        }
        for function in ("none", "sigmoid", "softmax")
    }
    logits = torch.tensor([by_name["none"][name] for name in NAMES])
    for function, expected in (("sigmoid", logits.sigmoid()), ("softmax", logits.softmax(0))):
        found = torch.tensor([by_name[function][name] for name in NAMES])
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_a_clip_of_other_length(handler: EndpointHandler, video: Path) -> None:
    eight, sixteen = (
        handler({"inputs": video.read_bytes(), "parameters": {"num_frames": count}}) for count in (8, 16)
    )
    assert eight == handler({"inputs": video.read_bytes()}) and eight != sixteen


@pytest.mark.parametrize("frames", [1, 3])
def test_a_video_shorter_than_a_clip_is_answered(handler: EndpointHandler, model_dir: Path, frames: int) -> None:
    content = encode_clip(MotionSource(split="test").frames(0)[:frames])
    (found,) = predict(model_dir, content, device=handler._model.device)
    assert [item["label"] for item in handler({"inputs": base64_of(content)})] == found.labels


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_other_heads_answer_as_they_were_trained(tmp_path: Path, video: Path, kind: str) -> None:
    serving = EndpointHandler(save_model(tmp_path, problem_type=kind))
    (found,) = predict(tmp_path, video, device=serving._model.device)
    answer = serving({"inputs": video.read_bytes()})
    assert {item["label"]: item["score"] for item in answer} == dict(zip(found.labels, found.scores, strict=True))
    assert [item["score"] for item in answer] == sorted(found.scores, reverse=True)


def test_sixteen_requests_at_once_are_answered_as_one_by_one(
    fetching: EndpointHandler, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[dict[str, Any]] = []
    for number in range(16):
        content = encode_clip(MotionSource(split="test").frames(number))
        inputs = base64_of(content) if number % 4 else server.url("/video")
        requests.append({"inputs": inputs, "parameters": {"frame_sampling_rate": 1 + number % 3}})
    alone = [fetching(request) for request in requests]
    assert len({json.dumps(answer) for answer in alone}) > 8
    at_once, most, lock = [0], [0], threading.Lock()
    answer = EndpointHandler._answer

    def counted(self: EndpointHandler, *arguments: Any) -> list[dict[str, Any]]:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        try:
            return answer(self, *arguments)
        finally:
            with lock:
                at_once[0] -= 1

    monkeypatch.setattr(EndpointHandler, "_answer", counted)
    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(fetching, requests))
    assert together == alone and most[0] == 2


def test_scores_that_are_no_numbers_are_the_servers_fault(model_dir: Path, video: Path) -> None:
    broken = EndpointHandler(model_dir)
    with torch.no_grad():
        broken._model.classifier.bias += math.nan
    with pytest.raises(ServerError, match="^server error: "):
        broken({"inputs": video.read_bytes()})


# What is refused.


@pytest.mark.parametrize("body", [None, 3, [], "text", {}, {"parameters": {}}, {"inputs": "", "top_k": 3}])
def test_a_body_of_another_form(handler: EndpointHandler, body: Any) -> None:
    with pytest.raises(BadRequest, match="^bad request: the body "):
        handler(body)


@pytest.mark.parametrize(
    "inputs", [None, 3, 1.5, True, [], ["AAAA"], {}, {"video": "AAAA"}, "", "  ", b"", "not base64", "AAA", "clip.mp4"]
)
def test_inputs_that_hold_no_video(handler: EndpointHandler, inputs: Any) -> None:
    assert refused(handler, inputs).startswith("inputs must be the video: its bytes as base64 text")


def test_files_that_are_no_video(handler: EndpointHandler, video: Path) -> None:
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1/a.ts\n"
    session = b"\x47" + b"\nc=IN IP4 127.0.0.1\n" + b"\x47" * 2000
    for content in (
        b"a text, renamed .mp4",
        playlist,
        session,
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        bytes(99),
    ):
        assert refused(handler, base64_of(content)).startswith("this is no video file")
    assert refused(handler, "/var/lib/something00").startswith("this is no video file")  # is base64, by chance
    for content in (video.read_bytes()[:400], b"\0\0\0\x18ftypisom" + bytes(200)):
        assert refused(handler, base64_of(content)).startswith("the video cannot be decoded: ")
    assert "not in base64" in refused(handler, "data:video/mp4,abc")
    assert "cannot be decoded" in refused(handler, f"data:;base64,{base64_of(bytes(4) + b'ftyp' + bytes(9))}")


def test_every_container_that_is_named_is_taken(handler: EndpointHandler, tmp_path: Path, video: Path) -> None:
    program = pytest.importorskip("hf_videomae.video.encoding")._ffmpeg_program()
    if program is None:
        pytest.skip("the program ffmpeg is not installed")
    for ending, codec in (
        ("mov", "copy"), ("mkv", "copy"), ("avi", "mpeg4"), ("ts", "copy"), ("m2ts", "copy"), ("mpg", "mpeg2video"),
        ("flv", "copy"), ("asf", "mpeg4"),
    ):  # fmt: skip
        path = tmp_path / f"v.{ending}"
        subprocess.run([program[0], "-v", "error", "-i", video, "-r", "25", "-c:v", codec, path], check=True)
        assert len(handler({"inputs": path.read_bytes()})) == 3, ending


def test_more_than_the_limits_allow(fetching: EndpointHandler, model_dir: Path, video: Path) -> None:
    assert refused(fetching, bytes(200_001)) == "the video has 200001 bytes; at most 200000 are allowed"
    assert "200000" in refused(fetching, base64_of(bytes(200_001)))
    assert "more than 200000 bytes" in refused(fetching, "A" * 1_000_000)
    for setting, words in (("max_pixels", "pixels"), ("max_frames", "frames or more"), ("max_clip_bytes", "at once")):
        small = EndpointHandler(model_dir, settings=EndpointSettings(**{setting: 20}))
        text = refused(small, video.read_bytes())
        assert words in text and "at most 20 are allowed (a limit of this server)" in text


def test_tighter_limits_are_those_of_a_thread(video: Path) -> None:
    with limits.override_limits(pixels=10, frames=10, clip_bytes=10):
        with pytest.raises(VideoDecodeError, match="at most 10"):
            open_video(video)
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(lambda: open_video(video).num_frames).result() == 48
    assert open_video(video).num_frames == 48


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("top_k", value) for value in (0, -1, 1.0, "3", True, [])),
        *(("num_frames", value) for value in (0, 7, 66, 10**9, "8", False)),
        *(("frame_sampling_rate", value) for value in (0, -4, 2.5, 10**9, {})),
        *(("function_to_apply", value) for value in ("max", "", 1, ["softmax"], {"a": 1})),
        *(("views", value) for value in ("5", "0x1", "40x1", "99999999999x9", 5, [2, 3], "5x3 " * 50)),
    ],
)
def test_parameters_that_cannot_be(handler: EndpointHandler, video: Path, name: str, value: Any) -> None:
    assert refused(handler, video.read_bytes(), **{name: value}).startswith(f"{name} must be ")


def test_unknown_parameters_are_named(handler: EndpointHandler, video: Path) -> None:
    text = refused(handler, video.read_bytes(), topk=3)
    assert text.startswith("parameters holds 'topk'; there are top_k, ")
    assert len(refused(handler, video.read_bytes(), **{f"p{n}" * 99: 1 for n in range(99)})) < 300
    with pytest.raises(BadRequest, match="parameters must be a JSON object, not a list"):
        handler({"inputs": video.read_bytes(), "parameters": []})


# URLs.


def test_a_url_is_read_without_credentials(
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
        ("/empty", "this is no video file"),
        ("/packed", "packed"),
        ("/boasts", "has 1000000000000 bytes; at most 200000"),
        ("/breaks", "stopped after 100 of"),
        ("/endless", "more than 200000 bytes"),
        ("/loop", "redirects more than 3 times"),
        ("/to/http:~127.0.0.1:1/video", "it redirects|not on the public internet"),
        ("/to/http:~169.254.169.254/latest/meta-data", "not on the public internet"),
        ("/to/http:~[::1]/", "not on the public internet"),
        ("/to/file:~/etc/passwd", "it redirects, and there the URL must begin with http"),
        ("/to/http:~a:b@example.org/", "it redirects, and there the URL holds a name or password"),
        ("/to/http:~[", "it redirects to a URL that is malformed"),
    ],
)
def test_servers_that_misbehave(fetching: EndpointHandler, server: Loopback, path: str, words: str) -> None:
    text = refused(fetching, server.url(path))
    assert any(word in text for word in words.split("|"))
    assert server.address not in text and "127.0.0.1" not in text


@pytest.mark.parametrize("path", ["/drips/headers", "/drips/body", "/silent"])
def test_servers_that_take_their_time(impatient: EndpointHandler, server: Loopback, path: str) -> None:
    start = time.monotonic()
    assert refused(impatient, server.url(path)).startswith("the URL's server took too long: 0.3 s without a byte")
    assert time.monotonic() - start < 20  # the silent one waits 30, the others do not end


# The time of a request.


@pytest.mark.parametrize("path", ["/drips/headers", "/drips/body", "/silent"])
def test_a_download_does_not_outlast_its_request(model_dir: Path, server: Loopback, path: str) -> None:
    hurried = EndpointHandler(model_dir, settings=EndpointSettings(allow=(server.address,), request_seconds=0.2))
    assert refused(hurried, server.url(path)).startswith("the answer takes longer than 0.2 s")


def test_decoding_and_prediction_end_with_the_time_of_the_request(model_dir: Path, video: Path) -> None:
    hurried = EndpointHandler(model_dir, settings=EndpointSettings(request_seconds=1e-6))
    text = refused(hurried, video.read_bytes(), views="2x3")
    assert text.startswith("the answer takes longer than 1e-06 s, which is what one request may take in all; give a")
    clips = torch.zeros(2, 8, 3, 64, 64)
    assert len(hurried._predict_scores(clips, None, time.monotonic() + 60)) == len(NAMES)
    with pytest.raises(BadRequest, match="takes longer"):
        hurried._predict_scores(clips, None, time.monotonic())


def test_whoever_gets_no_turn_is_told_so(model_dir: Path, server: Loopback, video: Path) -> None:
    settings = EndpointSettings(
        allow=(server.address,), max_concurrent_decodes=1, max_concurrent_downloads=1, request_seconds=0.2
    )
    busy = EndpointHandler(model_dir, settings=settings)
    for places, inputs in ((busy._decode_slots, video.read_bytes()), (busy._download_slots, server.url("/video"))):
        with places, pytest.raises(ServerError, match="^server error: too many requests at once: .* within 0.2 s"):
            busy({"inputs": inputs})
        assert places.acquire(blocking=False)  # it took no place with it
        places.release()


def test_the_time_of_a_request_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_VIDEOMAE_ENDPOINT_SECONDS", raising=False)
    assert EndpointSettings().request_seconds == 120
    monkeypatch.setenv("HF_VIDEOMAE_ENDPOINT_SECONDS", " 7.5 ")
    assert EndpointSettings().request_seconds == 7.5 and EndpointSettings(request_seconds=3).request_seconds == 3
    for wrong in ("0", "-1", "soon", "nan", "inf"):
        monkeypatch.setenv("HF_VIDEOMAE_ENDPOINT_SECONDS", wrong)
        with pytest.raises(ValueError, match=f"HF_VIDEOMAE_ENDPOINT_SECONDS is '{wrong}'; give seconds above 0"):
            EndpointSettings()


def test_what_is_no_web_server_is_not_quoted(model_dir: Path) -> None:
    with no_web_server() as address:
        fetching = EndpointHandler(model_dir, settings=EndpointSettings(allow=(address,)))
        assert (
            refused(fetching, f"http://{address}/")
            == "the URL cannot be downloaded: what answers there is no web server"
        )
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
def test_nothing_private_is_fetched(handler: EndpointHandler, host: str) -> None:
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
def test_urls_that_are_refused_unasked(
    handler: EndpointHandler, url: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)
    monkeypatch.setattr(socket, "create_connection", None)
    text = refused(handler, url)
    assert any(word in text for word in words.split("|")) and "secret" not in text


def test_public_addresses_are_public() -> None:
    for address in ("8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::8a"):
        assert is_public(ipaddress.ip_address(address))
    target = parse_url("HTTPS://Example.ORG/a%20b?c=d#e")
    assert (target.scheme, target.host, target.port, target.path) == ("https", "example.org", 443, "/a%20b?c=d")


def resolving_to(*answers: list[str]) -> Any:
    """A name server that gives one answer after the other."""
    left = list(answers)

    def getaddrinfo(host: str, port: int, *arguments: Any, **settings: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in left.pop(0)]

    return getaddrinfo


def test_a_name_is_resolved_once_and_that_address_is_gone_to(
    fetching: EndpointHandler, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.server_port
    # Asked again it would say something else; to connect to a number nobody has to be asked.
    numbers = socket.getaddrinfo
    monkeypatch.setattr(socket, "create_connection", pinned(numbers, monkeypatch))
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to(["127.0.0.1"], ["10.0.0.1"]))
    assert fetching({"inputs": f"http://videos.example:{port}/video"})
    assert server.headers["Host"] == f"videos.example:{port}"
    assert "public" in refused(fetching, f"http://videos.example:{port}/video")


def test_a_certificate_is_that_of_the_name_not_of_the_address(
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


def test_one_private_address_among_public_ones_is_enough(
    handler: EndpointHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "create_connection", None)
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to(["8.8.8.8", "192.168.0.1"]))
    assert refused(handler, "http://both.example/") == "the URL's host is not on the public internet"


def test_an_allowed_address_is_allowed_with_its_port(fetching: EndpointHandler, server: Loopback) -> None:
    with serving(b"") as other:
        assert "public" in refused(fetching, other.url("/video"))
        assert "public" in refused(fetching, server.url(f"/to/http:~{other.address}/video"))
        assert not other.asked


# Settings, and what is left behind.


@pytest.mark.parametrize(
    "setting",
    [{"max_bytes": 0}, {"decodes": -1}, {"max_redirects": -1}, {"allow": ("localhost:80",)}, {"allow": ("::1",)}],
)
def test_settings_that_make_no_sense(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        EndpointSettings(**setting)


def test_nothing_of_the_input_is_logged_or_left(
    handler: EndpointHandler,
    video: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    secret = base64_of(b"private words of mine")
    handler({"inputs": video.read_bytes()})
    refused(handler, base64_of(video.read_bytes()[:400] + b"private words of mine"))
    texts = [refused(handler, f"http://127.0.0.1/{secret}?{secret}"), refused(handler, f"{secret}!{secret}")]
    assert not any(secret[:8] in text for text in [*texts, caplog.text])
    assert "private words" not in caplog.text and not list(tmp_path.iterdir())
