"""Answer requests: decode the video, run the model, return the labels with the highest scores.

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

from ...inference import get_problem_type, load_classifier, load_processor
from ...inference.model_loading import as_videomae_config
from ...inference.prediction import compute_view_logits, make_view_clips
from ...ops.view_scores import average_view_scores
from ...video import limits
from ...video.decoding import VideoBackendError, VideoDecodeError
from ...video_processing_videomae import VideoMAEVideoProcessor
from .endpoint_settings import EndpointSettings
from .request import (
    RequestParameters,
    check_video_container,
    is_url,
    parse_parameters,
    read_inline_video,
    split_request_body,
)
from .request_errors import BadRequest, RequestTimeout, ServerError
from .url_download import fetch_url

_DEFAULT_TOP_K = 5
_CLIP_BATCH_SIZE = 8
_DEFAULT_FUNCTIONS = {"multi_label_classification": "sigmoid", "regression": "none"}
_PROBLEM_TYPES = {"sigmoid": "multi_label_classification", "none": "regression", "softmax": None}


class EndpointHandler:
    """Classify videos for the toolkit of Inference Endpoints; several threads may call it at once.

    `data["inputs"]` is the file as base64 text, with or without `data:video/mp4;base64,` in front, an http(s) URL, or
    bytes. All of `data["parameters"]` are optional:

    - `top_k`: classes in the answer. Default: 5; for regression all numbers.
    - `function_to_apply`: `softmax`, `sigmoid` or `none`, before the mean over views. Default: as in training.
    - `num_frames`: frames of a clip. Default: the model's.
    - `frame_sampling_rate`: distance between the frames of a clip, which is then a dense one. Default: the model's.
    - `views`: temporal positions x crops that are averaged, such as `"5x3"`. Default: `"1x1"`.

    Clips are sampled as in training and in `hf_videomae.predict`, so videos shorter than a clip are answered too.

    Args:
        path: the folder of the model; default: the current folder.
        settings: the limits of a request.

    Raises:
        ValueError: when the folder holds no fine-tuned VideoMAE.
    """

    def __init__(self, path: str | os.PathLike[str] = "", *, settings: EndpointSettings | None = None) -> None:
        folder = os.fspath(path) or os.curdir
        self.settings = settings or EndpointSettings()
        self._model = load_classifier(folder)
        self._processor = load_processor(folder, self._model)
        self._cube_frames = as_videomae_config(self._model.config).tubelet_size
        if torch.accelerator.is_available():
            self._model.to(torch.accelerator.current_accelerator())  # type: ignore[arg-type]
        self._model.eval()
        self._download_slots = threading.BoundedSemaphore(self.settings.max_concurrent_downloads)
        self._decode_slots = threading.BoundedSemaphore(self.settings.max_concurrent_decodes)

    def __call__(self, data: Any) -> list[dict[str, Any]]:
        """Answer one request.

        Returns:
            `[{"label": ..., "score": ...}, ...]`, the highest score first.

        Raises:
            BadRequest: for an error that the sender of the request can fix.
            ServerError: for an error of the server.
        """
        deadline = time.monotonic() + self.settings.request_seconds
        inputs, values = split_request_body(data)
        parameters = parse_parameters(values, cube_frames=self._cube_frames, settings=self.settings)
        if is_url(inputs):
            # A downloaded file keeps its download slot while it waits for decoding, so waiting files are bounded.
            with self._acquire_slot(self._download_slots, deadline):
                video = fetch_url(inputs.strip(), settings=self.settings, request_deadline=deadline)
                with self._acquire_slot(self._decode_slots, deadline):
                    return self._answer(video, parameters, deadline)
        with self._acquire_slot(self._decode_slots, deadline):
            return self._answer(read_inline_video(inputs, max_bytes=self.settings.max_bytes), parameters, deadline)

    @contextmanager
    def _acquire_slot(self, semaphore: threading.BoundedSemaphore, deadline: float) -> Iterator[None]:
        if not semaphore.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise ServerError(
                f"too many requests at once: this one had no turn within {self.settings.request_seconds:g} s; try "
                f"again later"
            )
        try:
            yield
        finally:
            semaphore.release()

    def _answer(self, video: bytes, parameters: RequestParameters, deadline: float) -> list[dict[str, Any]]:
        clips = self._decode_clips(video, parameters, deadline)
        scores = self._predict_scores(clips, parameters.function_to_apply, deadline)
        if not scores.isfinite().all():
            raise ServerError("the model's scores are not finite numbers")
        names, top_k = self._model.config.id2label, parameters.top_k
        if top_k is None:
            top_k = len(scores) if get_problem_type(self._model.config) == "regression" else _DEFAULT_TOP_K
        best = scores.sort(descending=True, stable=True).indices[:top_k].tolist()
        return [{"label": str(names[number]), "score": float(scores[number])} for number in best]

    def _decode_clips(self, video: bytes, parameters: RequestParameters, deadline: float) -> Tensor:
        """Return the clips of all views, (V, T, channels, H, W)."""
        check_video_container(video)
        settings = self.settings
        try:
            with limits.override_limits(
                pixels=settings.max_pixels,
                frames=settings.max_frames,
                clip_bytes=settings.max_clip_bytes,
                deadline=deadline,
            ):
                return make_view_clips(video, processor=self._processor_for(parameters), views=parameters.views)
        except VideoDecodeError as error:
            self._check_deadline(deadline)
            raise BadRequest(f"the video cannot be decoded: {error.reason}") from error
        except VideoBackendError as error:
            raise ServerError(str(error)) from error

    @torch.no_grad()
    def _predict_scores(self, clips: Tensor, function: str | None, deadline: float) -> Tensor:
        """Return the scores, averaged over the views, (K,)."""
        parts = []
        for part in clips.split(_CLIP_BATCH_SIZE):
            self._check_deadline(deadline)
            parts.append(compute_view_logits(self._model, part, batch_size=_CLIP_BATCH_SIZE))
        logits = torch.cat(parts)
        function = function or _DEFAULT_FUNCTIONS.get(get_problem_type(self._model.config), "softmax")
        return average_view_scores(logits[None], problem_type=_PROBLEM_TYPES[function])[0]

    def _check_deadline(self, deadline: float) -> None:
        if time.monotonic() >= deadline:
            raise RequestTimeout(self.settings.request_seconds)

    def _processor_for(self, parameters: RequestParameters) -> VideoMAEVideoProcessor:
        """Return the model's processor, or a copy that samples clips as the request asks."""
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
