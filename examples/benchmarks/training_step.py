"""Measure a pre-training step, ours against stock transformers', with the same weights, clips, masks and optimizer.

    python examples/benchmarks/training_step.py                       # ViT-B, batch 2, float32 and bfloat16
    python examples/benchmarks/training_step.py --quick               # the tiny model, seconds
    python examples/benchmarks/training_step.py --batch_size 8 --decoder_mask 0.5 --output results.json

A step is forward, backward, gradient norm and fused AdamW. The two take turns, so that other load on the machine
affects both; a ratio is the median over the rounds, stock over ours, and its range is that of the middle half. Stock
has no decoder mask: with `--decoder_mask` ours decodes a part of the cubes (VideoMAE V2) and stock all of them.
"Products alone" is the time of the matrix products of our step without anything else, as a share of the step.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining
from hf_videomae.ops.masking import make_mask
from hf_videomae.provenance import describe_hardware, package_versions

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WAYS = ("ours", "stock")
Step = Callable[[], float]


def build_model(way: str, folder: Path, config: VideoMAEConfig) -> nn.Module:
    """Return the model of a way, with the weights in `folder`, which the first call writes."""
    if not (folder / "config.json").is_file():
        torch.manual_seed(0)
        VideoMAEForPreTraining(config).save_pretrained(folder)
    model_class = VideoMAEForPreTraining if way == "ours" else transformers.VideoMAEForPreTraining
    model: nn.Module = model_class.from_pretrained(folder)
    return model.train()


def draw_inputs(way: str, config: VideoMAEConfig, arguments: argparse.Namespace) -> dict[str, Tensor]:
    """Return the clips and masks of a step, the same for both ways; stock has no decoder mask."""
    generator = torch.Generator().manual_seed(1)
    shape = (arguments.batch_size, config.num_frames, config.num_channels, *config.image_height_width)
    options = {"batch_size": arguments.batch_size, "generator": generator}
    inputs = {"pixel_values": torch.randn(shape, generator=generator)}
    inputs["bool_masked_pos"] = make_mask("tube", config.grid, 0.9, **options)
    if arguments.decoder_mask and way == "ours":
        inputs["bool_decoder_masked_pos"] = make_mask("running_cell", config.grid, arguments.decoder_mask, **options)
    return inputs


def build_step(way: str, folder: Path, config: VideoMAEConfig, arguments: argparse.Namespace, dtype: str) -> Step:
    """Return a function that takes one training step and returns its loss."""
    device = torch.device(arguments.device)
    model = build_model(way, folder, config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    parameters = list(model.parameters())
    called: Any = torch.compile(model) if arguments.compile else model
    inputs = {name: value.to(device) for name, value in draw_inputs(way, config, arguments).items()}

    def step() -> float:
        with torch.autocast(device.type, DTYPES[dtype], enabled=dtype != "float32"):
            loss = called(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1e9)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())  # waits for a GPU

    return step


def count_products(model: nn.Module, forward: Callable[[], Any]) -> list[tuple[int, int, int, int]]:
    """Return the matrix products of a forward pass as (count, rows, inner, columns), by watching it."""
    products: list[tuple[int, int, int, int]] = []

    def watch_linear(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        products.append((1, output.numel() // output.shape[-1], inputs[0][..., 0, :].shape[-1], output.shape[-1]))

    attend = nn.functional.scaled_dot_product_attention

    def watch_attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        count = query.shape[0] * query.shape[1]
        products.append((count, query.shape[2], query.shape[3], key.shape[2]))
        products.append((count, query.shape[2], key.shape[2], value.shape[3]))
        return attend(query, key, value, *args, **kwargs)

    handles = [module.register_forward_hook(watch_linear) for module in model.modules() if type(module) is nn.Linear]
    nn.functional.scaled_dot_product_attention = watch_attention
    try:
        with torch.no_grad():
            forward()
    finally:
        nn.functional.scaled_dot_product_attention = attend
        for handle in handles:
            handle.remove()
    return products


def time_products(products: list[tuple[int, int, int, int]], *, dtype: torch.dtype, device: torch.device) -> float:
    """Return the seconds of the products of forward and backward: each forward product has two in the backward."""
    total, known = 0.0, {}
    for product in products:
        if product not in known:
            count, rows, inner, columns = product
            left = torch.randn(count, rows, inner, dtype=dtype, device=device)
            right = torch.randn(count, inner, columns, dtype=dtype, device=device)
            gradient = torch.randn(count, rows, columns, dtype=dtype, device=device)
            seconds = []
            for _ in range(5):
                start = time.perf_counter()
                torch.bmm(left, right)
                torch.bmm(gradient, right.mT)
                torch.bmm(left.mT, gradient)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - start)
            known[product] = statistics.median(seconds)
        total += known[product]
    return total


def measure(arguments: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """Return times, ratio and bound of one dtype."""
    config = VideoMAEConfig.from_preset(arguments.size)
    device = torch.device(arguments.device)
    with tempfile.TemporaryDirectory() as name:
        steps = {way: build_step(way, Path(name), config, arguments, dtype) for way in WAYS}
        losses = {way: step() for way, step in steps.items()}  # the first step is not measured
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(arguments.rounds):
            for way in WAYS if number % 2 == 0 else WAYS[::-1]:
                start = time.perf_counter()
                steps[way]()
                seconds[way].append(time.perf_counter() - start)
        model = build_model("ours", Path(name), config)
        inputs = draw_inputs("ours", config, arguments)
        products = count_products(model, lambda: model(**inputs))
        bound = time_products(products, dtype=DTYPES[dtype], device=device)
    ratios = sorted(stock / ours for ours, stock in zip(seconds["ours"], seconds["stock"], strict=True))
    middle = statistics.median(seconds["ours"])
    return {
        "dtype": dtype,
        "loss_first_step": losses,
        "seconds": {way: statistics.median(seconds[way]) for way in WAYS},
        "ratio": statistics.median(ratios),
        "ratio_middle_half": [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]],
        "gflop_forward_per_clip": sum(2 * a * b * c * d for a, b, c, d in products) / 1e9 / arguments.batch_size,
        "seconds_of_products_alone": bound,
        "share_of_products": bound / middle,
    }


def peak_memory(arguments: argparse.Namespace, way: str, dtype: str) -> float:
    """Return the peak memory of two steps in a process of its own, in GB: of the GPU, or of the process."""
    command = [sys.executable, __file__, "--size", arguments.size, "--batch_size", str(arguments.batch_size)]
    command += ["--device", arguments.device, "--decoder_mask", str(arguments.decoder_mask), "--memory_of", way]
    answer = subprocess.run([*command, "--dtypes", dtype], capture_output=True, text=True, check=True)
    return float(answer.stdout.split()[-1])


def print_memory(arguments: argparse.Namespace) -> None:
    """Take two steps of one way and print the peak memory: what `peak_memory` starts."""
    config = VideoMAEConfig.from_preset(arguments.size)
    with tempfile.TemporaryDirectory() as name:
        step = build_step(arguments.memory_of, Path(name), config, arguments, arguments.dtypes[0])
        step()
        step()
    if arguments.device == "cuda":
        print(torch.cuda.max_memory_allocated() / 1e9)
    else:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base", help="preset of the model")
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--decoder_mask", type=float, default=0.0, help="share that ours does not decode (V2: 0.5)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--quick", action="store_true", help="the tiny model and three rounds")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument("--memory_of", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.size, arguments.rounds = "tiny", 3
    if arguments.memory_of:
        return print_memory(arguments)
    results = []
    for dtype in arguments.dtypes:
        found = measure(arguments, dtype)
        found["peak_memory_gb"] = {way: peak_memory(arguments, way, dtype) for way in WAYS}
        results.append(found)
    machine = describe_hardware(1, torch.device(arguments.device))
    print(
        f"{machine.get('gpu', machine['cpu'])}, {machine['threads_per_process']} threads, torch {torch.__version__}, "
    )
    print(
        f"transformers {transformers.__version__}; {arguments.size}, batch {arguments.batch_size}, decoder mask "
        f"{arguments.decoder_mask:g}, {arguments.rounds} rounds\n\n"
        "| dtype | ours, ms | stock, ms | stock / ours (middle half) | products alone | GB ours | GB stock |\n"
        "|---|---|---|---|---|---|---|"
    )
    for found in results:
        ours, stock = (1e3 * found["seconds"][way] for way in WAYS)
        low, high = found["ratio_middle_half"]
        memory = found["peak_memory_gb"]
        print(
            f"| {found['dtype']} | {ours:.0f} | {stock:.0f} | {found['ratio']:.2f} ({low:.2f} to {high:.2f}) | "
            f"{found['share_of_products']:.0%} | {memory['ours']:.2f} | {memory['stock']:.2f} |"
        )
    if arguments.output is not None:
        facts = {"machine": machine, "versions": package_versions(), "settings": {**vars(arguments), "output": None}}
        arguments.output.write_text(json.dumps({**facts, "results": results}, indent=2, default=str))


if __name__ == "__main__":
    main()
