"""Run the command `hf-videomae`; each file holds the commands of one kind of work."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..stop_signals import handle_signals
from ..text import escape_unencodable_stdout
from ..video.decode_errors import VideoBackendError
from . import hub, models, prepare
from .common import EXIT_BROKEN_PIPE, both_spellings, exit_with_error, report_interrupted, silence_closed_output


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status: 0; 1 if some videos could not be decoded, or the doctor or a card's check found a problem; 2
        for a mistake of the user, reported in one line on stderr; or 128 + the signal that ended it.
    """
    escape_unencodable_stdout()
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError as error:
        if silence_closed_output():
            return EXIT_BROKEN_PIPE
        exit_with_error(str(error))


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    if rest and arguments.command != "convert":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.config_fields = rest
    try:
        with handle_signals():
            return int(arguments.run(arguments))
    except KeyboardInterrupt as error:
        return report_interrupted(error, is_resumable=arguments.command in _RESUMABLE_COMMANDS)
    except BrokenPipeError:
        raise
    except (ValueError, OSError, ImportError, VideoBackendError) as error:
        exit_with_error(_format_error(error))


# Commands that continue from their earlier results when called again.
_RESUMABLE_COMMANDS = ("prepare", "push", "features")


def _format_error(error: Exception) -> str:
    """Return an error as the user reads it; for system errors the file and the reason, without a number."""
    if isinstance(error, OSError) and error.strerror and isinstance(error.filename, (str, bytes, os.PathLike)):
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        return f"{error.strerror} while writing or reading"
    return str(error) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hf-videomae", description="VideoMAE end to end on the Hugging Face stack.")
    parser.add_argument("--version", action="version", version=f"hf-videomae {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")

    models.add_commands(commands)
    prepare.add_commands(commands)
    hub.add_commands(commands)
    _add_doctor(commands)
    return parser


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="say what on this machine keeps videos from being decoded, trained on or downloaded, and how to mend it",
        description="Look at torch, the decoders and their FFmpeg, GPU and driver, shared memory, disks and the Hub; "
        "decode a test clip; and for each problem say the one line that fixes it. No token is ever printed.",
        epilog="The exit status is 0 when everything that is needed works, warnings or not, and 1 when something "
        "needed is broken. The Hub counts as needed unless --offline is given or HF_HUB_OFFLINE is set. Other "
        "messages and what to do: examples/TROUBLESHOOTING.md in the repository.",
    )
    doctor.add_argument(
        *both_spellings("output_dir"), default=".", help="folder for runs (default: the current folder)"
    )
    doctor.add_argument("--offline", action="store_true", help="do not use the network")
    doctor.add_argument("--json", action="store_true", help="one JSON object, with all facts, for a bug report")
    doctor.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from ..doctor import collect_environment, diagnose, is_healthy, to_dict, to_table

    facts = collect_environment(arguments.output_dir, network=not arguments.offline)
    findings = diagnose(facts)
    print(json.dumps(to_dict(facts, findings), indent=2) if arguments.json else to_table(findings))
    return 0 if is_healthy(findings) else 1
