"""Send requests to an endpoint's handler."""

import base64
from typing import Any

import pytest

from hf_videomae.serving.endpoint import BadRequest, EndpointHandler


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def refused(handler: EndpointHandler, inputs: Any, **parameters: Any) -> str:
    """Return the text of the error, without its beginning."""
    with pytest.raises(BadRequest) as caught:
        handler({"inputs": inputs, "parameters": parameters})
    text = str(caught.value)
    assert text.startswith("bad request: ") and len(text.splitlines()) == 1 and len(text) < 400
    return text.removeprefix("bad request: ")
