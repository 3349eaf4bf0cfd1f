"""What a published text must not hold: paths of this machine, names in them, credentials."""

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
    """A path as others may read it: absolute ones keep their last name alone.

    Args:
        path: a path, a Hub id, a URL or a plain name.

    Returns:
        `path/to/NAME` for an absolute path or one that leaves its folder; `examples/...` for a script of this
        project; anything else as it is, without credentials.
    """
    if not is_local_path(path):
        return _strip_url_secrets(path)
    whole = PureWindowsPath(re.sub(rf"^{_FILE_URL}", "", path))  # it splits at both kinds of slashes
    parts = [part for part in whole.parts if part != whole.anchor]
    if "examples" in parts[:-1]:
        return "/".join(parts[parts.index("examples") :])
    parts = [part for part in parts if part != ".." and not part.startswith(("~", "$"))]
    if parts[:1] and parts[0].lower() in _HOME_FOLDERS:
        parts = parts[2:]
    return f"path/to/{_strip_url_secrets(parts[-1]) if parts else 'folder'}"


def redact_text(text: str) -> str:
    """Free text, such as the reason of an error, with the paths in it shortened."""
    text = _QUOTED_LOCAL_PATH.sub(
        lambda found: f"{found[1]}{redact_path(found[0][1:-1])}{found[1]}", _strip_url_secrets(text)
    )
    return _LOCAL_PATH_IN_TEXT.sub(lambda found: redact_path(found[0]), text)


def redact_command(command: str) -> str:
    """A command line with the paths in it shortened, words as `--flag=PATH` included."""
    command = redact_credentials(command)
    try:
        words = shlex.split(command)
    except ValueError:  # an open quote: not written by shlex, so no shell words
        return redact_text(command)
    return " ".join(_quote_word(_redact_word(word)) for word in words)


def redact_values(values: Any) -> Any:
    """Every text in a JSON value as `redact_path` shows it, where it is a path, and as `redact_text` otherwise."""
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
    """Return a text without credentials, the token of this machine's user included."""
    from huggingface_hub import get_token

    return redact_credentials(text, get_token())


def is_local_path(path: str) -> bool:
    """Whether a text can only be a path of a machine: absolute, or leaving its folder."""
    return _LOCAL_PATH.fullmatch(path) is not None or "/../" in path


def _redact_word(word: str) -> str:
    name, equals, value = word.partition("=")
    if equals and not is_local_path(name):
        return f"{name}={redact_path(value)}"
    return redact_path(word)


def _quote_word(word: str) -> str:
    # A shortened path holds nothing that a shell would take for a pattern but `*`, which is quoted again.
    return shlex.quote(word)


def _strip_url_secrets(text: str) -> str:
    text = _URL.sub(lambda found: found["scheme"] + found["rest"], text)
    return redact_credentials(text)
