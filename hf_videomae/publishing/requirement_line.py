"""Check that a line of a published requirements.txt holds no credentials and no local path."""

import re

from ..credentials import redact_credentials
from ..redaction import is_local_path, redact_path

# ${NAME}, which pip fills in from the environment, and the user name of ssh, which is not a secret.
_ALLOWED_URL_USER = re.compile(r"(?P<scheme>[a-z+]+://)(?:\$\{[A-Z0-9_]+\}(?::\$\{[A-Z0-9_]+\})?|(?<=ssh://)[\w.-]+)@")


def check_requirement_line(package: str) -> str:
    """Return a requirement, stripped, if everyone may read it.

    Args:
        package: the argument of `pip install`, such as `hf-videomae[av]==1.0` or `git+https://host/repository@commit`.

    Raises:
        ValueError: for several lines, a user name, password or token, or a path of this machine.
    """
    line = package.strip()
    if not line or len(line.splitlines()) > 1 or not line.isprintable():
        raise ValueError(f"the package is {redact_credentials(package)!r}; give one line of a requirements file")
    if has_credentials(line):
        raise ValueError(
            f"the package {redact_credentials(line)} holds a name, password or token, which everyone who reads "
            f"requirements.txt could use; give an address without one, or pip's ${{NAME}}, and set NAME as a secret"
        )
    target = line.removeprefix("-e ").rpartition(" @ ")[2].strip()
    if is_local_path(target) or re.match(r"(?:git\+)?file:|\.[/\\]", target, re.IGNORECASE):
        raise ValueError(
            f"the package {redact_path(target)} is a path of this machine, which other readers of "
            f"requirements.txt do not have; give a version, or an address of the package"
        )
    return line


def has_credentials(text: str) -> bool:
    """Return whether a requirements file holds credentials."""
    without_allowed_users = _ALLOWED_URL_USER.sub(r"\g<scheme>", text)
    return redact_credentials(without_allowed_users) != without_allowed_users
