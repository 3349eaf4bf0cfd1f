"""Add the command that turns raw videos into a dataset: prepare."""

import argparse
from typing import Any

from .common import both_spellings, exit_with_error, print_notes


def add_commands(commands: Any) -> None:
    """Add the command of this file."""
    prepare = commands.add_parser(
        "prepare",
        help="turn raw videos into a small, evenly sharded, streamable dataset",
        description="Turn raw videos into a small, evenly sharded, streamable dataset: short side 256, short groups "
        "of pictures, no audio, in Parquet or WebDataset, with labels, splits and a data card. Videos that cannot be "
        "used are left out and listed in dropped.jsonl. After a kill, the same command continues; with nothing new, "
        "it does nothing. The work takes twice the space of the result.",
        epilog="With --push_to_hub the finished set is published in one commit: shards, data card, report and lists. "
        "Files that the Hub has already are not sent again, shards of an earlier push that are no longer in the set "
        "are deleted, and the same command continues an interrupted push. A push never changes the set in DST.",
    )
    prepare.add_argument(
        "source",
        metavar="SRC",
        help="folder of videos, list of them (CSV), folder of Parquet or WebDataset files, or org/name",
    )
    prepare.add_argument("destination", metavar="DST", help="folder of the new dataset")
    prepare.add_argument(
        *both_spellings("short_side"),
        type=int,
        default=256,
        help="pixels, taken as square: a pixel aspect ratio is ignored, as in the paper (default: 256)",
    )
    prepare.add_argument("--gop", type=int, default=12, help="frames from keyframe to keyframe (default: 12)")
    prepare.add_argument("--crf", type=int, default=23, help="x264's constant quality, less is better (default: 23)")
    prepare.add_argument("--trim", metavar="START:END", help="seconds to keep of each video: 0:10, 5: or :10")
    prepare.add_argument("--format", choices=("parquet", "webdataset"), default="parquet", help="default: parquet")
    prepare.add_argument(
        "--index",
        metavar="FILE",
        help="CSV or JSONL with path, label, and optionally split, start, end (seconds) (default: index.csv or "
        "metadata.csv of SRC, else class and split folders)",
    )
    prepare.add_argument(
        *both_spellings("problem_type"),
        choices=("single_label_classification", "multi_label_classification", "regression"),
        default="single_label_classification",
        help="kind of labels (default: one class per video)",
    )
    prepare.add_argument(
        *both_spellings("shard_megabytes"),
        type=float,
        default=100.0,
        help="size of a shard (default: 100; small sets get up to 16 smaller ones of 4 or more videos)",
    )
    prepare.add_argument(*both_spellings("num_shards"), type=int, help="shards of every split, instead of a size")
    prepare.add_argument("--license", help="license of the videos, in the Hub's spelling (default: the source's)")
    prepare.add_argument("--jobs", type=int, help="videos at a time (default: one per core)")
    prepare.add_argument("--config", help="configuration of a Hub dataset")
    prepare.add_argument("--revision", help="branch, tag or commit of a Hub dataset")
    _add_columns(prepare)
    _add_push(prepare)
    prepare.set_defaults(run=_prepare)


def _add_columns(prepare: argparse.ArgumentParser) -> None:
    prepare.add_argument(
        *both_spellings("video_column"),
        help="column of videos in Parquet or WebDataset files (default: found by its type)",
    )
    prepare.add_argument(
        *both_spellings("label_column"),
        help="column of labels in Parquet or WebDataset files, json.KEY for a key of JSON members (default: found by "
        "type or name)",
    )
    prepare.add_argument(
        *both_spellings("allow_paths"),
        nargs="+",
        default=(),
        metavar="HOST_OR_FOLDER",
        help="hosts, folders and beginnings of URLs (s3://bucket) that the rows of a dataset may name (default: its "
        "own files alone). --push_to_hub publishes the videos opened so",
    )


def _add_push(prepare: argparse.ArgumentParser) -> None:
    prepare.add_argument(
        *both_spellings("push_to_hub"),
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


def _prepare(arguments: argparse.Namespace) -> int:
    from ..prepare import PrepareSettings, prepare, push_dataset
    from ..video.encoding import EncodeSettings

    settings = PrepareSettings(
        encode=EncodeSettings(short_side=arguments.short_side, gop=arguments.gop, crf=arguments.crf),
        trim=_parse_trim(arguments.trim),
        format=arguments.format,
        shard_megabytes=arguments.shard_megabytes,
        num_shards=arguments.num_shards,
        label_kind=arguments.problem_type,
        license=arguments.license,
    )
    options = ("index", "config", "revision", "video_column", "label_column", "allow_paths", "jobs")
    target = _resolve_target(arguments)
    result = prepare(
        arguments.source,
        arguments.destination,
        settings=settings,
        publish=target is not None,
        progress=True,
        on_note=lambda note: print_notes([note]),
        **{name: getattr(arguments, name) for name in options},
    )
    _print_prepared(arguments.destination, result)
    if target is not None:
        _print_pushed(target, push_dataset(arguments.destination, target, progress=True))
    return 0


def _parse_trim(text: str | None) -> Any:
    from ..video.encoding import Trim

    if text is None:
        return Trim()
    start, colon, end = text.partition(":")
    try:
        first, last = float(start or 0), float(end) if end else None
    except ValueError:
        colon = ""
    if not colon:
        exit_with_error(f"--trim {text} is not START:END in seconds; give for example 0:10, 5: or :10")
    return Trim(start=first, end=last)


def _resolve_target(arguments: argparse.Namespace) -> Any:
    """Check where to publish, before the work begins; None if nothing is published."""
    from ..prepare import check_dataset_target
    from ..prepare.scan import dataset_display_name

    options = {name: getattr(arguments, name) for name in ("private", "overwrite")}
    if arguments.push_to_hub is not None:
        return check_dataset_target(arguments.push_to_hub, source=dataset_display_name(arguments.source), **options)
    if any(options.values()):
        exit_with_error(
            "--private and --overwrite say how to publish; give --push_to_hub ORG/NAME as well, or leave them out"
        )
    return None


def _print_prepared(destination: str, result: Any) -> None:
    from ..prepare import describe_report

    if result.is_unchanged:
        print(f"{destination} is up to date, nothing was done")
    elif result.reused:
        print(f"{result.reused} videos were there already")
    print("\n".join(describe_report(result.report)))
    print_notes(result.notes)
    print(f"{destination}: {result.report['kept']} of {result.report['found']} videos, report.json, README.md")


def _print_pushed(target: Any, pushed: Any) -> None:
    if pushed.changed:
        removed_note = f", {pushed.removed} files of an earlier push were deleted" if pushed.removed else ""
        print(f"{target.id}: {pushed.files} files, {pushed.num_bytes / 1e6:.1f} MB sent{removed_note}; {target.url}")
    else:
        print(f"{target.id} holds it already, nothing was sent; {target.url}")
