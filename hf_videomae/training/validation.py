"""Measure a fine-tuned model (classes or numbers) on `--test_split`, while it is trained and at the end."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ..console import log_main
from ..errors import RunError
from ..evaluation import BaseEvaluation, evaluate, match_classes
from ..inference.model_loading import load_classifier
from ..video.decoding import VideoBackendError
from .finetune_recipe import FinetuneRecipe
from .finetune_task import FinetuneTask
from .task import ValidationResult

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..data.source import AnySource
    from ..video_processing_videomae import VideoMAEVideoProcessor


class SplitValidator:
    """Measure accuracy, mAP or errors of numbers on `--test_split`.

    Validations come every `--eval_every` steps and after the last step, with `--eval_views` (by default one view per
    video); the saved model is tested with `--views`. The processes share the videos, and each video is counted once.
    The weights are those that would be saved: averaged, if the recipe says so.

    Args:
        recipe: settings with a `test_split`.
        task: what is trained.
        source: the videos of that split.
        accelerator: of the run.

    Raises:
        LabelError: if the classes of the split are not those of the model.
    """

    def __init__(
        self, recipe: FinetuneRecipe, *, task: FinetuneTask, source: "AnySource", accelerator: "Accelerator"
    ) -> None:
        # Checked now, and not when the training is done.
        if recipe.problem_type != "regression":
            match_classes(source.class_names or [], task.model.config.id2label)
        self.recipe, self.task, self.source, self.accelerator = recipe, task, source, accelerator

    def is_due(self, step: int, *, last: bool) -> bool:
        """Return whether to validate after this step."""
        every = self.recipe.eval_every
        return last or (every is not None and step % every == 0)

    def validate(self) -> ValidationResult:
        """Measure the model as it is now. Called in all processes.

        Raises:
            RunError: if the videos, or the outputs of the model, allow no result.
        """
        with self.task.inference_model() as model:
            result = self._evaluate(model, self.task.processor, views=self.recipe.eval_views)
        summary = result.summary().splitlines()[0]
        if result.failed:
            summary += f", {len(result.failed)} of them not decoded ({result.failed_count_as})"
        metrics = {f"eval_{name}": value for name, value in result.to_dict()["metrics"].items()}
        return ValidationResult(metrics, summary)

    def test(self) -> None:
        """Evaluate the saved model by the paper's protocol, and write the result next to it.

        Raises:
            RunError: like `validate`.
        """
        from ..video_processing_videomae import VideoMAEVideoProcessor

        folder = Path(self.recipe.output_dir)
        model: nn.Module = load_classifier(folder)
        model = model.to(self.accelerator.device)
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
