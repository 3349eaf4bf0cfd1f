"""The handler: a request to its answer. May be called from several threads at once.

Shapes: V views, T frames, K classes.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...inference import head_kind, load_classifier, processor_for
from ...inference.files import our_config
from ...inference.prediction import view_clips, view_logits
from ...ops.views import merge_views
from ...video import limits
from ...video.decoding import VideoBackendError, VideoDecodeError
from ...video_processing_videomae import VideoMAEVideoProcessor
from .download import download
from .errors import BadRequest, OutOfTime, ServerFault
from .inputs import Parameters, check_container, is_url, read_inline, read_parameters, split_request
from .settings import EndpointSettings

_TOP_K = 5
_CLIPS_AT_ONCE = 8
_FUNCTION_OF = {"multi_label_classification": "sigmoid", "regression": "none"}
_KIND_OF = {"sigmoid": "multi_label_classification", "none": "regression", "softmax": None}


class EndpointHandler:
    """Names what happens in a video, for the toolkit of Inference Endpoints.

    `data["inputs"]` is the file as base64 text, with or without `data:video/mp4;base64,` before it, an http(s) URL, or
    bytes. `data["parameters"]`, each as it pleases:

    - `top_k`: classes in the answer; 5. Of a regression all its numbers.
    - `function_to_apply`: `softmax`, `sigmoid` or `none`, before the mean over views; as the model was trained.
    - `num_frames`: of a clip; the model's.
    - `frame_sampling_rate`: frames from one frame of a clip to the next; the model's. The clip is then a dense one.
    - `views`: `"5x3"`, temporal positions x crops that are averaged; `"1x1"`.

    The clip is the one of training and of `hf_videomae.predict`, so a video shorter than a clip is answered, too.

    Args:
        path: the folder of the model; the current one by default.
        settings: limits, and how much is done at once.

    Raises:
        ValueError: when the folder holds no fine-tuned VideoMAE.
    """

    def __init__(self, path: str | os.PathLike[str] = "", *, settings: EndpointSettings | None = None) -> None:
        folder = os.fspath(path) or os.curdir
        self.settings = settings or EndpointSettings()
        self._network = load_classifier(folder)
        self._processor = processor_for(folder, self._network)
        self._cube_frames = our_config(self._network.config).tubelet_size
        if torch.accelerator.is_available():
            self._network.to(torch.accelerator.current_accelerator())  # type: ignore[arg-type]
        self._network.eval()
        self._downloads = threading.BoundedSemaphore(self.settings.downloads)
        self._decodes = threading.BoundedSemaphore(self.settings.decodes)

    def __call__(self, data: Any) -> list[dict[str, Any]]:
        """Answer one request.

        Returns:
            `[{"label": ..., "score": ...}, ...]`, the highest score first.

        Raises:
            BadRequest: for a request that its sender can mend.
            ServerFault: for what is wrong here.
        """
        deadline = time.monotonic() + self.settings.request_seconds
        inputs, values = split_request(data)
        parameters = read_parameters(values, cube_frames=self._cube_frames, settings=self.settings)
        if is_url(inputs):
            # A file that was downloaded waits within the count, so those that wait are bounded, too.
            with self._turn(self._downloads, deadline):
                video = download(inputs.strip(), settings=self.settings, until=deadline)
                with self._turn(self._decodes, deadline):
                    return self._answer(video, parameters, deadline)
        with self._turn(self._decodes, deadline):
            return self._answer(read_inline(inputs, max_bytes=self.settings.max_bytes), parameters, deadline)

    @contextmanager
    def _turn(self, places: threading.BoundedSemaphore, deadline: float) -> Iterator[None]:
        if not places.acquire(timeout=max(0.0, deadline - time.monotonic())):
            waited = self.settings.request_seconds
            raise ServerFault(f"too many requests at once: this one had no turn within {waited:g} s; try again later")
        try:
            yield
        finally:
            places.release()

    def _answer(self, video: bytes, parameters: Parameters, deadline: float) -> list[dict[str, Any]]:
        clips = self._clips(video, parameters, deadline)
        scores = self._scores(clips, parameters.function_to_apply, deadline)
        if not scores.isfinite().all():
            raise ServerFault("the model's scores are not finite numbers")
        names, top_k = self._network.config.id2label, parameters.top_k
        if top_k is None:
            top_k = len(scores) if head_kind(self._network.config) == "regression" else _TOP_K
        best = scores.sort(descending=True, stable=True).indices[:top_k].tolist()
        return [{"label": str(names[number]), "score": float(scores[number])} for number in best]

    def _clips(self, video: bytes, parameters: Parameters, deadline: float) -> Tensor:
        """(V, T, channels, H, W)."""
        check_container(video)
        settings = self.settings
        try:
            with limits.at_most(
                pixels=settings.max_pixels,
                frames=settings.max_frames,
                clip_bytes=settings.max_clip_bytes,
                until=deadline,
            ):
                return view_clips(video, processor=self._processor_for(parameters), views=parameters.views)
        except VideoDecodeError as error:
            self._check_time(deadline)
            raise BadRequest(f"the video cannot be decoded: {error.reason}") from error
        except VideoBackendError as error:
            raise ServerFault(str(error)) from error

    @torch.no_grad()
    def _scores(self, clips: Tensor, function: str | None, deadline: float) -> Tensor:
        """(K,)."""
        parts = []
        for part in clips.split(_CLIPS_AT_ONCE):
            self._check_time(deadline)
            parts.append(view_logits(self._network, part, batch_size=_CLIPS_AT_ONCE))
        logits = torch.cat(parts)
        function = function or _FUNCTION_OF.get(head_kind(self._network.config), "softmax")
        return merge_views(logits[None], problem_type=_KIND_OF[function])[0]

    def _check_time(self, deadline: float) -> None:
        if time.monotonic() >= deadline:
            raise OutOfTime(self.settings.request_seconds)

    def _processor_for(self, parameters: Parameters) -> VideoMAEVideoProcessor:
        """The model's processor, or one like it with another clip plan."""
        changes: dict[str, Any] = {}
        if parameters.num_frames is not None:
            changes["num_frames"] = parameters.num_frames
        if parameters.frame_sampling_rate is not None:
            changes |= {
                "frame_stride": parameters.frame_sampling_rate,
                "sampling_mode": "dense",
                "frame_seconds": None,
            }
        if not changes:
            return self._processor
        adapted: VideoMAEVideoProcessor = type(self._processor).from_dict(self._processor.to_dict() | changes)
        return adapted
