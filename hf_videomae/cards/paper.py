"""List the published accuracies that the shipped recipes should reach; a run's card compares with them."""

from dataclasses import dataclass

_V1 = "VideoMAE (arXiv 2203.12602v3)"
_V2 = "the tables of VideoMAE V2's repository"


@dataclass(frozen=True, kw_only=True)
class PaperResult:
    """A published result in percent, with its data, views and source."""

    data: str
    classes: int
    top1: float
    top5: float | None
    views: str
    source: str


def _k400(top1: float, top5: float, source: str) -> PaperResult:
    return PaperResult(data="Kinetics-400", classes=400, top1=top1, top5=top5, views="5x3", source=source)


def _ssv2(top1: float, top5: float, source: str) -> PaperResult:
    return PaperResult(data="Something-Something V2", classes=174, top1=top1, top5=top5, views="2x3", source=source)


_TABLE_6, _TABLE_7 = f"{_V1}, Table 6", f"{_V1}, Table 7"

PAPER_RESULTS = {
    "v1-k400-small-finetune": _k400(79.0, 93.8, _TABLE_7),
    "v1-k400-base-finetune": _k400(81.5, 95.1, _TABLE_7),
    "v1-k400-base-800-finetune": _k400(80.0, 94.4, f"{_V1}, Table 1, and the model zoo"),
    "v1-k400-large-finetune": _k400(85.2, 96.8, _TABLE_7),
    "v1-k400-huge-finetune": _k400(86.6, 97.1, _TABLE_7),
    "v1-ssv2-small-finetune": _ssv2(66.8, 90.3, _TABLE_6),
    "v1-ssv2-base-finetune": _ssv2(70.8, 92.4, _TABLE_6),
    "v1-ssv2-base-800-finetune": _ssv2(69.6, 92.0, f"{_V1}, Table 1, and the model zoo"),
    "v1-ssv2-large-finetune": _ssv2(74.3, 94.6, _TABLE_6),
    "v1-ucf101-base-finetune": PaperResult(
        data="UCF101", classes=101, top1=91.3, top5=98.5, views="5x3", source=f"{_V1}, Table 2, and the model zoo"
    ),
    "v1-hmdb51-base-finetune": PaperResult(
        data="HMDB51", classes=51, top1=62.6, top5=None, views="10x3", source=f"{_V1}, Table 2"
    ),
    "v2-k400-giant-finetune": _k400(87.2, 97.4, _V2),
    "v2-k710-k400-giant-finetune": _k400(88.4, 98.0, _V2),
    "v2-k710-giant-finetune": PaperResult(
        data="Kinetics-710", classes=710, top1=83.8, top5=96.4, views="5x3", source=_V2
    ),
    "v2-k710-k600-giant-finetune": PaperResult(
        data="Kinetics-600", classes=600, top1=88.8, top5=98.2, views="5x3", source=_V2
    ),
    "v2-ssv2-giant-finetune": _ssv2(77.0, 95.9, _V2),
    "v2-ucf101-giant-finetune": PaperResult(
        data="UCF101", classes=101, top1=99.6, top5=100.0, views="5x3", source=_V2
    ),
    "v2-hmdb51-giant-finetune": PaperResult(data="HMDB51", classes=51, top1=88.1, top5=98.5, views="5x3", source=_V2),
}
"""Name of a recipe -> the published result."""
