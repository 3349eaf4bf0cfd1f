"""The command `hf-videomae`."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import __version__

_USER_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status: 0, or 2 for a mistake of the user, which is told in one line on stderr.
    """
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
        _fail(str(error) or type(error).__name__)


def _fail(message: str) -> NoReturn:
    print(f"hf-videomae: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(_USER_ERROR)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hf-videomae", description="VideoMAE end to end on the Hugging Face stack.")
    parser.add_argument("--version", action="version", version=f"hf-videomae {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")

    convert = commands.add_parser(
        "convert",
        help="turn an original VideoMAE or VideoMAE V2 .pth file into a checkpoint for this package and transformers",
        description="Turn an original VideoMAE or VideoMAE V2 .pth file, pre-trained or fine-tuned, into a directory "
        "that from_pretrained of this package and of stock transformers loads. The shapes tell the architecture.",
        epilog="Any field of VideoMAEConfig may be given as --FIELD VALUE and wins over what is inferred: "
        "--num_frames 32 --mask_ratio 0.75",
    )
    convert.add_argument("file", metavar="FILE", help="the .pth file")
    convert.add_argument("out_dir", metavar="OUT_DIR", help="where the checkpoint goes; made if it is not there")
    convert.set_defaults(run=_convert, takes_fields=True)

    reconstruct = commands.add_parser(
        "reconstruct",
        help="hide most of a video and draw what a pre-trained model makes of the rest",
        description="Hide most of one clip of a video and draw what a pre-trained model makes of the rest: a strip of "
        "frames (PNG) and an animation.",
    )
    reconstruct.add_argument("video", metavar="VIDEO", help="a file or URL")
    reconstruct.add_argument("--model", required=True, help="directory or Hub id of a pre-trained VideoMAE")
    reconstruct.add_argument("--output", required=True, metavar="STEM", help="path of the pictures without extension")
    reconstruct.add_argument("--seed", type=int, default=0, help="of the mask (default: 0)")
    reconstruct.set_defaults(run=_reconstruct, takes_fields=False)
    return parser


def _convert(arguments: argparse.Namespace, rest: list[str]) -> int:
    from .convert import load_original_checkpoint
    from .video_processing_videomae import VideoMAEVideoProcessor

    _tell_progress()
    fields = _fields(rest)
    if Path(arguments.out_dir).is_file():
        _fail(f"{arguments.out_dir} is a file; give a directory")
    model = load_original_checkpoint(arguments.file, **fields)
    model.save_pretrained(arguments.out_dir)
    VideoMAEVideoProcessor.from_config(model.config).save_pretrained(arguments.out_dir)
    config = model.config
    print(
        f"{type(model).__name__}, {sum(weight.numel() for weight in model.parameters()) / 1e6:.2f} M parameters: "
        f"{config.num_hidden_layers} layers {config.hidden_size} wide, {config.num_attention_heads} heads, "
        f"{config.num_frames} frames of {config.image_height_width[0]}x{config.image_height_width[1]}"
    )
    print(f"saved in {arguments.out_dir}")
    return 0


def _reconstruct(arguments: argparse.Namespace, rest: list[str]) -> int:
    from .inference import reconstruct, save_reconstruction
    from .video.decoding import VideoBackendError

    try:
        reconstruction = reconstruct(arguments.model, arguments.video, seed=arguments.seed)
    except VideoBackendError as error:
        _fail(str(error))
    for path in save_reconstruction(reconstruction, arguments.output):
        print(path)
    print(f"loss {reconstruction.loss:.3f} on {int(reconstruction.bool_masked_pos.sum())} hidden tokens")
    return 0


def _tell_progress() -> None:
    """What the package notes as it works (which weights were used, what was left) goes to the terminal."""
    notes = logging.getLogger("hf_videomae")
    notes.setLevel(logging.INFO)
    if not notes.handlers:
        notes.addHandler(logging.StreamHandler(sys.stdout))


def _fields(rest: Sequence[str]) -> dict[str, Any]:
    """`--name value` pairs -> fields of VideoMAEConfig; values are read as JSON, or as text where they are none."""
    from dataclasses import fields

    from .configuration_videomae import VideoMAEConfig

    known = {field.name for field in fields(VideoMAEConfig)} | {"num_labels"}
    words = [part for word in rest for part in (word.split("=", 1) if word.startswith("--") else [word])]
    found: dict[str, Any] = {}
    for option, value in zip(words[::2], words[1::2], strict=False):
        name = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or name not in known:
            _fail(f"{option} is no field of VideoMAEConfig; give --FIELD VALUE, for example --num_frames 32")
        found[name] = _value(value)
    if len(words) % 2:
        _fail(f"{words[-1]} has no value; give --FIELD VALUE, for example --num_frames 32")
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
