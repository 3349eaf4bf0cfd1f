"""The data card of a prepared set: a pure function of its report."""

from typing import Any

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_CLASSES_SHOWN = 100
_ID = "org/name"


def render_card(report: dict[str, Any], *, features: Any, license: str | None) -> str:
    """README.md of the set, with the header that the Hub and `datasets` read.

    Args:
        report: as in `report.json`.
        features: the columns.
        license: named only where the user names it.
    """
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    splits = report["splits"]
    infos = SplitDict()
    for name, split in splits.items():
        infos.add(SplitInfo(name=name, num_bytes=split["bytes"], num_examples=split["videos"]))
    total = sum(split["bytes"] for split in splits.values())
    labelled = report["classes"] is not None or report["settings"]["label_kind"] == "regression"
    data = DatasetCardData(
        license=license,
        task_categories=["video-classification"] if labelled and not report["unlabelled"] else None,
        size_categories=[_size(sum(split["videos"] for split in splits.values()))],
        tags=["video", *(["webdataset"] if report["settings"]["format"] == "webdataset" else [])],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": name, "path": f"data/{name}-*"} for name in splits],
            }
        ],
    )
    info = DatasetInfo(features=features, splits=infos, dataset_size=total, download_size=_download_size(report))
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    return f"---\n{data.to_yaml()}\n---\n\n{_text(report)}"


def with_id(card: str, id: str) -> str:
    """The card of a published set: its examples name the set."""
    before, use, example = card.rpartition("## Use\n")
    return f"{before}{use}{example.replace(_ID, id)}"


def _size(videos: int) -> str:
    return next((name for limit, name in _SIZES if videos < limit), "n>10M")


def _download_size(report: dict[str, Any]) -> int:
    return sum(shard["file_bytes"] for split in report["splits"].values() for shard in split["shards"])


def _text(report: dict[str, Any]) -> str:
    settings = report["settings"]
    parts = [
        f"# {report['source']}",
        f"Videos prepared for training with `hf-videomae prepare` (hf_videomae {report['versions']['hf_videomae']}): "
        f"H.264 in MP4, short side at most {settings['short_side']} pixels, a key frame every {settings['gop']} "
        f"frames, constant quality (crf {settings['crf']}), no audio, upright{_trimmed(settings)}. Every frame keeps "
        f"its time stamp. Shards are in {_FORMATS[settings['format']]}, of nearly equal bytes, with classes mixed.",
        "| split | videos | hours | MB | shards |\n|---|---|---|---|---|\n" + "\n".join(_split_lines(report)),
        *_class_table(report),
        _dropped(report),
        "## Use\n\n```python\nimport datasets\n\n"
        f'videos = datasets.load_dataset("{_ID}", split="train", streaming=True)  # or the path of this folder\n'
        f"```\n\n```bash\naccelerate launch examples/pretrain.py --dataset {_ID}\n```",
        "The rights of the videos stay with their owners."
        + ("" if settings["license"] else " No licence was stated when this set was made."),
    ]
    return "\n\n".join(parts) + "\n"


_FORMATS = {"parquet": "Parquet with embedded videos", "webdataset": "WebDataset (tar)"}


def _trimmed(settings: dict[str, Any]) -> str:
    start, end = settings["start"], settings["end"]
    if start == 0 and end is None:
        return ""
    return f", cut to the seconds {start:g} to {'the end' if end is None else f'{end:g}'}"


def _split_lines(report: dict[str, Any]) -> list[str]:
    return [
        f"| {name} | {split['videos']} | {split['seconds'] / 3600:.2f} | {split['bytes'] / 1e6:.1f} "
        f"| {len(split['shards'])} |"
        for name, split in report["splits"].items()
    ]


def _class_table(report: dict[str, Any]) -> list[str]:
    classes = report["classes"]
    if classes is None:
        return [] if report["unlabelled"] == "" else [f"There are no labels: {report['unlabelled']}."]
    if len(classes) > _CLASSES_SHOWN:
        return [f"{len(classes)} classes; their names are in the column's type."]
    lines = [f"| {name.replace('|', chr(92) + '|')} | {count} |" for name, count in classes.items()]
    return ["| class | videos |\n|---|---|\n" + "\n".join(lines)]


def _dropped(report: dict[str, Any]) -> str:
    dropped = report["dropped"]
    if not dropped:
        return f"None of the {report['found']} videos was left out."
    return (
        f"Of {report['found']} videos {dropped} {'was' if dropped == 1 else 'were'} left out; `dropped.jsonl` names "
        f"each with its reason, `videos.jsonl` lists those that were kept."
    )
