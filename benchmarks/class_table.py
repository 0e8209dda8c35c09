"""Time of one step of the sampled class table: 1,000,000 × 512 classes, batch 128, 8,192 classes drawn.

python benchmarks/class_table.py [--quick]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import torch
from machine import machine, write_result

from ndec_builder.training.class_table import SampledCosFace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 classes")
    quick = parser.parse_args().quick
    classes = 10_000 if quick else 1_000_000
    dim, batch, sample = 512, 128, 8_192
    table = SampledCosFace(dim, classes, sample, seed=0)
    table.weight.normal_(generator=torch.Generator().manual_seed(0))
    features = torch.randn(batch, dim, requires_grad=True)
    seconds = []
    for step in range(6):
        labels = torch.randint(0, classes, (batch,))
        start = time.perf_counter()
        table.draw(labels, step)
        table(features, labels).backward()
        assert table.rows.grad is not None
        table.update(table.rows.grad, 0.001)
        seconds.append(time.perf_counter() - start)
    state = sum(buffer.numel() * buffer.element_size() for buffer in table.buffers()) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    middle = 1000 * statistics.median(seconds[1:])
    head = ["classes × d", "drawn", "batch", "ms a step (median)", "table + optimizer, GB", "peak of the process, GB"]
    cells = [
        f"{classes:,} × {dim}", f"{len(table.classes):,}", str(batch), f"{middle:.0f}", f"{state:.2f}", f"{peak:.2f}",
    ]  # fmt: skip
    lines = [
        "# One step of the sampled class table", "", machine(), "",
        f"Draw, forward, backward and update, float32, {torch.get_num_threads()} threads; {len(seconds) - 1} steps "
        "after one to warm up. The peak holds Python and torch too. Adam on the whole table would take "
        f"{3 * 4 * classes * dim / 1e9:.2f} GB.", "",
        f"| {' | '.join(head)} |", "|" + "---|" * len(head), f"| {' | '.join(cells)} |",
    ]  # fmt: skip
    text = "\n".join(lines)
    print(text) if quick else write_result("class_table", text)


if __name__ == "__main__":
    main()
