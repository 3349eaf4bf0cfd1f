"""Add the commands that use a model: convert, reconstruct, predict, features."""

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
from .common import both_spellings, default_device, exit_with_error


def add_commands(commands: Any) -> None:
    """Add the commands of this file to a parser."""
    _add_convert(commands)
    _add_reconstruct(commands)
    _add_predict(commands)
    _add_features(commands)


def _add_videos(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "videos", metavar="VIDEO", nargs="+", help="files, URLs, folders, quoted glob patterns or lists (CSV)"
    )


def _add_speed(command: argparse.ArgumentParser, *, clips: str, batch_size: int) -> None:
    command.add_argument(*both_spellings("batch_size"), type=int, default=batch_size, help=f"{clips} per forward pass")
    command.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")


def _add_convert(commands: Any) -> None:
    convert = commands.add_parser(
        "convert",
        help="turn a checkpoint of VideoMAE, VideoMAE V2, transformers or an image model into one for this package",
        description="Turn a checkpoint into a directory that from_pretrained of this package loads, and (unless its "
        "positions are learned) that of stock transformers: VideoMAE and V2 .pth files and Hub repositories, "
        "transformers' VideoMAE (--fix corrects a wrong config.json), and image models (ViT, ViTMAE, DeiT, timm's "
        "names), which are inflated to video. The report says what became of every weight; conversion.json holds it.",
        epilog="Any field of VideoMAEConfig may be given as --FIELD VALUE and overrides what is inferred: "
        "--num_frames 32 --mask_ratio 0.75",
    )
    convert.add_argument("file", metavar="SOURCE", help="a .pth or .safetensors file, a folder, or org/name")
    convert.add_argument("out_dir", metavar="OUT_DIR", help="output directory; created if needed")
    convert.add_argument(
        "--fix",
        action="store_true",
        help="correct a config.json of transformers that the weights or the published sizes contradict (the published "
        "S models say 16 heads instead of 6)",
    )
    convert.add_argument(
        "--inflate",
        choices=("mean", "center"),
        default="mean",
        help="how 2-D patches become 3-D cubes: spread over the frames (default), or all in one frame",
    )
    convert.add_argument(
        "--positions",
        choices=("image", "sinusoid"),
        default="image",
        help="positions of an image model: its own, repeated in every slice in time, stored and trained, for this "
        "package alone (default); or VideoMAE's fixed sinusoid, for stock transformers too",
    )
    _add_class_options(convert)
    convert.add_argument(
        "--sampling",
        choices=("dense", "uniform"),
        help="how its clips are sampled: dense, or uniform over the whole video as on Something-Something (default: "
        "from the training arguments in the file, its classes or its name; the report says which)",
    )
    convert.add_argument(
        *both_spellings("frame_stride"), type=int, metavar="N", help="stride of dense clips (default: likewise)"
    )
    convert.add_argument("--license", help="license of the weights, as an identifier such as cc-by-nc-4.0")
    convert.add_argument("--revision", help="branch, tag or commit of a Hub repository")
    convert.add_argument(
        *both_spellings("no_check"), action="store_true", help="do not compare forward passes (faster)"
    )
    convert.add_argument("--json", action="store_true", help="print the report as one JSON object")
    convert.set_defaults(run=_convert)


def _add_class_options(convert: argparse.ArgumentParser) -> None:
    convert.add_argument(
        *both_spellings("head_indices"),
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


def _add_reconstruct(commands: Any) -> None:
    reconstruct = commands.add_parser(
        "reconstruct",
        help="mask most of a video and draw what a pre-trained model predicts from the rest",
        description="Mask most of one clip of a video and draw what a pre-trained model predicts from the rest: a "
        "strip of frames (PNG) and an animation (GIF).",
    )
    reconstruct.add_argument("video", metavar="VIDEO", help="a file or URL")
    reconstruct.add_argument("--model", required=True, help="directory or Hub id of a pre-trained VideoMAE")
    reconstruct.add_argument(
        "--output", required=True, metavar="STEM", help="path of the images; .png and .gif are added"
    )
    reconstruct.add_argument("--seed", type=int, default=0, help="seed of the mask (default: 0)")
    reconstruct.set_defaults(run=_reconstruct)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="predict the classes of videos with a fine-tuned model",
        description="Predict the classes of videos with a fine-tuned model: one class, several with a probability for "
        "each (multi-label), or numbers (regression). A video that cannot be decoded is reported and skipped, and the "
        "exit status is then 1.",
    )
    _add_videos(predict)
    predict.add_argument("--model", required=True, help="directory or Hub id of a fine-tuned VideoMAE, stock or ours")
    predict.add_argument(
        "--views", default="1x1", help="temporal positions x crops to average, such as 5x3 (default: 1x1)"
    )
    predict.add_argument("--sampling", choices=("dense", "uniform"), help="sampling of frames (default: the model's)")
    predict.add_argument("--stride", type=int, help="stride of dense clips (default: the model's)")
    predict.add_argument(*both_spellings("top_k"), type=int, default=5, help="classes to print (default: 5)")
    _add_speed(predict, clips="clips", batch_size=16)
    predict.add_argument("--json", action="store_true", help="print one JSON object per video instead of a table")
    predict.set_defaults(run=_predict)


def _add_features(commands: Any) -> None:
    features = commands.add_parser(
        "features",
        help="write the features of videos, as Parquet or safetensors",
        description="Write the features of videos that a VideoMAE computes. A token covers two frames, so 16 frames "
        "have 8 slices; there is no [CLS] token. Repeat the command to resume after an interruption.",
    )
    _add_videos(features)
    features.add_argument("--model", required=True, help="directory or Hub id of any VideoMAE")
    features.add_argument(*both_spellings("output_dir"), required=True, help="output folder")
    features.add_argument("--format", choices=("parquet", "safetensors"), default="parquet", help="default: parquet")
    features.add_argument(
        "--pool",
        choices=("mean", "frame", "token"),
        default="mean",
        help="the mean of all tokens (default), one feature per slice of two frames, or all tokens",
    )
    features.add_argument(
        "--layer", type=int, default=-1, help="-1: the encoder's output; 1: the first block's output"
    )
    features.add_argument("--hop", type=int, help="slide over the whole video, with a window every HOP frames")
    features.add_argument("--stride", type=int, help="stride of a window (default: the model's)")
    _add_speed(features, clips="windows", batch_size=8)
    features.set_defaults(run=_features)


def _convert(arguments: argparse.Namespace) -> int:
    from ..convert import convert_checkpoint
    from ..convert.class_selection import read_class_indices, read_class_names

    fields = _parse_config_fields(arguments.config_fields)
    check_folder_writable(arguments.out_dir, flag="OUT_DIR")
    classes = None
    if arguments.classes:
        classes = [name for _, name in sorted(read_class_names(arguments.classes).items())]
    conversion = convert_checkpoint(
        arguments.file,
        fix=arguments.fix,
        inflate=arguments.inflate,
        positions=arguments.positions,
        head_indices=read_class_indices(arguments.head_indices) if arguments.head_indices else None,
        id2label=read_class_names(arguments.id2label) if arguments.id2label else None,
        classes=classes,
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
    print(f"saved in {arguments.out_dir}; conversion.json there lists every key, README.md has the license note")
    return 0


def _reconstruct(arguments: argparse.Namespace) -> int:
    from ..inference import reconstruct, save_reconstruction

    folder = Path(arguments.output).parent
    check_folder_writable(folder, flag="--output")
    reconstruction = reconstruct(arguments.model, arguments.video, seed=arguments.seed)
    create_folder(folder, flag="--output")
    with wrap_write_errors("the images", folder):
        paths = save_reconstruction(reconstruction, arguments.output)
    print("\n".join(map(str, paths)))
    print(f"loss {reconstruction.loss:.3f} on {int(reconstruction.bool_masked_pos.sum())} masked tokens")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from ..inference import find_inputs, predict

    predictions = predict(
        arguments.model,
        find_inputs(arguments.videos),
        views=arguments.views,
        top_k=arguments.top_k,
        sampling=arguments.sampling,
        stride=arguments.stride,
        device=arguments.device or default_device(),
        batch_size=arguments.batch_size,
        keep_going=True,
    )
    width = max(len(escape_to_one_line(prediction.video)) for prediction in predictions)
    for prediction in predictions:
        if arguments.json:
            print(json.dumps(prediction.to_dict()))
        else:
            print(f"{escape_to_one_line(prediction.video):{width}}  {escape_to_one_line(prediction.to_text())}")
    num_undecodable = sum(not prediction.decoded for prediction in predictions)
    num_skipped = sum(prediction.error is not None for prediction in predictions)
    return _report_bad_videos(num_undecodable, len(predictions), not_finite=num_skipped - num_undecodable)


def _features(arguments: argparse.Namespace) -> int:
    from ..inference import FeatureExtractor, save_features

    check_folder_writable(arguments.output_dir)
    check_folder_unlocked(arguments.output_dir)
    extractor = FeatureExtractor(
        arguments.model,
        pool=arguments.pool,
        layer=arguments.layer,
        hop=arguments.hop,
        stride=arguments.stride,
        device=arguments.device or default_device(),
        batch_size=arguments.batch_size,
    )
    result = save_features(
        extractor,
        arguments.videos,
        arguments.output_dir,
        model=arguments.model,
        file_format=arguments.format,
        progress=lambda line: print(escape_to_one_line(line)),
    )
    print(f"{result.written} videos written to {arguments.output_dir}, {result.skipped} were there already")
    count = result.written + result.skipped + len(result.bad)
    return _report_bad_videos(len(result.bad) - result.not_finite, count, not_finite=result.not_finite)


def _report_bad_videos(undecodable: int, count: int, *, not_finite: int) -> int:
    """Report the skipped videos on stderr, and return the exit status: 1 if there are any."""
    if undecodable:
        print(f"{undecodable} of {count} videos could not be decoded", file=sys.stderr)
    if not_finite:
        print(f"{not_finite} of {count} videos were skipped: their numbers are not finite", file=sys.stderr)
    return 1 if undecodable or not_finite else 0


def _parse_config_fields(rest: Sequence[str]) -> dict[str, Any]:
    """Return the fields of VideoMAEConfig in `--name value` pairs; a value that is not JSON is text."""
    from dataclasses import fields

    from ..configuration_videomae import VideoMAEConfig

    known = {field.name for field in fields(VideoMAEConfig)} | {"num_labels"}
    parts = [part for word in rest for part in (word.split("=", 1) if word.startswith("--") else [word])]
    values: dict[str, Any] = {}
    for option, text in zip(parts[::2], parts[1::2], strict=False):
        name = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or name not in known:
            exit_with_error(
                f"{option} is not a field of VideoMAEConfig; give --FIELD VALUE, for example --num_frames 32"
            )
        values[name] = _parse_value(text)
    if len(parts) % 2:
        exit_with_error(f"{parts[-1]} has no value; give --FIELD VALUE, for example --num_frames 32")
    return values


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
