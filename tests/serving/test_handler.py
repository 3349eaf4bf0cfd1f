"""Test the answers of an endpoint's handler, and the requests that it refuses."""

import base64
import json
import logging
import math
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_videomae import predict
from hf_videomae.data.motion import MotionSource, encode_clip
from hf_videomae.serving.endpoint import BadRequest, EndpointHandler, EndpointSettings, ServerError
from hf_videomae.video import limits
from hf_videomae.video.decoding import VideoDecodeError, open_video
from tests.helpers.endpoint import base64_of, refused
from tests.helpers.loopback import Loopback
from tests.helpers.models import NAMES, save_model

SCHEMAS = Path(__file__).parent / "schemas"


# Answers.


def problems(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None) -> list[str]:
    """Return how a value violates a JSON schema; this knows only the keywords of the stored schemas."""
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


def test_schema_checker_finds_problems() -> None:
    assert problems([{"label": "a"}], schema("output")) == ["score is missing"]
    assert problems([{"label": "a", "score": "1"}], schema("output")) == ["'1' is no number"]
    wrong = {"inputs": "", "parameters": {"function_to_apply": "max", "top_k": 1.5}}
    assert len(problems(wrong, schema("input"))) == 2
    assert problems({}, schema("input")) == ["inputs is missing"]


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_requests_and_answers_follow_the_task_schema(handler: EndpointHandler, video: Path, function: str) -> None:
    parameters = {"top_k": 2, "function_to_apply": function, "num_frames": 8, "frame_sampling_rate": 3}
    request = {"inputs": base64_of(video.read_bytes()), "parameters": parameters}
    assert not problems(request, schema("input"))
    answer = handler(request)
    assert not problems(answer, schema("output")) and json.loads(json.dumps(answer)) == answer
    assert len(answer) == 2 and answer[0]["score"] >= answer[1]["score"]
    assert {item["label"] for item in answer} < set(NAMES)


def test_answer_equals_predict(handler: EndpointHandler, model_dir: Path, video: Path) -> None:
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


def test_score_functions_match_the_logits(handler: EndpointHandler, video: Path) -> None:
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


def test_num_frames_changes_the_answer(handler: EndpointHandler, video: Path) -> None:
    eight, sixteen = (
        handler({"inputs": video.read_bytes(), "parameters": {"num_frames": count}}) for count in (8, 16)
    )
    assert eight == handler({"inputs": video.read_bytes()}) and eight != sixteen


@pytest.mark.parametrize("frames", [1, 3])
def test_video_shorter_than_a_clip_is_answered(handler: EndpointHandler, model_dir: Path, frames: int) -> None:
    content = encode_clip(MotionSource(split="test").frames(0)[:frames])
    (found,) = predict(model_dir, content, device=handler._model.device)
    assert [item["label"] for item in handler({"inputs": base64_of(content)})] == found.labels


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_multi_label_and_regression_models_are_answered(tmp_path: Path, video: Path, kind: str) -> None:
    serving = EndpointHandler(save_model(tmp_path, problem_type=kind))
    (found,) = predict(tmp_path, video, device=serving._model.device)
    answer = serving({"inputs": video.read_bytes()})
    assert {item["label"]: item["score"] for item in answer} == dict(zip(found.labels, found.scores, strict=True))
    assert [item["score"] for item in answer] == sorted(found.scores, reverse=True)


def test_concurrent_requests_get_the_same_answers(
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


def test_non_finite_scores_are_a_server_error(model_dir: Path, video: Path) -> None:
    broken = EndpointHandler(model_dir)
    with torch.no_grad():
        broken._model.classifier.bias += math.nan
    with pytest.raises(ServerError, match="^server error: "):
        broken({"inputs": video.read_bytes()})


# Refused requests.


@pytest.mark.parametrize("body", [None, 3, [], "text", {}, {"parameters": {}}, {"inputs": "", "top_k": 3}])
def test_malformed_body_is_refused(handler: EndpointHandler, body: Any) -> None:
    with pytest.raises(BadRequest, match="^bad request: the body "):
        handler(body)


@pytest.mark.parametrize(
    "inputs", [None, 3, 1.5, True, [], ["AAAA"], {}, {"video": "AAAA"}, "", "  ", b"", "not base64", "AAA", "clip.mp4"]
)
def test_inputs_without_video_are_refused(handler: EndpointHandler, inputs: Any) -> None:
    assert refused(handler, inputs).startswith("inputs must be the video: its bytes as base64 text")


def test_files_that_are_not_videos_are_refused(handler: EndpointHandler, video: Path) -> None:
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1/a.ts\n"
    session = b"\x47" + b"\nc=IN IP4 127.0.0.1\n" + b"\x47" * 2000
    for content in (
        b"a text, renamed .mp4",
        playlist,
        session,
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        bytes(99),
    ):
        assert refused(handler, base64_of(content)).startswith("this is not a video file")
    assert refused(handler, "/var/lib/something00").startswith("this is not a video file")  # is base64, by chance
    for content in (video.read_bytes()[:400], b"\0\0\0\x18ftypisom" + bytes(200)):
        assert refused(handler, base64_of(content)).startswith("the video cannot be decoded: ")
    assert "not in base64" in refused(handler, "data:video/mp4,abc")
    assert "cannot be decoded" in refused(handler, f"data:;base64,{base64_of(bytes(4) + b'ftyp' + bytes(9))}")


def test_every_supported_container_is_accepted(handler: EndpointHandler, tmp_path: Path, video: Path) -> None:
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


def test_videos_over_the_limits_are_refused(fetching: EndpointHandler, model_dir: Path, video: Path) -> None:
    assert refused(fetching, bytes(200_001)) == "the video has 200001 bytes; at most 200000 are allowed"
    assert "200000" in refused(fetching, base64_of(bytes(200_001)))
    assert "more than 200000 bytes" in refused(fetching, "A" * 1_000_000)
    for setting, words in (("max_pixels", "pixels"), ("max_frames", "frames or more"), ("max_clip_bytes", "at once")):
        small = EndpointHandler(model_dir, settings=EndpointSettings(**{setting: 20}))
        text = refused(small, video.read_bytes())
        assert words in text and "at most 20 are allowed (a limit of this server)" in text


def test_limits_apply_to_one_thread_only(video: Path) -> None:
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
def test_invalid_parameters_are_refused(handler: EndpointHandler, video: Path, name: str, value: Any) -> None:
    assert refused(handler, video.read_bytes(), **{name: value}).startswith(f"{name} must be ")


def test_unknown_parameters_are_named(handler: EndpointHandler, video: Path) -> None:
    text = refused(handler, video.read_bytes(), topk=3)
    assert text.startswith("parameters holds 'topk'; there are top_k, ")
    assert len(refused(handler, video.read_bytes(), **{f"p{n}" * 99: 1 for n in range(99)})) < 300
    with pytest.raises(BadRequest, match="parameters must be a JSON object, not a list"):
        handler({"inputs": video.read_bytes(), "parameters": []})


# The time of a request.


def test_decoding_and_prediction_end_with_the_time_of_the_request(model_dir: Path, video: Path) -> None:
    hurried = EndpointHandler(model_dir, settings=EndpointSettings(request_seconds=1e-6))
    text = refused(hurried, video.read_bytes(), views="2x3")
    assert text.startswith("the answer takes longer than 1e-06 s, the limit of one request; give a")
    clips = torch.zeros(2, 8, 3, 64, 64)
    assert len(hurried._predict_scores(clips, None, time.monotonic() + 60)) == len(NAMES)
    with pytest.raises(BadRequest, match="takes longer"):
        hurried._predict_scores(clips, None, time.monotonic())


def test_request_without_a_free_slot_is_a_server_error(model_dir: Path, server: Loopback, video: Path) -> None:
    settings = EndpointSettings(
        allow=(server.address,), max_concurrent_decodes=1, max_concurrent_downloads=1, request_seconds=0.2
    )
    busy = EndpointHandler(model_dir, settings=settings)
    for places, inputs in ((busy._decode_slots, video.read_bytes()), (busy._download_slots, server.url("/video"))):
        with places, pytest.raises(ServerError, match="^server error: too many requests at once: .* within 0.2 s"):
            busy({"inputs": inputs})
        assert places.acquire(blocking=False)  # the failed request kept no slot
        places.release()


def test_request_seconds_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_VIDEOMAE_ENDPOINT_SECONDS", raising=False)
    assert EndpointSettings().request_seconds == 120
    monkeypatch.setenv("HF_VIDEOMAE_ENDPOINT_SECONDS", " 7.5 ")
    assert EndpointSettings().request_seconds == 7.5 and EndpointSettings(request_seconds=3).request_seconds == 3
    for wrong in ("0", "-1", "soon", "nan", "inf"):
        monkeypatch.setenv("HF_VIDEOMAE_ENDPOINT_SECONDS", wrong)
        with pytest.raises(ValueError, match=f"HF_VIDEOMAE_ENDPOINT_SECONDS is '{wrong}'; give seconds above 0"):
            EndpointSettings()


# Settings and leftovers.


@pytest.mark.parametrize(
    "setting",
    [
        {"max_bytes": 0},
        {"max_concurrent_decodes": -1},
        {"max_redirects": -1},
        {"allow": ("localhost:80",)},
        {"allow": ("::1",)},
    ],
)
def test_invalid_settings_raise(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        EndpointSettings(**setting)


def test_nothing_of_the_input_is_logged_or_left_on_disk(
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
