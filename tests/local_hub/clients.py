"""Point the Hub clients of this process at a local Hub: they read their settings once, when they are imported."""

import sys
from pathlib import Path

import pytest

from .hub import REMOVED_VARIABLES, LocalHub


def patch_clients(hub: LocalHub, patch: pytest.MonkeyPatch) -> None:
    """Point huggingface_hub, transformers and datasets of this process at a local Hub, until the patch is undone."""
    for name in REMOVED_VARIABLES:
        patch.delenv(name, raising=False)
    for name, value in hub.variables().items():
        patch.setenv(name, value)
    _patch_huggingface_hub(hub, patch)
    _patch_datasets(hub, patch)
    _patch_transformers(patch)
    forget_connections()


def forget_connections() -> None:
    """Close open connections and drop what is cached of other Hubs: another may have used the same port."""
    from huggingface_hub import HfFileSystem, close_session

    close_session()
    HfFileSystem.clear_instance_cache()


def _patch_huggingface_hub(hub: LocalHub, patch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, hf_api

    values: dict[str, object] = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_URL_HOSTS": constants.HF_URL_HOSTS | {"127.0.0.1"},
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HOME": str(hub.home),
        "HF_HUB_CACHE": str(hub.home / "hub"),
        "HF_TOKEN_PATH": str(hub.home / "token"),
        "HF_STORED_TOKENS_PATH": str(hub.home / "stored_tokens"),
    }
    for name, value in values.items():
        patch.setattr(constants, name, value)
    # Functions such as `model_info` are methods of this one object.
    patch.setattr(hf_api.api, "endpoint", hub.endpoint)


def _patch_datasets(hub: LocalHub, patch: pytest.MonkeyPatch) -> None:
    from datasets import config

    caches = hub.home / "datasets"
    values: dict[str, object] = {
        "HF_ENDPOINT": hub.endpoint,
        "HUB_DATASETS_URL": hub.endpoint + "/datasets/{repo_id}/resolve/{revision}/{path}",
        "HF_HUB_OFFLINE": False,
        "HF_DATASETS_OFFLINE": False,
        "HF_CACHE_HOME": str(hub.home),
        "HF_DATASETS_CACHE": Path(caches),
        "HF_MODULES_CACHE": hub.home / "modules",
        "DOWNLOADED_DATASETS_PATH": caches / "downloads",
        "EXTRACTED_DATASETS_PATH": caches / "downloads" / "extracted",
    }
    for name, value in values.items():
        patch.setattr(config, name, value)


def _patch_transformers(patch: pytest.MonkeyPatch) -> None:
    """Drop the client that transformers creates for its first upload and keeps."""
    kept = sys.modules.get("transformers.utils.hub")
    if kept is not None:
        patch.setattr(kept, "_hf_api", None, raising=False)
