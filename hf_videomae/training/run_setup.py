"""Build what every training script needs from its recipe: the loader and the publisher."""

from pathlib import Path
from typing import TYPE_CHECKING

from accelerate import Accelerator

from ..console import is_main_process
from ..data import ClipConfig, LabelEncoder, Loader, build_loader
from ..hub.repo import HubTarget
from ..publishing.background import BackgroundPublisher, PushTiming
from ..publishing.push import resolve_model_target
from .distributed import raise_on_all_ranks
from .recipe import RunRecipe
from .resume import resolve_run_id

if TYPE_CHECKING:
    from ..data.source import AnyData


def build_train_loader(
    recipe: RunRecipe,
    source: "AnyData",
    clips: ClipConfig,
    *,
    accelerator: Accelerator,
    labels: LabelEncoder | None = None,
) -> Loader:
    """Return the loader of this process: an endless iterable of batches.

    Args:
        recipe: settings of the run.
        source: the videos.
        clips: how clips are made of them.
        accelerator: of the run.
        labels: how labels are encoded; None: batches without labels.
    """
    return build_loader(
        source,
        clip_config=clips,
        labels=labels,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        num_workers=recipe.num_workers,
        prefetch=recipe.prefetch,
        on_bad_video=recipe.on_bad_video,
        max_bad_share=recipe.max_bad_share,
        pin_memory=accelerator.device.type == "cuda",
    )


def build_publisher(recipe: RunRecipe, *, resume: Path | None = None) -> BackgroundPublisher | None:
    """Return the publisher of a run, after checking its Hub repository; None without `--push_to_hub`.

    Called in all processes, after they are connected; the main process talks to the Hub.

    Args:
        recipe: settings of the run.
        resume: the checkpoint to resume from, whose repository the run may continue to use.

    Raises:
        PushError: in the main process, in one line, for a token that may not write, or a repository of another run.
        RunError: the same in the other processes.
    """
    if not recipe.push_to_hub:
        return None
    wanted = HubTarget(
        id=recipe.hub_model_id or Path(recipe.output_dir).resolve().name,
        private=recipe.hub_private,
        overwrite=recipe.overwrite,
    )

    def resolve() -> HubTarget:
        return resolve_model_target(wanted, run_id=resolve_run_id(recipe, resume)) if is_main_process() else wanted

    timing = PushTiming.from_environment()
    target = raise_on_all_ranks(resolve, ValueError, OSError)
    return BackgroundPublisher(target, output_dir=recipe.output_dir, strategy=recipe.hub_strategy, timing=timing)
