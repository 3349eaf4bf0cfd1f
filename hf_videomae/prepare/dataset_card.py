"""Render the dataset card of a prepared dataset from its report."""

import fnmatch
import shlex
from pathlib import Path
from typing import Any

from ..cards import code_span, escape_markdown, escape_to_one_line
from ..cards.header import check_header, find_unknown_names, license_header_fields, parse_header
from ..cards.license import Ancestor, License, inherit_license
from ..cards.markdown import (
    CARD_FILE,
    code_block,
    is_unedited,
    join_card,
    section,
    table,
    with_checksum,
    without_checksum,
    write_readme,
)
from ..errors import DataError
from .layout import list_shards, read_report
from .shards import build_features

_SIZE_CATEGORIES = (
    *((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")),
    *((10**8, "10M<n<100M"), (10**9, "100M<n<1B")),
)
_MAX_CLASSES_SHOWN, _MAX_REASONS_SHOWN = 100, 10
_ID_PLACEHOLDER = "org/name"
_FORMATS = {"parquet": "Parquet with embedded videos", "webdataset": "WebDataset (tar)"}
_COLUMNS = {"parquet": "video", "webdataset": "mp4"}
# Header fields that follow from the files: they are updated in an edited card, too.
_FILE_FIELDS = ("configs", "dataset_info", "size_categories")


def write_dataset_card(
    folder: str | Path, *, id: str | None = None, license: str | None = None, overwrite: bool = False
) -> tuple[Path, tuple[str, ...]]:
    """Write the card of a prepared dataset from its report.

    Args:
        folder: of the dataset.
        id: the repository where it is or will be published.
        license: of the videos, as far as the source leaves that open.
        overwrite: replace a README.md that was edited.

    Returns:
        The file, and notes.

    Raises:
        DataError: when the folder holds no prepared dataset.
        CardError: when the README.md was edited or written by somebody else.
        LicenseError: when the source forbids that license.
    """
    report = read_report(Path(folder))
    if report is None:
        raise DataError(f"{folder} holds no prepared dataset; make one with `hf-videomae prepare`")
    path = write_readme(folder, render_card(report, id=id, license=license), overwrite=overwrite)
    resolved = dataset_license(report, requested=license)
    return path, () if resolved.name else (f"{resolved.reason} --license NAME states one",)


def update_dataset_card(folder: Path, report: dict[str, Any]) -> tuple[str, ...]:
    """Write the card of a dataset that was just made; in an edited card, update only what describes the files.

    Returns:
        Notes for the user.
    """
    path, card = folder / CARD_FILE, render_card(report)
    previous = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
    if previous is None or is_unedited(previous):
        write_readme(folder, card, overwrite=True)
        return ()
    try:
        write_readme(folder, _refresh_header(previous, card), overwrite=True)
    except ValueError as error:
        return (f"{path} was edited and is kept, but {error}; fix it, or run `hf-videomae card {folder} --overwrite`",)
    return (
        f"{path} was edited and is kept, with the numbers in its header updated; `hf-videomae card {folder} "
        f"--overwrite` replaces it",
    )


def _refresh_header(previous: str, card: str) -> str:
    from huggingface_hub import RepoCard

    parse_header(previous)
    edited, new = RepoCard(previous, ignore_metadata_errors=True), parse_header(card)
    for name in _FILE_FIELDS:
        edited.data[name] = new.get(name)
    return str(edited)


def fill_in_dataset_id(card: str, id: str) -> str:
    """Return the card of a published dataset, with the dataset's id in its examples."""
    previous, use, example = (without_checksum(card) if is_unedited(card) else card).rpartition("## Use\n")
    named = f"{previous}{use}{example.replace(_ID_PLACEHOLDER, id)}"
    return with_checksum(named) if is_unedited(card) else named


def dataset_license(report: dict[str, Any], *, requested: str | None = None) -> License:
    """Return the license of a dataset: a non-commercial one of its source stays, else the stated one, else its
    source's.

    Args:
        report: the content of `report.json`.
        requested: replaces the license that was stated when the dataset was made.

    Raises:
        LicenseError: when the source forbids the stated one.
    """
    return inherit_license([_source(report)], requested=requested or report["settings"]["license"])


def _source(report: dict[str, Any]) -> Ancestor:
    known = report.get("origin", {})
    facts = {name: known.get(name) for name in ("hub_id", "revision")}
    return Ancestor(name=report["source"], **facts, license=known.get("license"), is_data=True)


def render_card(report: dict[str, Any], *, id: str | None = None, license: str | None = None) -> str:
    """Return README.md of the dataset, with the header that the Hub and `datasets` read.

    Args:
        report: the content of `report.json`.
        id: the repository where the dataset is published.
        license: of the videos; None: as stated when the dataset was made, or the source's.
    """
    resolved_license = dataset_license(report, requested=license)
    text = join_card(
        _header(report, resolved_license),
        [
            f"# {escape_markdown(report['source'])}",
            _introduction_text(report),
            section("Videos", _splits_table(report), *_classes_section(report)),
            section("How it was made", *_preparation_section(report)),
            section("Left out", *_skipped_section(report)),
            section("License", resolved_license.reason, "The rights of the videos stay with their owners."),
            section("Limits and biases", _limits_text(report)),
            section("Versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items()) + "."),
            section("Use", *_usage_section(report)),
        ],
    )
    card = with_checksum(text)
    return card if id is None else fill_in_dataset_id(card, id)


# The header.


def _header(report: dict[str, Any], license: License) -> str:
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    splits, source = report["splits"], _source(report)
    data_files = [{"split": name, "path": f"data/{name}-*"} for name in splits]
    num_videos = sum(split["videos"] for split in splits.values())
    data = DatasetCardData(
        **license_header_fields(license.name),  # type: ignore[arg-type]
        pretty_name=escape_to_one_line(report["source"]),
        task_categories=["video-classification"] if _is_labeled(report) else None,
        size_categories=[next((name for limit, name in _SIZE_CATEGORIES if num_videos < limit), "1B<n<10B")],
        tags=["video", *(["webdataset"] if report["settings"]["format"] == "webdataset" else [])],
        source_datasets=[source.hub_id] if source.hub_id else None,
        configs=[{"config_name": "default", "data_files": data_files}],
    )
    infos = SplitDict()
    for name, split in splits.items():
        infos.add(SplitInfo(name=name, num_bytes=split["bytes"], num_examples=split["videos"]))
    sizes = {
        "dataset_size": sum(split["bytes"] for split in splits.values()),
        "download_size": sum(shard["file_bytes"] for shard in list_shards(report)),
    }
    info = DatasetInfo(features=_features(report), splits=infos, **sizes)
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    return str(data.to_yaml())


def _features(report: dict[str, Any]) -> Any:
    settings, classes = report["settings"], report["classes"]
    kind = settings["label_kind"] if _is_labeled(report) else None
    return build_features(settings["format"], class_names=None if classes is None else list(classes), kind=kind)


def _is_labeled(report: dict[str, Any]) -> bool:
    return not report["unlabelled"]


def check_dataset_card(text: str, folder: str | Path | None = None) -> list[str]:
    """Return what is wrong in the header of a dataset card, as far as that shows without the network.

    Args:
        text: the whole card.
        folder: of the card: the files that its `configs` name must be in it. None: this is not checked.

    Returns:
        A line for each problem.
    """
    try:
        fields = parse_header(text)
    except ValueError as error:
        return [str(error)]
    lists = {"task_categories": "pipeline_tags", "size_categories": "size_categories"}
    names = [
        line
        for key, known in lists.items()
        if fields.get(key)
        for line in find_unknown_names(fields, key, known=known)
    ]
    return [*names, *check_header(fields), *([] if folder is None else _file_problems(fields, Path(folder)))]


def _file_problems(fields: dict[str, Any], folder: Path) -> list[str]:
    """Return the splits of `configs` without files; an entry that somebody wrote in another form is not checked."""
    existing = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    configs = [config.get("data_files") for config in fields.get("configs") or [] if isinstance(config, dict)]
    named = [entry for entries in configs if isinstance(entries, list) for entry in entries]
    return [
        f"configs name {entry['path']} for the split {entry.get('split')}, and there is no such file"
        for entry in named
        if isinstance(entry, dict)
        and isinstance(path := entry.get("path"), str)
        and not fnmatch.filter(existing, path)
    ]


# The text.


def _introduction_text(report: dict[str, Any]) -> str:
    splits = report["splits"].values()
    videos, seconds = (sum(split[key] for split in splits) for key in ("videos", "seconds"))
    classes = report["classes"]
    what = f" of {len(classes)} classes" if classes else " with a number each" if _is_labeled(report) else ""
    settings = report["settings"]
    duration = f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:.1f} hours"
    return (
        f"{videos} videos{what}, {duration}, made small for streaming: short side at most "
        f"{settings['short_side']} pixels, in shards of nearly equal bytes with classes mixed "
        f"({_FORMATS[settings['format']]})."
    )


def _splits_table(report: dict[str, Any]) -> str | None:
    rows = [
        (
            escape_markdown(name),
            split["videos"],
            f"{split['seconds'] / 3600:.2f}",
            f"{split['bytes'] / 1e6:.1f}",
            len(split["shards"]),
        )
        for name, split in report["splits"].items()
    ]
    return table(("split", "videos", "hours", "MB", "shards"), rows)


def _classes_section(report: dict[str, Any]) -> list[str | None]:
    classes = report["classes"]
    if classes is None:
        return [f"There are no labels: {escape_markdown(report['unlabelled'])}." if report["unlabelled"] else None]
    if len(classes) > _MAX_CLASSES_SHOWN:
        return [f"{len(classes)} classes; their names are in the column's type."]
    return [table(("class", "videos"), [(escape_markdown(name), count) for name, count in classes.items()])]


def _preparation_section(report: dict[str, Any]) -> list[str | None]:
    settings, source = report["settings"], _source(report)
    commit = f", commit {code_span(source.revision)}" if source.revision else ""
    origin_text = (
        f"From the dataset {code_span(source.hub_id)} of the Hub{commit}:" if source.hub_id else "From a folder:"
    )
    return [
        origin_text,
        code_block(prepare_command(report), "bash"),
        f"H.264 in MP4 with a key frame every {settings['gop']} frames, constant quality (crf {settings['crf']}), no "
        f"audio, upright{_trim_text(settings)}. Every frame keeps its timestamp.",
    ]


def prepare_command(report: dict[str, Any]) -> str:
    """Return the command that makes this dataset, with every option it depends on; folders by name only."""
    settings, source = report["settings"], _source(report)
    options = {
        **report.get("input", {}),
        **{name: settings[name] for name in ("short_side", "gop", "crf", "format", "shard_megabytes", "num_shards")},
        "problem_type": settings["label_kind"] if _is_labeled(report) else None,
        "license": settings["license"],
        "revision": source.revision,
    }
    if settings["start"] or settings["end"] is not None:
        end = "" if settings["end"] is None else f"{settings['end']:g}"
        options["trim"] = f"{settings['start']:g}:{end}"
    words = ["hf-videomae", "prepare", source.hub_id or f"path/to/{source.name}", "path/to/set"]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)


def _trim_text(settings: dict[str, Any]) -> str:
    start, end = settings["start"], settings["end"]
    if start == 0 and end is None:
        return ""
    return f", cut to the seconds {start:g} to {'the end' if end is None else f'{end:g}'}"


def _skipped_section(report: dict[str, Any]) -> list[str | None]:
    dropped, noted = report["dropped"], len(report["kept_with_a_note"])
    damaged = f"{noted} damaged videos were kept; `report.json` holds what their decoder said." if noted else None
    if not dropped:
        return [f"None of the {report['found']} videos was left out.", damaged]
    reasons = list(report["dropped_because"].items())
    return [
        f"Of {report['found']} videos {dropped} {'was' if dropped == 1 else 'were'} left out; `dropped.jsonl` names "
        f"each with its reason, `videos.jsonl` lists those that were kept.",
        table(
            ("why left out", "videos"), [(escape_markdown(why), count) for why, count in reasons[:_MAX_REASONS_SHOWN]]
        ),
        damaged,
    ]


def _limits_text(report: dict[str, Any]) -> str:
    lines = [
        "What and whom the videos show is as in their source: how they were chosen, filmed and labeled was not "
        "examined here, and models trained on them may inherit their biases.",
        f"They are smaller than the originals and compressed again: at most {report['settings']['short_side']} "
        f"pixels on the short side, and no sound.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _usage_section(report: dict[str, Any]) -> list[str]:
    split, column = next(iter(report["splits"])), _COLUMNS[report["settings"]["format"]]
    script = "finetune.py --model org/my-videomae" if _is_labeled(report) else "pretrain.py"
    return [
        code_block(
            "import datasets\n\n"
            "# The path of this folder works too.\n"
            f'videos = datasets.load_dataset("{_ID_PLACEHOLDER}", split="{split}", streaming=True)\n'
            "for video in videos.decode(False):  # the encoded files; decoding every frame is rarely needed\n"
            f'    print(len(video["{column}"]["bytes"]))\n'
            "    break"
        ),
        "With hf_videomae, which decodes only the frames of a clip:",
        code_block(f"accelerate launch examples/{script} --dataset {_ID_PLACEHOLDER}", "bash"),
    ]


__all__ = [
    "check_dataset_card",
    "prepare_command",
    "update_dataset_card",
    "dataset_license",
    "render_card",
    "fill_in_dataset_id",
    "write_dataset_card",
]
