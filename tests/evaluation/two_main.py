"""An evaluation as a program, for several processes: two_main.py SOURCE OUTPUT."""

import sys

import torch
from accelerate import Accelerator
from videos import classifier, processor

from hf_videomae.data import open_source
from hf_videomae.evaluation import evaluate
from hf_videomae.training import user_errors

if __name__ == "__main__":
    accelerator = Accelerator(cpu=True)
    model = classifier()
    with user_errors():
        source = open_source(sys.argv[1], require_labels=True)
        found = evaluate(model, source, processor=processor(model), views="2x3", accelerator=accelerator)
    values = {name: getattr(found, name) for name in ("logits", "probabilities", "labels", "decoded", "sample_ids")}
    torch.save(
        {**values, "top1": found.top1, "failed": [video.id for video in found.failed]},
        f"{sys.argv[2]}-{accelerator.process_index}.pt",
    )
    accelerator.end_training()
