"""Serve the tests' Hub on its own, for programs that need a Hub on this machine:

    python -m tests.local_hub --folder outputs/hub

Prints one line of JSON, the environment in which clients find it and may write (null: a variable that must not be
set), and serves until its input ends (Ctrl-D), Ctrl-C, or until the process that started it is gone.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path

from .hub import REMOVED_VARIABLES, LocalHub


def main() -> None:
    """Serve a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder of the repositories")
    parser.add_argument("--home", type=Path, help="HF_HOME of the clients (default: beside the folder, hf-home)")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    hub = LocalHub(folder, home=(arguments.home or folder.parent / "hf-home").resolve())
    hub.port = arguments.port
    hub.start()
    try:
        print(
            json.dumps({**dict.fromkeys(sorted(REMOVED_VARIABLES)), **hub.variables(), "HF_TOKEN": hub.token}),
            flush=True,
        )
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()
    finally:
        hub.stop()


if __name__ == "__main__":
    main()
