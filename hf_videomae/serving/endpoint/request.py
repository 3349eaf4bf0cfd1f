"""Parse a request: the video in one of its forms, and the parameters."""

import base64
import binascii
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...video.containers import SUPPORTED, find_container
from ...video.decode_errors import VideoDecodeError
from ...video.views import parse_views
from .endpoint_settings import EndpointSettings
from .request_errors import BadRequest

SCORE_FUNCTIONS = ("softmax", "sigmoid", "none")
_BODY_KEYS = ("inputs", "parameters")
_PARAMETER_NAMES = ("top_k", "function_to_apply", "num_frames", "frame_sampling_rate", "views")
_ACCEPTED_INPUTS = "inputs must be the video: its bytes as base64 text (a data: URL, too), or an http(s) URL of it"
_MAX_FRAME_RATE_STEP = 10_000


@dataclass(frozen=True, kw_only=True)
class RequestParameters:
    """The parameters of a request; None: the model decides.

    Attributes:
        top_k: the most classes in the answer.
        function_to_apply: `softmax`, `sigmoid` or `none`, applied to each view's logits.
        num_frames: frames of a clip.
        frame_sampling_rate: distance between the frames of a clip.
        views: (temporal positions, crops) that are averaged.
    """

    top_k: int | None = None
    function_to_apply: str | None = None
    num_frames: int | None = None
    frame_sampling_rate: int | None = None
    views: tuple[int, int] = (1, 1)


def split_request_body(data: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return the inputs and the parameters of a request, unchecked.

    Raises:
        BadRequest: for anything but a JSON object of these two.
    """
    if not isinstance(data, Mapping) or "inputs" not in data:
        raise BadRequest('the body must be a JSON object {"inputs": ..., "parameters": {...}}')
    unknown = [name for name in data if name not in _BODY_KEYS]
    if unknown:
        raise BadRequest(f"the body holds {_join_names(unknown)}; it may hold inputs and parameters")
    parameters = data.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise BadRequest(f"parameters must be a JSON object, not {_json_type(parameters)}")
    return data["inputs"], parameters or {}


def parse_parameters(values: Mapping[str, Any], *, cube_frames: int, settings: EndpointSettings) -> RequestParameters:
    """Check the parameters of a request.

    Args:
        values: by the names of the Hub's task schema, and `views` (`"5x3"`); null is the same as leaving it out.
        cube_frames: frames of the model's cubes; the frames of a clip are a multiple of it.
        settings: the limits.

    Raises:
        BadRequest: for unknown names and invalid values.
    """
    unknown = [name for name in values if name not in _PARAMETER_NAMES]
    if unknown:
        raise BadRequest(f"parameters holds {_join_names(unknown)}; there are {', '.join(_PARAMETER_NAMES)}")
    present = {name: value for name, value in values.items() if value is not None}
    limits = {"top_k": None, "num_frames": settings.max_num_frames, "frame_sampling_rate": _MAX_FRAME_RATE_STEP}
    for name, maximum in limits.items():
        _check_integer(name, present.get(name), maximum=maximum)
    if present.get("num_frames", cube_frames) % cube_frames:
        raise BadRequest(f"num_frames must be a multiple of {cube_frames}, the frames of the model's cubes")
    if present.get("function_to_apply", SCORE_FUNCTIONS[0]) not in SCORE_FUNCTIONS:
        raise BadRequest(f"function_to_apply must be one of {', '.join(SCORE_FUNCTIONS)}")
    if "views" in present:
        present["views"] = _parse_views(present["views"], maximum=settings.max_views)
    return RequestParameters(**present)


def is_url(inputs: Any) -> bool:
    """Return whether the inputs are a URL."""
    return isinstance(inputs, str) and re.match(r"\s*[A-Za-z][A-Za-z0-9+.-]*://", inputs) is not None


def read_inline_video(inputs: Any, *, max_bytes: int) -> bytes:
    """Return the bytes of a video that is part of the request.

    Raises:
        BadRequest: when there is none, or it is too large.
    """
    if isinstance(inputs, str):
        content = _decode_base64(inputs, max_bytes=max_bytes)
    elif isinstance(inputs, bytes | bytearray | memoryview):
        content = bytes(inputs)
    else:
        raise BadRequest(f"{_ACCEPTED_INPUTS}; got {_json_type(inputs)}")
    if not content:
        raise BadRequest(f"{_ACCEPTED_INPUTS}; got nothing")
    if len(content) > max_bytes:
        raise BadRequest(f"the video has {len(content)} bytes; at most {max_bytes} are allowed")
    return content


def check_video_container(video: bytes) -> None:
    """Check by the first bytes that a file is a video, before any decoder sees it.

    Raises:
        BadRequest: for any other file.
    """
    try:
        find_container(io.BytesIO(video), name="the video")
    except VideoDecodeError as error:
        raise BadRequest(f"this is not a video file; {SUPPORTED} are accepted") from error


def _decode_base64(text: str, *, max_bytes: int) -> bytes:
    # 4 characters for 3 bytes, a line break of 2 after every 76, and 1024 for the head of a data: URL.
    if len(text) > max_bytes * 4 // 3 * 78 // 76 + 1024:
        raise BadRequest(f"the video has more than {max_bytes} bytes, the most that is allowed")
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise BadRequest("the data: URL is not in base64; give data:video/mp4;base64,...")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: characters outside ASCII
        raise BadRequest(f"{_ACCEPTED_INPUTS}; this text is neither") from error


def _parse_views(value: Any, *, maximum: int) -> tuple[int, int]:
    if not isinstance(value, str) or len(value) > 16:
        raise BadRequest('views must be a text such as "5x3": temporal positions x crops')
    try:
        positions, crops = parse_views(value)
    except ValueError as error:
        raise BadRequest('views must be temporal positions x crops, each at least 1, such as "5x3"') from error
    if positions * crops > maximum:
        raise BadRequest(f"views must be at most {maximum} in all, not {positions * crops}")
    return positions, crops


def _check_integer(name: str, value: Any, *, maximum: int | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRequest(f"{name} must be a whole number, not {_json_type(value)}")
    if value < 1 or (maximum is not None and value > maximum):
        raise BadRequest(f"{name} must be at least 1{'' if maximum is None else f' and at most {maximum}'}")


def _json_type(value: Any) -> str:
    names = {"NoneType": "null", "str": "text", "bool": "true or false", "dict": "an object", "list": "a list"}
    return names.get(type(value).__name__, f"a {type(value).__name__}")


def _join_names(names: list[Any]) -> str:
    """Join names from the request, cut short, because they may be anything."""
    shown = ", ".join(repr(str(name)[:40]) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
