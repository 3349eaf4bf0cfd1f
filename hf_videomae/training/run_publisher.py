"""Build the publisher of a run from its recipe, in all processes."""

from pathlib import Path

from ..console import is_main_process
from ..publishing.background import BackgroundPublisher, PushTiming
from ..publishing.repo import ModelTarget, resolve_model_target
from .recipe import RunRecipe
from .run_setup import raise_on_all_ranks, resolve_run_id


def build_publisher(recipe: RunRecipe, *, resume: Path | None = None) -> BackgroundPublisher | None:
    """Where a run is published, looked at before the work begins; None where `--push_to_hub` is not given.

    Called in all processes, which are connected; the first one talks to the Hub.

    Args:
        recipe: of the run.
        resume: the checkpoint that it goes on from: it may go on in its own repository.

    Raises:
        PushError: in the first process, in one line, for a token that may not write, or a model of another run.
        RunError: the same in the others.
    """
    if not recipe.push_to_hub:
        return None
    wanted = ModelTarget(
        id=recipe.hub_model_id or Path(recipe.output_dir).resolve().name,
        private=recipe.hub_private,
        overwrite=recipe.overwrite,
    )

    def check() -> ModelTarget:
        return resolve_model_target(wanted, run_id=resolve_run_id(recipe, resume)) if is_main_process() else wanted

    timing = PushTiming.from_environment()
    target = raise_on_all_ranks(check, ValueError, OSError)
    return BackgroundPublisher(target, output_dir=recipe.output_dir, strategy=recipe.hub_strategy, timing=timing)
