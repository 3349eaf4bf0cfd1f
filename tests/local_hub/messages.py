"""Define requests and responses as the Hub's modules exchange them, without sockets."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote


@dataclass(frozen=True)
class HubResponse:
    """A response; `file` is sent in place of `body`, whole or the range that was asked for."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: Path | None = None


@dataclass(frozen=True)
class HubRequest:
    """A request; `path` is raw, because `refs%2Fpr%2F1` is one part of it."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    token: str | None = None
    host: str = ""

    @property
    def parts(self) -> list[str]:
        return [unquote(part) for part in self.path.strip("/").split("/")]

    def has_flag(self, name: str) -> bool:
        """Return whether a boolean of the query is on."""
        return parse_qs(self.query).get(name, ["false"])[0].lower() in ("true", "1")

    def json(self) -> Any:
        """Return the body, `{}` if there is none."""
        return json.loads(self.body or b"{}")


def json_response(value: object, *, status: int = 200, **headers: str) -> HubResponse:
    return HubResponse(status, {"Content-Type": "application/json", **headers}, json.dumps(value).encode())


def refuse(status: int, code: str, message: str, **headers: str) -> HubResponse:
    """Return an error as the Hub words it: the clients choose their exception by X-Error-Code."""
    named = {"X-Error-Code": code} if code else {}
    return json_response({"error": message}, status=status, **named, **{"X-Error-Message": message}, **headers)
