"""Redact local paths and credentials in texts that are published."""

import re
import shlex
from pathlib import PureWindowsPath
from typing import Any

from .credentials import redact_credentials

_FILE_URL = r"(?i:(?:[a-z]+\+)?file:(?://)?)"
_LOCAL_PATH_START = rf"(?:{_FILE_URL})?(?:~[\w.-]*[\\/]|\.\.[\\/]|\\\\|[A-Za-z]:[\\/]|\$\w+[\\/]|\$\{{\w+\}}[\\/]|/)"
_LOCAL_PATH = re.compile(rf"(?:{_LOCAL_PATH_START}.*|~[\w.-]*|\.\.)", flags=re.DOTALL)
_QUOTED_LOCAL_PATH = re.compile(rf"(['\"`]){_LOCAL_PATH_START}(?:(?!\1).)+\1")
_LOCAL_PATH_IN_TEXT = re.compile(rf"(?<![\w./:~\\]){_LOCAL_PATH_START}[^\s'\"`,;:()<>]+")
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?:[^/\s?#]*@)?(?P<rest>[^\s?#'\"]*)(?:[?#][^\s'\"]*)?", flags=re.IGNORECASE
)
_HOME_FOLDERS = ("home", "users")


def redact_path(path: str) -> str:
    """Return a path for publication.

    Args:
        path: a path, a Hub id, a URL or a plain name.

    Returns:
        `path/to/NAME` for an absolute path or one that leaves its folder; `examples/...` for a script of this
        project; anything else unchanged except for credentials.
    """
    if not is_local_path(path):
        return _strip_url_secrets(path)
    whole = PureWindowsPath(re.sub(rf"^{_FILE_URL}", "", path))  # it splits at / and \
    parts = [part for part in whole.parts if part != whole.anchor]
    if "examples" in parts[:-1]:
        return "/".join(parts[parts.index("examples") :])
    parts = [part for part in parts if part != ".." and not part.startswith(("~", "$"))]
    if parts[:1] and parts[0].lower() in _HOME_FOLDERS:
        parts = parts[2:]
    return f"path/to/{_strip_url_secrets(parts[-1]) if parts else 'folder'}"


def redact_text(text: str) -> str:
    """Return free text, such as an error message, with its paths redacted."""
    text = _strip_url_secrets(text)
    text = _QUOTED_LOCAL_PATH.sub(lambda match: f"{match[1]}{redact_path(match[0][1:-1])}{match[1]}", text)
    return _LOCAL_PATH_IN_TEXT.sub(lambda match: redact_path(match[0]), text)


def redact_command(command: str) -> str:
    """Return a command line with its paths redacted, also in words such as `--flag=PATH`."""
    command = redact_credentials(command)
    try:
        words = shlex.split(command)
    except ValueError:  # an open quote, so it cannot be split into words
        return redact_text(command)
    return shlex.join(map(_redact_word, words))


def redact_values(values: Any) -> Any:
    """Return a JSON value with every path, command and text in it redacted."""
    if isinstance(values, dict):
        return {
            key: redact_command(value) if key == "command" else redact_values(value) for key, value in values.items()
        }
    if isinstance(values, list):
        return [redact_values(value) for value in values]
    if isinstance(values, str):
        return redact_path(values) if is_local_path(values) else redact_text(values)
    return values


def redact_secrets(text: str) -> str:
    """Return a text without credentials, including the Hub token of this machine's user."""
    from huggingface_hub import get_token

    return redact_credentials(text, get_token())


def is_local_path(path: str) -> bool:
    """Return whether a text is certainly a local path: absolute, or leaving its folder."""
    return _LOCAL_PATH.fullmatch(path) is not None or "/../" in path


def _redact_word(word: str) -> str:
    name, equals, value = word.partition("=")
    if equals and not is_local_path(name):
        return f"{name}={redact_path(value)}"
    return redact_path(word)


def _strip_url_secrets(text: str) -> str:
    text = _URL.sub(lambda match: match["scheme"] + match["rest"], text)
    return redact_credentials(text)
