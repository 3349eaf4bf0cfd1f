"""The command `hf-videomae`: a file for each kind of work."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..records import print_any_name
from . import hub, models, prepare
from .common import fail


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status: 0; 1 where some videos could not be decoded, or the doctor or a card's check found something
        wrong; or 2 for a mistake of the user, which is told in one line on stderr.
    """
    print_any_name()
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    if rest and not arguments.takes_fields:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return int(arguments.run(arguments, rest))
    except (ValueError, OSError) as error:
        fail(str(error) or type(error).__name__)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hf-videomae", description="VideoMAE end to end on the Hugging Face stack.")
    parser.add_argument("--version", action="version", version=f"hf-videomae {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")

    models.add_to(commands)
    prepare.add_to(commands)
    hub.add_to(commands)
    _add_doctor(commands)
    return parser


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="say what on this machine keeps videos from being decoded, trained on or downloaded, and how to mend it",
        description="Look at torch, the decoders and their FFmpeg, GPU and driver, shared memory, disks and the Hub; "
        "decode a test clip; and for each problem say the one line that fixes it. No token is ever printed.",
        epilog="The exit status is 0 when everything that is needed works, warnings or not, and 1 when something "
        "needed is broken. The Hub counts as needed unless --offline is given or HF_HUB_OFFLINE is set.",
    )
    doctor.add_argument(
        "--output_dir", "--output-dir", default=".", help="where runs will be written (default: the current folder)"
    )
    doctor.add_argument("--offline", action="store_true", help="leave the network alone")
    doctor.add_argument("--json", action="store_true", help="one JSON object, with all facts, for a bug report")
    doctor.set_defaults(run=_doctor, takes_fields=False)


def _doctor(arguments: argparse.Namespace, rest: list[str]) -> int:
    from ..doctor import collect_facts, diagnose, is_healthy, to_dict, to_table

    facts = collect_facts(arguments.output_dir, network=not arguments.offline)
    findings = diagnose(facts)
    print(json.dumps(to_dict(facts, findings), indent=2) if arguments.json else to_table(findings))
    return 0 if is_healthy(findings) else 1
