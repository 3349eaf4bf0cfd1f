"""The command `hf-videomae`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import __version__

_USER_ERROR = 2
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status: 0; 1 where some videos could not be decoded, or the doctor or a card's check found something
        wrong; or 2 for a mistake of the user, which is told in one line on stderr.
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

    _add_convert(commands)
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
    _add_predict(commands)
    _add_features(commands)
    _add_doctor(commands)
    _add_prepare(commands)
    _add_card(commands)
    _add_push_run(commands)
    return parser


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
    convert.add_argument("--id2label", metavar="FILE", help="names of the classes: JSON, or text with one per line")
    convert.add_argument("--license", help="of the weights, as an identifier such as cc-by-nc-4.0")
    convert.add_argument("--revision", help="of a Hub repository: branch, tag or commit")
    convert.add_argument("--no_check", "--no-check", action="store_true", help="compare no forward passes (faster)")
    convert.add_argument("--json", action="store_true", help="the report as one JSON object")
    convert.set_defaults(run=_convert, takes_fields=True)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="name what happens in videos, with a fine-tuned model",
        description="Name what happens in videos, with a fine-tuned model: its class, its classes with a probability "
        "for each (multi-label), or its numbers (regression). A video that cannot be decoded is named "
        "and left out; the exit status is then 1.",
    )
    predict.add_argument("videos", metavar="VIDEO", nargs="+", help="files, URLs, folders or quoted glob patterns")
    predict.add_argument("--model", required=True, help="directory or Hub id of a fine-tuned VideoMAE, stock or ours")
    predict.add_argument("--views", default="1x1", help="temporal positions x crops, averaged: 5x3 (default: 1x1)")
    predict.add_argument("--sampling", choices=("dense", "uniform"), help="of frames (default: the model's)")
    predict.add_argument("--stride", type=int, help="frames between two of a dense clip (default: the model's)")
    predict.add_argument("--top_k", "--top-k", type=int, default=5, help="classes in the answer (default: 5)")
    predict.add_argument("--batch_size", "--batch-size", type=int, default=16, help="clips per forward pass")
    predict.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    predict.add_argument("--json", action="store_true", help="one JSON object per video instead of a table")
    predict.set_defaults(run=_predict, takes_fields=False)


def _add_features(commands: Any) -> None:
    features = commands.add_parser(
        "features",
        help="write the features that a model sees in videos, as Parquet or safetensors",
        description="Write the features that a VideoMAE sees in videos. A cube is two frames deep, so 16 frames have "
        "8 slices; there is no [CLS] token. The same command goes on where it was interrupted.",
    )
    features.add_argument("videos", metavar="VIDEO", nargs="+", help="files, URLs, folders or quoted glob patterns")
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
    features.set_defaults(run=_features, takes_fields=False)


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


def _add_prepare(commands: Any) -> None:
    prepare = commands.add_parser(
        "prepare",
        help="make a small, evenly sharded, streamable data set of raw videos",
        description="Make a small, evenly sharded, streamable data set of raw videos: short side 256, short groups of "
        "pictures, no audio, in Parquet or WebDataset, with labels, splits and a data card. Videos that cannot be "
        "used are left out and named in dropped.jsonl. Killed, the same command goes on; with nothing new, it does "
        "nothing. The work takes twice the space of the result.",
        epilog="With --push_to_hub the whole set is published in one commit, after it was made: shards, data card, "
        "report and lists. What is there already is not sent again, shards of an earlier push that are no longer in "
        "the set go, and a push that broke off goes on with the same command; the set in DST is never touched by it.",
    )
    prepare.add_argument("source", metavar="SRC", help="folder of videos, of Parquet or WebDataset files, or org/name")
    prepare.add_argument("destination", metavar="DST", help="folder of the new data set")
    prepare.add_argument("--short_side", "--short-side", type=int, default=256, help="pixels (default: 256)")
    prepare.add_argument("--gop", type=int, default=12, help="frames from key frame to key frame (default: 12)")
    prepare.add_argument("--crf", type=int, default=23, help="x264's constant quality, less is better (default: 23)")
    prepare.add_argument("--trim", metavar="START:END", help="seconds to keep of each video: 0:10, 5: or :10")
    prepare.add_argument("--format", choices=("parquet", "webdataset"), default="parquet", help="default: parquet")
    prepare.add_argument(
        "--index",
        metavar="FILE",
        help="CSV or JSONL with path, label, and split, start, end (seconds) as wanted (default: index.csv or "
        "metadata.csv of SRC, else class and split folders)",
    )
    prepare.add_argument(
        "--problem_type",
        "--problem-type",
        choices=("single_label_classification", "multi_label_classification", "regression"),
        default="single_label_classification",
        help="what the labels say (default: one class per video)",
    )
    prepare.add_argument(
        "--shard_megabytes",
        "--shard-megabytes",
        type=float,
        default=100.0,
        help="size of a shard (default: 100; small sets get up to 16 smaller ones of 4 or more videos)",
    )
    prepare.add_argument("--num_shards", "--num-shards", type=int, help="of every split, instead")
    prepare.add_argument("--license", help="of the videos, for the data card; none is stated otherwise")
    prepare.add_argument("--jobs", type=int, help="videos at a time (default: one per core)")
    prepare.add_argument("--config", help="of a Hub data set")
    prepare.add_argument("--revision", help="of a Hub data set: branch, tag or commit")
    prepare.add_argument("--video_column", "--video-column", help="of a Hub data set (default: found by its type)")
    prepare.add_argument("--label_column", "--label-column", help="of a Hub data set (default: found by its type)")
    _add_push(prepare)
    prepare.set_defaults(run=_prepare, takes_fields=False)


def _add_push(prepare: argparse.ArgumentParser) -> None:
    prepare.add_argument(
        "--push_to_hub",
        "--push-to-hub",
        metavar="ORG/NAME",
        help="publish the set on the Hub under this id (NAME alone: among your own); needs `hf auth login`",
    )
    prepare.add_argument("--private", action="store_true", help="with --push_to_hub: make it private, if it is new")
    prepare.add_argument(
        "--overwrite",
        action="store_true",
        help="with --push_to_hub: replace what ORG/NAME holds, even if it is no earlier push of this set (it stays in "
        "the history)",
    )


def _add_card(commands: Any) -> None:
    card = commands.add_parser(
        "card",
        help="write the model card of a training run from its files",
        description="Write README.md, the model card, into the folder of a training run: from run.json, "
        "metrics.jsonl, evaluation.json and the other files of the run, without the network. It says what was "
        "measured, no more; paths of this machine stay out of it. The same files give the same card.",
        epilog="Examples with the model's answers come into the header from DIR/examples.jsonl: copy short videos "
        "into DIR, then hf-videomae predict DIR/*.mp4 --model DIR --json > DIR/examples.jsonl",
    )
    card.add_argument("folder", metavar="DIR", help="the --output_dir of a run of pretrain.py or finetune.py")
    card.add_argument(
        "--model_id", "--model-id", metavar="ORG/NAME", help="where it is or will be published (default: org/DIR)"
    )
    card.add_argument(
        "--license", help="of the model, in the Hub's spelling (default: that of its parent, then of its data)"
    )
    card.add_argument("--overwrite", action="store_true", help="replace a README.md that was edited by hand")
    card.add_argument("--check", action="store_true", help="write nothing; say what is wrong in README.md's header")
    card.set_defaults(run=_card, takes_fields=False)


def _add_push_run(commands: Any) -> None:
    push = commands.add_parser(
        "push",
        help="publish a training run on the Hub: model, card, pictures",
        description="Publish the folder of a training run on the Hub: the finished model, or that of the newest "
        "checkpoint, with its processor, card, pictures and numbers, in one commit. What is there already is not "
        "sent again: a push that broke off goes on with the same command, and with nothing new it does nothing. A "
        "card that was edited on the Hub stays as it is.",
    )
    push.add_argument("folder", metavar="DIR", help="the --output_dir of a run of pretrain.py or finetune.py")
    push.add_argument(
        "--hub_model_id",
        "--hub-model-id",
        required=True,
        metavar="ORG/NAME",
        help="repository (NAME alone: among your own); needs `hf auth login`",
    )
    push.add_argument("--private", action="store_true", help="make the repository private, if it is new")
    push.add_argument(
        "--state",
        action="store_true",
        help="also the newest checkpoint, to the branch training-state: --resume ORG/NAME goes on from it",
    )
    push.add_argument(
        "--overwrite", action="store_true", help="replace the model of another run (it stays in the history)"
    )
    push.add_argument(
        "--overwrite_card", "--overwrite-card", action="store_true", help="replace a card that was edited on the Hub"
    )
    push.set_defaults(run=_push_run, takes_fields=False)


def _convert(arguments: argparse.Namespace, rest: list[str]) -> int:
    from .convert import convert_checkpoint
    from .convert.heads import read_indices, read_names

    fields = _fields(rest)
    if Path(arguments.out_dir).is_file():
        _fail(f"{arguments.out_dir} is a file; give a directory")
    conversion = convert_checkpoint(
        arguments.file,
        fix=arguments.fix,
        inflate=arguments.inflate,
        positions=arguments.positions,
        head_indices=read_indices(arguments.head_indices) if arguments.head_indices else None,
        id2label=read_names(arguments.id2label) if arguments.id2label else None,
        license=arguments.license,
        revision=arguments.revision,
        check=not arguments.no_check,
        **fields,
    )
    conversion.save(arguments.out_dir)
    report, config = conversion.report, conversion.model.config
    for warning in report.warnings:
        print(f"hf-videomae: warning: {warning}", file=sys.stderr)
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


def _predict(arguments: argparse.Namespace, rest: list[str]) -> int:
    from .inference import find_inputs, predict
    from .video.decoding import VideoBackendError

    try:
        found = predict(
            arguments.model,
            find_inputs(arguments.videos),
            views=arguments.views,
            top_k=arguments.top_k,
            sampling=arguments.sampling,
            stride=arguments.stride,
            device=arguments.device or _device(),
            batch_size=arguments.batch_size,
            keep_going=True,
        )
    except VideoBackendError as error:
        _fail(str(error))
    width = max(len(answer.video) for answer in found)
    for answer in found:
        if arguments.json:
            print(json.dumps(answer.to_dict()))
        else:
            print(f"{answer.video:{width}}  {answer.to_text()}")
    return _told_of_bad(sum(answer.error is not None for answer in found), len(found))


def _features(arguments: argparse.Namespace, rest: list[str]) -> int:
    from .inference import FeatureExtractor, store_features
    from .video.decoding import VideoBackendError

    extractor = FeatureExtractor(
        arguments.model,
        pool=arguments.pool,
        layer=arguments.layer,
        hop=arguments.hop,
        stride=arguments.stride,
        device=arguments.device or _device(),
        batch_size=arguments.batch_size,
    )
    try:
        stored = store_features(
            extractor,
            arguments.videos,
            arguments.output_dir,
            model=arguments.model,
            file_format=arguments.format,
            progress=print,
        )
    except VideoBackendError as error:
        _fail(str(error))
    print(f"{stored.written} videos written to {arguments.output_dir}, {stored.skipped} were there already")
    return _told_of_bad(len(stored.bad), stored.written + stored.skipped + len(stored.bad))


def _doctor(arguments: argparse.Namespace, rest: list[str]) -> int:
    from .doctor import collect_facts, diagnose, is_healthy, to_dict, to_table

    facts = collect_facts(arguments.output_dir, network=not arguments.offline)
    findings = diagnose(facts)
    print(json.dumps(to_dict(facts, findings), indent=2) if arguments.json else to_table(findings))
    return 0 if is_healthy(findings) else 1


def _prepare(arguments: argparse.Namespace, rest: list[str]) -> int:
    from .data.prepare import PrepareSettings, prepare, push_set
    from .video.decoding import VideoBackendError
    from .video.encoding import EncodeSettings

    settings = PrepareSettings(
        encode=EncodeSettings(short_side=arguments.short_side, gop=arguments.gop, crf=arguments.crf),
        trim=_trim(arguments.trim),
        format=arguments.format,
        shard_megabytes=arguments.shard_megabytes,
        num_shards=arguments.num_shards,
        label_kind=arguments.problem_type,
        license=arguments.license,
    )
    options = ("index", "config", "revision", "video_column", "label_column", "jobs")
    try:
        target = _target(arguments)
        done = prepare(
            arguments.source,
            arguments.destination,
            settings=settings,
            progress=True,
            **{name: getattr(arguments, name) for name in options},
        )
        _tell_prepared(arguments.destination, done)
        if target is not None:
            _tell_pushed(push_set(arguments.destination, target, progress=True))
    except VideoBackendError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("hf-videomae: interrupted; the same command goes on from here", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _target(arguments: argparse.Namespace) -> Any:
    """Where the set is to be published, looked at before the work begins; None where it is not."""
    from .data.prepare import check_target
    from .data.prepare.inputs import name_of

    options = {name: getattr(arguments, name) for name in ("private", "overwrite")}
    if arguments.push_to_hub is not None:
        return check_target(arguments.push_to_hub, source=name_of(arguments.source), **options)
    if any(options.values()):
        _fail("--private and --overwrite say how to publish; give --push_to_hub ORG/NAME as well, or leave them out")
    return None


def _tell_prepared(destination: str, done: Any) -> None:
    from .data.prepare import describe_report

    if done.nothing_new:
        print(f"{destination} is up to date, nothing was done")
    elif done.reused:
        print(f"{done.reused} videos were there already")
    print("\n".join(describe_report(done.report)))
    print(f"{destination}: {done.report['kept']} of {done.report['found']} videos, report.json, README.md")


def _tell_pushed(pushed: Any) -> None:
    if pushed.sent or pushed.removed:
        gone = f", {pushed.removed} files of an earlier push are gone" if pushed.removed else ""
        print(f"{pushed.id}: {pushed.sent} files, {pushed.num_bytes / 1e6:.1f} MB sent{gone}; {pushed.url}")
    else:
        print(f"{pushed.id} holds it already, nothing was sent; {pushed.url}")


def _push_run(arguments: argparse.Namespace, rest: list[str]) -> int:
    from .hub import ModelTarget, Timing, describe, push_run

    options = {name: getattr(arguments, name) for name in ("private", "overwrite", "overwrite_card")}
    target = ModelTarget(id=arguments.hub_model_id, **options)
    patience = Timing.from_environment().patience
    try:
        target, published = push_run(arguments.folder, target, with_state=arguments.state, patience=patience)
    except KeyboardInterrupt:
        print("hf-videomae: interrupted; the same command goes on from here", file=sys.stderr)
        return _INTERRUPTED
    for note in published.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{target.url}: {describe(published)}")
    return 0


def _card(arguments: argparse.Namespace, rest: list[str]) -> int:
    from .hub import check_card, write_card

    if arguments.check:
        path = Path(arguments.folder) / "README.md"
        if not path.is_file():
            _fail(f"there is no {path}; hf-videomae card {arguments.folder} writes it")
        problems = check_card(path.read_text(encoding="utf-8"), arguments.folder)
        print("\n".join(problems) or f"{path}: nothing wrong in the header")
        return 1 if problems else 0
    path, notes = write_card(
        arguments.folder, model_id=arguments.model_id, licence=arguments.license, overwrite=arguments.overwrite
    )
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(path)
    return 0


def _trim(text: str | None) -> Any:
    from .video.encoding import Trim

    if text is None:
        return Trim()
    start, colon, end = text.partition(":")
    try:
        first, last = float(start or 0), float(end) if end else None
    except ValueError:
        colon = ""
    if not colon:
        _fail(f"--trim {text} is not START:END in seconds; give for example 0:10, 5: or :10")
    return Trim(start=first, end=last)


def _device() -> str:
    import torch

    return str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"


def _told_of_bad(bad: int, count: int) -> int:
    """The exit status: 1 where videos had to be left out."""
    if bad:
        print(f"{bad} of {count} videos could not be decoded", file=sys.stderr)
    return 1 if bad else 0


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
