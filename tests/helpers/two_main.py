"""Evaluate in several processes, as a program: two_main.py SOURCE OUTPUT."""

import sys

import torch
from accelerate import Accelerator

from hf_videomae.data import open_source
from hf_videomae.evaluation import evaluate
from hf_videomae.training import exit_on_user_error
from tests.helpers.videos import classifier, processor

if __name__ == "__main__":
    accelerator = Accelerator(cpu=True)
    model = classifier()
    with exit_on_user_error():
        source = open_source(sys.argv[1], require_labels=True)
        found = evaluate(model, source, processor=processor(model), views="2x3", accelerator=accelerator)
    values = {name: getattr(found, name) for name in ("logits", "probabilities", "labels", "decoded", "sample_ids")}
    torch.save(
        {**values, "top1": found.top1, "failed": [video.id for video in found.failed]},
        f"{sys.argv[2]}-{accelerator.process_index}.pt",
    )
    accelerator.end_training()
