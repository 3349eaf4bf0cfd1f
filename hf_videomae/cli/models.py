"""A model that is there: convert, reconstruct, predict, features."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..cards.escaping import escape_to_one_line
from ..credentials import redact_credentials
from ..filesystem import check_folder_writable, create_folder, wrap_write_errors
from ..folder_lock import check_folder_unlocked
from .common import device, exit_with_error


def add_commands(commands: Any) -> None:
    """The commands of this file."""
    _add_convert(commands)
    _add_reconstruct(commands)
    _add_predict(commands)
    _add_features(commands)


def _add_convert(commands: Any) -> None:
    convert = commands.add_parser(
        "convert",
        help="turn a checkpoint of VideoMAE, VideoMAE V2, transformers or an image model into one for this package",
        description="Turn a checkpoint into a directory that from_pretrained of this package and, but for learned "
        "positions, of stock transformers loads: VideoMAE and V2 .pth files and Hub repositories, transformers' "
        "VideoMAE (--fix mends a wrong config.json), and image models (ViT, ViTMAE, DeiT, timm's names), which are "
        "inflated to video. What became of every weight is told, and written to conversion.json.",
        epilog="Any field of VideoMAEConfig may be given as --FIELD VALUE and wins over what is inferred: "
        "--num_frames 32 --mask_ratio 0.75",
    )
    convert.add_argument("file", metavar="SOURCE", help="a .pth or .safetensors file, a folder, or org/name")
    convert.add_argument("out_dir", metavar="OUT_DIR", help="where the checkpoint goes; made if it is not there")
    convert.add_argument(
        "--fix",
        action="store_true",
        help="mend a config.json of transformers that the weights or the published sizes contradict (the published S "
        "models say 16 heads instead of 6)",
    )
    convert.add_argument(
        "--inflate",
        choices=("mean", "center"),
        default="mean",
        help="2-D patches to 3-D cubes: spread over the frames (default), or all in one frame",
    )
    convert.add_argument(
        "--positions",
        choices=("image", "sinusoid"),
        default="image",
        help="of an image model: its own, repeated in every slice of time, stored and trained, for this package alone "
        "(default); or VideoMAE's fixed sinusoid, for stock transformers too",
    )
    convert.add_argument(
        "--head_indices",
        "--head-indices",
        metavar="FILE.json",
        help="JSON list of the classes to keep, in order: a K710 head becomes one for Kinetics 400, 600 or 700 by the "
        "lists that github.com/OpenGVLab/VideoMAEv2 publishes as misc/label_710to400.json, ...600.json, ...700.json",
    )
    convert.add_argument(
        "--classes",
        metavar="FILE",
        help="names of the classes to keep, in order (JSON list, or text with one per line): a K710 head becomes one "
        "for Kinetics 400, 600 or 700, whatever the order of its classes; V2's own checkpoints have no names: give "
        "them with --id2label label_map_k710.txt of its repository",
    )
    convert.add_argument("--id2label", metavar="FILE", help="names of the classes: JSON, or text with one per line")
    convert.add_argument(
        "--sampling",
        choices=("dense", "uniform"),
        help="how its clips are sampled: dense, or uniform over the whole video as on Something-Something (default: "
        "as the training arguments in the file, its classes or its name say; the report tells which)",
    )
    convert.add_argument(
        "--frame_stride", "--frame-stride", type=int, metavar="N", help="of dense clips (default: likewise)"
    )
    convert.add_argument("--license", help="of the weights, as an identifier such as cc-by-nc-4.0")
    convert.add_argument("--revision", help="of a Hub repository: branch, tag or commit")
    convert.add_argument("--no_check", "--no-check", action="store_true", help="compare no forward passes (faster)")
    convert.add_argument("--json", action="store_true", help="the report as one JSON object")
    convert.set_defaults(run=_convert, accepts_config_fields=True)


def _add_reconstruct(commands: Any) -> None:
    reconstruct = commands.add_parser(
        "reconstruct",
        help="hide most of a video and draw what a pre-trained model makes of the rest",
        description="Hide most of one clip of a video and draw what a pre-trained model makes of the rest: a strip of "
        "frames (PNG) and an animation.",
    )
    reconstruct.add_argument("video", metavar="VIDEO", help="a file or URL")
    reconstruct.add_argument("--model", required=True, help="directory or Hub id of a pre-trained VideoMAE")
    reconstruct.add_argument(
        "--output", required=True, metavar="STEM", help="path of the pictures; .png, .gif are added"
    )
    reconstruct.add_argument("--seed", type=int, default=0, help="of the mask (default: 0)")
    reconstruct.set_defaults(run=_reconstruct, accepts_config_fields=False)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="name what happens in videos, with a fine-tuned model",
        description="Name what happens in videos, with a fine-tuned model: its class, its classes with a probability "
        "for each (multi-label), or its numbers (regression). A video that cannot be decoded is named "
        "and left out; the exit status is then 1.",
    )
    predict.add_argument(
        "videos", metavar="VIDEO", nargs="+", help="files, URLs, folders, quoted glob patterns or lists (CSV)"
    )
    predict.add_argument("--model", required=True, help="directory or Hub id of a fine-tuned VideoMAE, stock or ours")
    predict.add_argument("--views", default="1x1", help="temporal positions x crops, averaged: 5x3 (default: 1x1)")
    predict.add_argument("--sampling", choices=("dense", "uniform"), help="of frames (default: the model's)")
    predict.add_argument("--stride", type=int, help="frames between two of a dense clip (default: the model's)")
    predict.add_argument("--top_k", "--top-k", type=int, default=5, help="classes in the answer (default: 5)")
    predict.add_argument("--batch_size", "--batch-size", type=int, default=16, help="clips per forward pass")
    predict.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    predict.add_argument("--json", action="store_true", help="one JSON object per video instead of a table")
    predict.set_defaults(run=_predict, accepts_config_fields=False)


def _add_features(commands: Any) -> None:
    features = commands.add_parser(
        "features",
        help="write the features that a model sees in videos, as Parquet or safetensors",
        description="Write the features that a VideoMAE sees in videos. A cube is two frames deep, so 16 frames have "
        "8 slices; there is no [CLS] token. The same command goes on where it was interrupted.",
    )
    features.add_argument(
        "videos", metavar="VIDEO", nargs="+", help="files, URLs, folders, quoted glob patterns or lists (CSV)"
    )
    features.add_argument("--model", required=True, help="directory or Hub id of any VideoMAE")
    features.add_argument("--output_dir", "--output-dir", required=True, help="folder of the files")
    features.add_argument("--format", choices=("parquet", "safetensors"), default="parquet", help="default: parquet")
    features.add_argument(
        "--pool",
        choices=("mean", "frame", "token"),
        default="mean",
        help="mean of all tokens (default), one feature per slice of two frames, or all tokens",
    )
    features.add_argument("--layer", type=int, default=-1, help="-1: the encoder's end; 1 is the first block's output")
    features.add_argument("--hop", type=int, help="slide over the whole video, a window every HOP frames")
    features.add_argument("--stride", type=int, help="frames between two of a window (default: the model's)")
    features.add_argument("--batch_size", "--batch-size", type=int, default=8, help="windows per forward pass")
    features.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    features.set_defaults(run=_features, accepts_config_fields=False)


def _convert(arguments: argparse.Namespace, rest: list[str]) -> int:
    from ..convert import convert_checkpoint
    from ..convert.class_selection import read_class_indices, read_class_names

    fields = _parse_config_fields(rest)
    check_folder_writable(arguments.out_dir, flag="OUT_DIR")
    conversion = convert_checkpoint(
        arguments.file,
        fix=arguments.fix,
        inflate=arguments.inflate,
        positions=arguments.positions,
        head_indices=read_class_indices(arguments.head_indices) if arguments.head_indices else None,
        id2label=read_class_names(arguments.id2label) if arguments.id2label else None,
        classes=[name for _, name in sorted(read_class_names(arguments.classes).items())]
        if arguments.classes
        else None,
        sampling=arguments.sampling,
        frame_stride=arguments.frame_stride,
        license=arguments.license,
        revision=arguments.revision,
        check=not arguments.no_check,
        **fields,
    )
    conversion.save(arguments.out_dir)
    report, config = conversion.report, conversion.model.config
    for warning in report.warnings:
        print(f"hf-videomae: warning: {redact_credentials(warning)}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(report.to_dict()))
        return 0
    print("\n".join(report.lines()))
    print(
        f"{report.model}, {sum(weight.numel() for weight in conversion.model.parameters()) / 1e6:.2f} M parameters: "
        f"{config.num_hidden_layers} layers {config.hidden_size} wide, {config.num_attention_heads} heads, "
        f"{config.num_frames} frames of {config.image_height_width[0]}x{config.image_height_width[1]}"
    )
    print(f"saved in {arguments.out_dir}; every key is in conversion.json there, the licence note in README.md")
    return 0


def _reconstruct(arguments: argparse.Namespace, rest: list[str]) -> int:
    from ..inference import reconstruct, save_reconstruction
    from ..video.decoding import VideoBackendError

    folder = Path(arguments.output).parent
    check_folder_writable(folder, flag="--output")
    try:
        reconstruction = reconstruct(arguments.model, arguments.video, seed=arguments.seed)
    except VideoBackendError as error:
        exit_with_error(str(error))
    create_folder(folder, flag="--output")
    with wrap_write_errors("the pictures", folder):
        paths = save_reconstruction(reconstruction, arguments.output)
    print("\n".join(map(str, paths)))
    print(f"loss {reconstruction.loss:.3f} on {int(reconstruction.bool_masked_pos.sum())} hidden tokens")
    return 0


def _predict(arguments: argparse.Namespace, rest: list[str]) -> int:
    from ..inference import find_inputs, predict
    from ..video.decoding import VideoBackendError

    try:
        found = predict(
            arguments.model,
            find_inputs(arguments.videos),
            views=arguments.views,
            top_k=arguments.top_k,
            sampling=arguments.sampling,
            stride=arguments.stride,
            device=arguments.device or device(),
            batch_size=arguments.batch_size,
            keep_going=True,
        )
    except VideoBackendError as error:
        exit_with_error(str(error))
    width = max(len(escape_to_one_line(answer.video)) for answer in found)
    for answer in found:
        if arguments.json:
            print(json.dumps(answer.to_dict()))
        else:
            print(f"{escape_to_one_line(answer.video):{width}}  {escape_to_one_line(answer.to_text())}")
    num_undecodable = sum(not answer.decoded for answer in found)
    left_out = sum(answer.error is not None for answer in found)
    return _report_bad_videos(num_undecodable, len(found), not_finite=left_out - num_undecodable)


def _features(arguments: argparse.Namespace, rest: list[str]) -> int:
    from ..inference import FeatureExtractor, save_features
    from ..video.decoding import VideoBackendError

    check_folder_writable(arguments.output_dir)
    check_folder_unlocked(arguments.output_dir)
    extractor = FeatureExtractor(
        arguments.model,
        pool=arguments.pool,
        layer=arguments.layer,
        hop=arguments.hop,
        stride=arguments.stride,
        device=arguments.device or device(),
        batch_size=arguments.batch_size,
    )
    try:
        stored = save_features(
            extractor,
            arguments.videos,
            arguments.output_dir,
            model=arguments.model,
            file_format=arguments.format,
            progress=lambda line: print(escape_to_one_line(line)),
        )
    except VideoBackendError as error:
        exit_with_error(str(error))
    print(f"{stored.written} videos written to {arguments.output_dir}, {stored.skipped} were there already")
    count = stored.written + stored.skipped + len(stored.bad)
    return _report_bad_videos(len(stored.bad) - stored.not_finite, count, not_finite=stored.not_finite)


def _report_bad_videos(bad: int, count: int, *, not_finite: int = 0) -> int:
    """The exit status: 1 where videos had to be left out."""
    if bad:
        print(f"{bad} of {count} videos could not be decoded", file=sys.stderr)
    if not_finite:
        print(f"{not_finite} of {count} videos got numbers that are not finite, which are left out", file=sys.stderr)
    return 1 if bad or not_finite else 0


def _parse_config_fields(rest: Sequence[str]) -> dict[str, Any]:
    """`--name value` pairs -> fields of VideoMAEConfig; values are read as JSON, or as text where they are none."""
    from dataclasses import fields

    from ..configuration_videomae import VideoMAEConfig

    known = {field.name for field in fields(VideoMAEConfig)} | {"num_labels"}
    words = [part for word in rest for part in (word.split("=", 1) if word.startswith("--") else [word])]
    found: dict[str, Any] = {}
    for option, value in zip(words[::2], words[1::2], strict=False):
        name = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or name not in known:
            exit_with_error(f"{option} is no field of VideoMAEConfig; give --FIELD VALUE, for example --num_frames 32")
        found[name] = _parse_value(value)
    if len(words) % 2:
        exit_with_error(f"{words[-1]} has no value; give --FIELD VALUE, for example --num_frames 32")
    return found


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
