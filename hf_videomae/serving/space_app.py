"""Serve the page of a Space: drop a video, see what a VideoMAE predicts for it.

`hf-videomae space` copies this file into a Space as `app.py`, with its settings in `space.json`. On your own machine,
run `python examples/app.py --model org/my-finetuned --pretrained org/my-videomae`.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

# Set before gradio is imported: otherwise it sends usage data and checks for new versions.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr  # noqa: E402
import torch  # noqa: E402

from hf_videomae import VideoMAEForPreTraining, reconstruct  # noqa: E402
from hf_videomae.cards import code_span, escape_markdown  # noqa: E402
from hf_videomae.inference import (  # noqa: E402
    Timeline,
    draw_reconstruction,
    draw_saliency,
    draw_timeline,
    load_classifier,
    load_processor,
    predict_timeline,
    token_saliency,
)
from hf_videomae.video import limits  # noqa: E402
from hf_videomae.video.decoding import VideoBackendError, VideoDecodeError  # noqa: E402

_SETTINGS_FILE = Path(__file__).with_name("space.json")
# Limits the memory that the clips of one visitor may use.
_SPACE_CLIP_BYTES = 2 * 2**30
_WINDOW_BATCH_SIZE = 2
_NUM_CLASSES = 5
_CLEANUP_SECONDS, _FILE_LIFETIME_SECONDS = 600, 3600

_OVER_TIME_HELP = "Each row is one class: the higher the orange, the surer the model is at that moment of the video."
_SALIENCY_HELP = (
    "Red cubes raise the score of the chosen class, blue ones lower it, at the moment where that score is highest."
)
_RECONSTRUCTION_HELP = (
    "Most of a clip is hidden (gray), and the model paints what it expects there from the few cubes that it sees."
)
_UNREADABLE_VIDEO = (
    "**This file could not be read as a video.** Please give an MP4, MOV, WebM, MKV or AVI file with pictures."
)

# For a file that is too large, Gradio shows only "Error", after the upload. This explains it before anything is sent.
_SIZE_CHECK = """<script>
(() => {
  const most = MEGABYTES * 1e6;
  const check = (event) => {
    const given = event.target.files || (event.dataTransfer || {}).files || [];
    if (!given.length) return;
    document.getElementById("too-large")?.remove();
    const large = [...given].find((file) => file.size > most);
    if (!large) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    const notice = document.createElement("p");
    notice.id = "too-large";
    const size = Math.ceil(large.size / 1e6);
    notice.textContent = `${large.name} has ${size} MB, and files up to MEGABYTES MB are taken. ` +
      "Please cut it, or give a smaller one.";
    notice.setAttribute("role", "alert");
    notice.style.fontWeight = "bold";
    document.getElementById("video").after(notice);
    if (event.target.files) event.target.value = "";
  };
  document.addEventListener("change", check, true);
  document.addEventListener("drop", check, true);
})();
</script>"""

# Fonts of the visitor's system: none is downloaded.
_THEME = {
    "primary_hue": "orange",
    "font": ["system-ui", "sans-serif"],
    "font_mono": ["ui-monospace", "monospace"],
}


@dataclass(frozen=True, kw_only=True)
class SpaceSettings:
    """What a page shows, and how much of a video it analyzes.

    Attributes:
        model: Hub id or folder of a classifier; None: show no classes.
        pretrained: Hub id or folder of a pre-trained model; None: reconstruct nothing.
        title: the title of the page.
        max_megabytes: the largest file that is accepted.
        max_seconds: of a longer video, only the beginning is analyzed.
        max_windows: the most windows of a video, evenly spread.
    """

    model: str | None = None
    pretrained: str | None = None
    title: str = "What a VideoMAE sees"
    max_megabytes: int = 100
    max_seconds: int = 300
    max_windows: int = 32


class VideoAnalyzer:
    """Run the models, which are loaded once, on a video."""

    def __init__(self, settings: SpaceSettings) -> None:
        self.settings = settings
        self.device = str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"
        if settings.model is not None:
            self.classifier = load_classifier(settings.model).to(self.device)
            self.classifier_processor = load_processor(settings.model, self.classifier)
        if settings.pretrained is not None:
            self.pretrained_model = VideoMAEForPreTraining.from_pretrained(settings.pretrained).to(self.device)
            self.pretrained_processor = load_processor(settings.pretrained, self.pretrained_model)

    def classify_over_time(self, path: str) -> Timeline:
        return predict_timeline(
            self.classifier,
            path,
            max_seconds=self.settings.max_seconds,
            max_windows=self.settings.max_windows,
            processor=self.classifier_processor,
            batch_size=_WINDOW_BATCH_SIZE,
        )

    def draw_explanation(self, path: str, timeline: Timeline, name: str) -> Any:
        label = timeline.labels.index(name)
        frames = timeline.frames[timeline.peak(label)].tolist()
        return draw_saliency(
            token_saliency(self.classifier, path, label=label, frames=frames, processor=self.classifier_processor),
            columns=6,
        )

    def reconstruct_middle(self, path: str, ratio: float, seed: int) -> Any:
        reconstruction = reconstruct(
            self.pretrained_model, path, mask_ratio=ratio, seed=seed, processor=self.pretrained_processor
        )
        return draw_reconstruction(reconstruction, columns=6)


# Texts of the page.


def format_top_classes(timeline: Timeline) -> str:
    """Return a table of the classes with the highest scores and when they occur."""
    head = "| class | highest | when |\n|:---|---:|:---|"
    if timeline.kind == "regression":
        head = "| number | mean | over |\n|:---|---:|:---|"
    rows = []
    for label in timeline.top(_NUM_CLASSES):
        begin, end = timeline.seconds[timeline.peak(label)].tolist()
        score = timeline.scores[:, label].max().item()
        if timeline.kind == "regression":
            score, (begin, end) = timeline.scores[:, label].mean().item(), timeline.seconds[[0, -1], [0, 1]].tolist()
        name, shown = escape_markdown(timeline.labels[label]), _format_score(score, timeline.kind)
        rows.append(f"| {name} | {shown} | {begin:.1f} to {end:.1f} s |")
    return "\n".join([head, *rows])


def _format_score(score: float, kind: str) -> str:
    if kind == "regression":
        return f"{score:.3g}"
    return f"{score:.3f}" if score >= 0.0005 else "below 0.001"


def describe_coverage(timeline: Timeline) -> str:
    """Return a sentence on how much of the video was analyzed."""
    whole, seen = _format_duration(timeline.duration), _format_duration(timeline.seconds_covered)
    count = len(timeline.frames)
    windows = f"{count} window{'s' if count > 1 else ''} of {timeline.frames.shape[1]} frames"
    if timeline.num_frames_covered < timeline.num_frames:
        text = f"The video lasts {whole}; **only its first {seen} were looked at**, in {windows}"
    else:
        text = f"All {whole} of the video were looked at, in {windows}"
    return f"{text}, evenly spread." if timeline.num_skipped_windows else f"{text}."


def _format_duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def format_error(error: Exception) -> str:
    """Return an error in words for the visitor, without paths of the machine."""
    if isinstance(error, VideoDecodeError):
        reason = " ".join(error.reason.replace(error.path, Path(error.path).name).split())
        return f"{_UNREADABLE_VIDEO}\n\n<small>What was wrong: {_escape_html(reason)}</small>"
    if isinstance(error, VideoBackendError):
        return "**This page cannot read videos at the moment:** its machine has no working decoder."
    message = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
    return f"**That did not work:** {_escape_html(' '.join(message.split()))}"


def _escape_html(text: str) -> str:
    shown = text if len(text) <= 300 else f"{text[:299]}…"
    return shown.replace("&", "&amp;").replace("<", "&lt;")


# The page.


class SpacePage:
    """Build the components of the page and handle their events."""

    def __init__(self, settings: SpaceSettings) -> None:
        self.settings, self.analyzer = settings, VideoAnalyzer(settings)
        with gr.Blocks(
            title=settings.title, analytics_enabled=False, delete_cache=(_CLEANUP_SECONDS, _FILE_LIFETIME_SECONDS)
        ) as self.blocks:
            gr.Markdown(self._introduction_text())
            with gr.Row():
                with gr.Column(scale=2, min_width=280):
                    # Not `gr.Video`, which fails for files that the visitor's browser cannot play, such as AVI.
                    self.video = gr.File(label="Your video", file_types=["video"], height=150, elem_id="video")
                    self.status = gr.Markdown(elem_id="status")
                with gr.Column(scale=5, min_width=480):
                    if settings.model is not None:
                        self._add_classes()
                    if settings.pretrained is not None:
                        self._add_reconstruction()
            self._connect_events()

    def _introduction_text(self) -> str:
        given = [name for name in (self.settings.model, self.settings.pretrained) if name]
        names = [code_span(Path(name).name if Path(name).is_dir() else name) for name in given]
        return (
            f"# {escape_markdown(self.settings.title)}\n\n"
            f"Drop a video of up to {self.settings.max_megabytes} MB and see what {' and '.join(names)} "
            f"{'make' if len(names) > 1 else 'makes'} of it. Videos are deleted after an hour."
        )

    def _add_classes(self) -> None:
        gr.Markdown(f"## What happens, and when\n\n{_OVER_TIME_HELP}")
        self.chart = gr.Image(label="Scores over time", elem_id="chart", **_IMAGE_OPTIONS)
        self.table = gr.Markdown(elem_id="classes")
        gr.Markdown(f"## Why\n\n{_SALIENCY_HELP}")
        self.label = gr.Dropdown(label="Class", choices=[], interactive=True, elem_id="label")
        self.explanation_image = gr.Image(label="For and against", elem_id="reasons", **_IMAGE_OPTIONS)
        self.timeline = gr.State()

    def _add_reconstruction(self) -> None:
        gr.Markdown(f"## Hide and paint\n\n{_RECONSTRUCTION_HELP}")
        default_ratio = min(max(self.analyzer.pretrained_model.config.mask_ratio, 0.25), 0.95)
        with gr.Row():
            self.ratio = gr.Slider(
                0.25, 0.95, default_ratio, step=0.05, label="Hidden share", scale=4, elem_id="ratio"
            )
            self.resample_button = gr.Button("Hide other cubes", scale=1, elem_id="again")
        self.reconstruction_image = gr.Image(label="Hidden and painted", elem_id="painting", **_IMAGE_OPTIONS)
        self.seed = gr.State(0)

    @property
    def _result_components(self) -> list[Any]:
        classes = (
            [self.chart, self.table, self.explanation_image, self.label, self.timeline] if self.settings.model else []
        )
        return [*classes, *([self.reconstruction_image] if self.settings.pretrained else [])]

    def _connect_events(self) -> None:
        mask_inputs = [self.ratio, self.seed] if self.settings.pretrained else []
        self.video.upload(
            self.analyze_video,
            [self.video, *mask_inputs],
            [self.status, *self._result_components],
            trigger_mode="always_last",
        )
        self.video.clear(self._empty_page, None, [self.status, *self._result_components])
        if self.settings.model is not None:
            self.label.input(
                self.explain_class, [self.video, self.timeline, self.label], [self.status, self.explanation_image]
            )
        if self.settings.pretrained is not None:
            reconstruct_event = {
                "fn": self.reconstruct_clip,
                "inputs": [self.video, *mask_inputs],
                "outputs": [self.status, self.reconstruction_image],
            }
            self.ratio.change(**reconstruct_event, trigger_mode="always_last", show_progress="minimal")
            self.resample_button.click(lambda seed: seed + 1, self.seed, self.seed).then(**reconstruct_event)

    def _empty_page(self, message: str = "") -> dict[Any, Any]:
        """Return the updates that empty the page and show a message."""
        empty = {part: gr.update(value=None) for part in self._result_components if not isinstance(part, gr.State)}
        if self.settings.model is not None:
            empty |= {self.timeline: None, self.label: gr.update(choices=[], value=None), self.table: ""}
        return {self.status: message, **empty}

    def analyze_video(self, path: str | None, ratio: float = 0.9, seed: int = 0) -> Iterator[dict[Any, Any]]:
        """Yield the updates for a new video, part by part."""
        yield self._empty_page("Looking at the video …")
        if path is None:
            return
        message = "The clip in the middle of the video is shown."
        try:
            if self.settings.model is not None:
                timeline = self.analyzer.classify_over_time(path)
                message = describe_coverage(timeline)
                names = [timeline.labels[label] for label in timeline.top(_NUM_CLASSES)]
                others = [name for name in timeline.labels if name not in names]
                yield {
                    self.chart: draw_timeline(timeline, count=_NUM_CLASSES),
                    self.table: format_top_classes(timeline),
                    self.label: gr.update(choices=[*names, *others], value=names[0]),
                    self.timeline: timeline,
                }
                yield {self.explanation_image: self.analyzer.draw_explanation(path, timeline, names[0])}
            if self.settings.pretrained is not None:
                yield {self.reconstruction_image: self.analyzer.reconstruct_middle(path, ratio, seed)}
            yield {self.status: message}
        except (ValueError, OSError, VideoBackendError) as error:
            yield self._empty_page(format_error(error))

    def explain_class(self, path: str | None, timeline: Timeline | None, name: str) -> dict[Any, Any]:
        """Explain another class."""
        if path is None or timeline is None:
            return {self.explanation_image: None}
        try:
            return {self.explanation_image: self.analyzer.draw_explanation(path, timeline, name)}
        except (ValueError, OSError, VideoBackendError) as error:
            return {self.status: format_error(error)}

    def reconstruct_clip(self, path: str | None, ratio: float, seed: int) -> dict[Any, Any]:
        """Reconstruct with another mask ratio, or other masked cubes."""
        if path is None:
            return {self.reconstruction_image: None}
        try:
            return {self.reconstruction_image: self.analyzer.reconstruct_middle(path, ratio, seed)}
        except (ValueError, OSError, VideoBackendError) as error:
            return {self.status: format_error(error)}


_IMAGE_OPTIONS: dict[str, Any] = {
    "type": "pil",
    "format": "png",
    "interactive": False,
    "show_label": False,
    "buttons": ["download", "fullscreen"],
}


def read_settings(argv: Sequence[str] | None = None) -> SpaceSettings:
    """Return the settings of `space.json` in this file's folder, if there is one, overridden by the flags."""
    known = json.loads(_SETTINGS_FILE.read_text(encoding="utf-8")) if _SETTINGS_FILE.is_file() else {}
    settings = SpaceSettings(**known)
    parser = argparse.ArgumentParser(description="Serve a page that shows what a VideoMAE predicts for a video.")
    for field in fields(SpaceSettings):
        default = getattr(settings, field.name)
        value_type = int if isinstance(default, int) else str
        parser.add_argument(f"--{field.name}", type=value_type, default=default, help=f"default: {default}")
    settings = replace(settings, **vars(parser.parse_args(argv)))
    if settings.model is None and settings.pretrained is None:
        parser.error("give --model, a fine-tuned VideoMAE, or --pretrained, or both")
    return settings


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page at the address in Gradio's GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."""
    settings = read_settings(argv)
    limits.MAX_CLIP_BYTES = min(limits.MAX_CLIP_BYTES, _SPACE_CLIP_BYTES)
    # Gradio leaves files behind when it ends, so they go into a folder that is deleted with the page.
    parent = os.environ.get("GRADIO_TEMP_DIR")
    if parent:
        Path(parent).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix="videomae-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        SpacePage(settings).blocks.queue(default_concurrency_limit=1, max_size=20).launch(
            max_file_size=settings.max_megabytes * 10**6,
            theme=gr.themes.Default(**_THEME),
            head=_SIZE_CHECK.replace("MEGABYTES", str(settings.max_megabytes)),
            ssr_mode=False,
            footer_links=[],
        )


if __name__ == "__main__":
    main()
