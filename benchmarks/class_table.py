"""One measured step of the sampled class table: 1,000,000 × 512 classes, batch 128, 8,192 classes drawn.

python benchmarks/class_table.py [--quick]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import torch

from ndec_builder.training.class_table import SampledCosFace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 classes")
    classes = 10_000 if parser.parse_args().quick else 1_000_000
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
    print("| classes × d | drawn | ms a step (median) | table + optimizer GB | peak of the process GB |")
    print("|---|---|---|---|---|")
    middle = 1000 * statistics.median(seconds[1:])
    print(f"| {classes:,} × {dim} | {len(table.classes):,} | {middle:.0f} | {state:.2f} | {peak:.2f} |")


if __name__ == "__main__":
    main()
