"""Measure building position tables, ours against stock transformers', and check that they are equal bit for bit.

    python examples/benchmarks/position_tables.py

Stock fills the table in a Python loop whenever a model is built; ours is one vectorized float64 expression.
"""

import statistics
import time

import torch
from transformers.models.videomae.modeling_videomae import get_sinusoid_encoding_table

from hf_videomae.ops.patches import sinusoid_table

REPEATS = 5
SIZES = {"base": (1568, 768), "large": (1568, 1024), "giant": (2048, 1408)}  # tokens, width


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, median of {REPEATS} pairs")
    for name, (tokens, width) in SIZES.items():
        ours, stock = [], []
        for _ in range(REPEATS):  # in pairs, so that other load on the machine affects both
            start = time.perf_counter()
            table = sinusoid_table(tokens, width)
            middle = time.perf_counter()
            reference = get_sinusoid_encoding_table(tokens, width)[0]
            stock.append(time.perf_counter() - middle)
            ours.append(middle - start)
        ratio = statistics.median(theirs / our for theirs, our in zip(stock, ours, strict=True))
        print(
            f"{name:6} {tokens} x {width}: ours {1e3 * statistics.median(ours):6.1f} ms, "
            f"stock {1e3 * statistics.median(stock):7.0f} ms, ratio {ratio:4.0f}, equal: "
            f"{torch.equal(table, reference)}"
        )


if __name__ == "__main__":
    main()
