"""Put a run on the Hub as publishing leaves it: its newest checkpoint and its run files on the branch
`training-state`.
"""

import shutil
import tempfile
from pathlib import Path

from .hub import LocalHub

BRANCH = "training-state"
LINES = ("run.json", "metrics.jsonl", "samples-*.jsonl", "bad_videos.jsonl", "nonfinite.jsonl")


def push_state(hub: LocalHub, checkpoint: Path, *, repo: str = "org/name") -> str:
    """Put a checkpoint and the run files in its folder on the branch, replacing what is there; return the commit."""
    from huggingface_hub import HfApi

    api = HfApi(token=hub.token, endpoint=hub.endpoint)
    api.create_repo(repo, exist_ok=True)
    api.create_branch(repo, branch=BRANCH, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=hub.home.parent) as folder:
        shutil.copytree(checkpoint, Path(folder) / checkpoint.name)
        for pattern in LINES:
            for path in checkpoint.parent.glob(pattern):
                shutil.copy(path, folder)
        done = api.upload_folder(
            repo_id=repo, folder_path=folder, revision=BRANCH, delete_patterns=["checkpoint-*/**", "*.jsonl"]
        )
    commit: str = done.oid
    return commit
