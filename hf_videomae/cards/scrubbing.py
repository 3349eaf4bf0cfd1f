"""What a published text must not hold: paths of this machine, names in them, credentials."""

import re
import shlex
from pathlib import PureWindowsPath
from typing import Any

from ..records import without_credentials

_FILE_URL = r"(?i:(?:[a-z]+\+)?file:(?://)?)"
_ANCHOR = rf"(?:{_FILE_URL})?(?:~[\w.-]*[\\/]|\.\.[\\/]|\\\\|[A-Za-z]:[\\/]|\$\w+[\\/]|\$\{{\w+\}}[\\/]|/)"
_LOCAL = re.compile(rf"(?:{_ANCHOR}.*|~[\w.-]*|\.\.)", flags=re.DOTALL)
_QUOTED = re.compile(rf"(['\"`]){_ANCHOR}(?:(?!\1).)+\1")
_IN_TEXT = re.compile(rf"(?<![\w./:~\\]){_ANCHOR}[^\s'\"`,;:()<>]+")
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?:[^/\s?#]*@)?(?P<rest>[^\s?#'\"]*)(?:[?#][^\s'\"]*)?", flags=re.IGNORECASE
)
_HOMES = ("home", "users")


def public_path(path: str) -> str:
    """A path as others may read it: absolute ones keep their last name alone.

    Args:
        path: a path, a Hub id, a URL or a plain name.

    Returns:
        `path/to/NAME` for an absolute path or one that leaves its folder; `examples/...` for a script of this
        project; anything else as it is, without credentials.
    """
    if not is_local(path):
        return _without_secrets(path)
    whole = PureWindowsPath(re.sub(rf"^{_FILE_URL}", "", path))  # it splits at both kinds of slashes
    parts = [part for part in whole.parts if part != whole.anchor]
    if "examples" in parts[:-1]:
        return "/".join(parts[parts.index("examples") :])
    parts = [part for part in parts if part != ".." and not part.startswith(("~", "$"))]
    if parts[:1] and parts[0].lower() in _HOMES:
        parts = parts[2:]
    return f"path/to/{_without_secrets(parts[-1]) if parts else 'folder'}"


def public_text(text: str) -> str:
    """Free text, such as the reason of an error, with the paths in it shortened."""
    text = _QUOTED.sub(lambda found: f"{found[1]}{public_path(found[0][1:-1])}{found[1]}", _without_secrets(text))
    return _IN_TEXT.sub(lambda found: public_path(found[0]), text)


def public_command(command: str) -> str:
    """A command line with the paths in it shortened, words as `--flag=PATH` included."""
    command = without_credentials(command)
    try:
        words = shlex.split(command)
    except ValueError:  # an open quote: not written by shlex, so no shell words
        return public_text(command)
    return " ".join(_shown(_public_word(word)) for word in words)


def public_values(values: Any) -> Any:
    """Every text in a JSON value as `public_path` shows it, where it is a path, and as `public_text` otherwise."""
    if isinstance(values, dict):
        return {
            key: public_command(value) if key == "command" else public_values(value) for key, value in values.items()
        }
    if isinstance(values, list):
        return [public_values(value) for value in values]
    if isinstance(values, str):
        return public_path(values) if is_local(values) else public_text(values)
    return values


def safe(text: str) -> str:
    """Return a text without credentials, the token of this machine's user included."""
    from huggingface_hub import get_token

    return without_credentials(text, get_token())


def is_local(path: str) -> bool:
    """Whether a text can only be a path of a machine: absolute, or leaving its folder."""
    return _LOCAL.fullmatch(path) is not None or "/../" in path


def _public_word(word: str) -> str:
    name, equals, value = word.partition("=")
    if equals and not is_local(name):
        return f"{name}={public_path(value)}"
    return public_path(word)


def _shown(word: str) -> str:
    # A shortened path holds nothing that a shell would take for a pattern but `*`, which is quoted again.
    return shlex.quote(word)


def _without_secrets(text: str) -> str:
    text = _URL.sub(lambda found: found["scheme"] + found["rest"], text)
    return without_credentials(text)
