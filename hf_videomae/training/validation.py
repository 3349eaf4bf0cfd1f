"""Measuring a classifier on other videos while it is trained, and once more when it is done."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ..console import log_main
from ..errors import RunError
from ..evaluation import BaseEvaluation, evaluate, match_classes
from ..video.decoding import VideoBackendError
from .finetune_recipe import FinetuneRecipe
from .finetune_task import FinetuneTask
from .task import ValidationResult

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..data.source import AnySource
    from ..video_processing_videomae import VideoMAEVideoProcessor


class SplitValidator:
    """The accuracy on `--test_split`: every `--eval_every` steps and after the last in a few views, by default one;
    and the test of the saved model in all of `--views`.

    The processes share the videos and each is counted once. What is measured is what would be saved: the average of
    the weights, where there is one.

    Args:
        recipe: with a `test_split`.
        task: what is trained.
        source: the videos of that split.
        accelerator: of the run.

    Raises:
        LabelError: when the classes of the split are not the model's.
    """

    def __init__(
        self, recipe: FinetuneRecipe, *, task: FinetuneTask, source: "AnySource", accelerator: "Accelerator"
    ) -> None:
        # Found now, and not when the training is over.
        if recipe.problem_type != "regression":
            match_classes(source.class_names or [], task.model.config.id2label)
        self.recipe, self.task, self.source, self.accelerator = recipe, task, source, accelerator

    def is_due(self, step: int, *, last: bool) -> bool:
        """Whether to measure after this step."""
        every = self.recipe.eval_every
        return last or (every is not None and step % every == 0)

    def validate(self) -> ValidationResult:
        """The accuracy of the model as it is now; in all processes at once.

        Raises:
            RunError: when the videos, or the numbers of the model, allow no result.
        """
        with self.task.inference_model() as model:
            found = self._evaluate(model, self.task.processor, views=self.recipe.eval_views)
        summary = found.summary().splitlines()[0]
        if found.failed:
            summary += f", {len(found.failed)} of them not decoded ({found.failed_count_as})"
        return ValidationResult({f"eval_{name}": value for name, value in found.to_dict()["metrics"].items()}, summary)

    def test(self) -> None:
        """Evaluate the model that was saved by the paper's protocol, and write the result beside it.

        Raises:
            RunError: as above.
        """
        from ..modeling_videomae import VideoMAEForVideoClassification
        from ..video_processing_videomae import VideoMAEVideoProcessor

        folder = Path(self.recipe.output_dir)
        model = VideoMAEForVideoClassification.from_pretrained(folder).to(self.accelerator.device)
        result = self._evaluate(model, VideoMAEVideoProcessor.from_pretrained(folder), views=self.recipe.views)
        if self.accelerator.is_main_process:
            result.data.update(dataset=self.recipe.test_dataset_name, split=self.recipe.test_split)
            result.save(folder)
            log_main(f"test of the saved model: {result.summary()}")

    def _evaluate(self, model: nn.Module, processor: "VideoMAEVideoProcessor", *, views: str) -> BaseEvaluation:
        try:
            return evaluate(
                model,
                self.source,
                processor=processor,
                views=views,
                batch_size=self.recipe.batch_size,
                num_workers=self.recipe.num_workers,
                accelerator=self.accelerator,
            )
        except (ValueError, VideoBackendError) as error:
            raise RunError(f"--test_split {self.recipe.test_split}: {error}") from error
