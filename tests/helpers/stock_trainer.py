"""Train a tiny model with the stock Trainer, and return what it logged.

python tests/stock_trainer.py ours|stock|pretraining MODEL OUTPUT.json BATCH ACCUMULATION
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments
from transformers import VideoMAEForVideoClassification as StockClassifier

from hf_videomae import VideoMAEForPreTraining, VideoMAEForVideoClassification

MODELS = {"ours": VideoMAEForVideoClassification, "stock": StockClassifier, "pretraining": VideoMAEForPreTraining}


class Clips(torch.utils.data.Dataset):
    """Noise that depends on its class; with masks if a token grid is given."""

    def __init__(self, count: int = 32, *, tokens: int | None = None, several: bool = False) -> None:
        self.count, self.tokens, self.several = count, tokens, several

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        clip = torch.randn(8, 3, 64, 64, generator=generator) + index % 2
        found: dict[str, Any] = {"pixel_values": clip, "labels": index % 2}
        if self.several:
            found["labels"] = torch.tensor([1.0, float(index % 2)])
        if self.tokens is not None:
            plane = torch.randperm(self.tokens // 4, generator=generator) < 3 * self.tokens // 16
            found["bool_masked_pos"] = plane.repeat(4)
        return found


def trainer(model: Any, folder: Path, *, batch: int, accumulation: int = 1, data: Clips | None = None, **more: Any):
    """Return a Trainer without randomness that logs every step."""
    arguments = TrainingArguments(
        str(folder),
        **{"max_steps": 2, "save_strategy": "no", **more},
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        learning_rate=1e-3,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    return Trainer(model, arguments, train_dataset=data or Clips(), eval_dataset=Clips(8))


def logged(found: Trainer) -> list[list[float]]:
    """Return (loss, gradient norm) of each step."""
    return [[float(row["loss"]), float(row["grad_norm"])] for row in found.state.log_history if "grad_norm" in row]


def weights_of(model: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def main() -> None:
    kind, source, output, batch, accumulation = sys.argv[1:]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = Clips(tokens=64) if kind == "pretraining" else Clips()
    found = trainer(
        MODELS[kind].from_pretrained(source),
        Path(output).parent / "trainer",
        batch=int(batch),
        accumulation=int(accumulation),
        data=data,
        ddp_find_unused_parameters=False,
    )
    found.train()
    if os.environ.get("RANK", "0") == "0":
        Path(output).write_text(json.dumps(logged(found)))


if __name__ == "__main__":
    main()
