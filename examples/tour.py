"""The Python API in one sitting. Cells are marked `# %%`: open it as a notebook (VS Code, Jupytext) or run it whole.

    python examples/tour.py PHOTOS [WORKSPACE]

PHOTOS holds the folders `references`, `pool`, `training` and `queries`, and `ground_truth.csv` with the columns
query_id, reference_id: which query is a copy of which reference. Some tens of pictures in each are enough.
"""

# %% Importing it loads nothing heavy: a name is loaded when it is first used.
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import ndec_builder as ndec

photos = Path(sys.argv[1] if len(sys.argv) > 1 else "photos")
bench = Path(sys.argv[2] if len(sys.argv) > 2 else "tour")

# %% A metric alone: one ranked list over all pairs, divided by all ground-truth pairs.
scores = np.array([0.9, 0.8, 0.7, 0.4])
is_match = np.array([True, False, True, False])
print("micro average precision:", ndec.evaluation.micro_average_precision(scores, is_match, positives=2))
print("at N:", ndec.evaluation.precision_at_n(ndec.evaluation.rank(scores, is_match, positives=2)))

# %% A loss alone: a torch module. Row 0 shows more of the scene than row 1, so its feature should be the longer one.
import torch  # noqa: E402

features = torch.nn.Parameter(torch.tensor([[1.0, 0.2], [0.9, 0.3]]))
norm_ratio = ndec.training.NormRatioLoss()
optimizer = torch.optim.SGD([features], lr=0.1)
for _ in range(20):
    optimizer.zero_grad()
    loss = norm_ratio(features, more=torch.tensor([0]), less=torch.tensor([1]))
    loss.backward()
    optimizer.step()
lengths = ndec.training.norms(features).tolist()
print(f"norms after 20 steps: {lengths[0]:.2f} with more content, {lengths[1]:.2f} with less")

# %% The pairs of your pool that lie closest to your references. The second run finds everything done.
basic = ndec.configure(ndec.IngestConfig, bench, role="basic", source=photos / "training")
ndec.ingest(basic)
mining = ndec.configure(
    ndec.MineConfig, bench, pool=photos / "pool", references=photos / "references", top=20, max_per_reference=3
)
folder = ndec.mine(mining)
candidates = pq.read_table(folder / "candidates.parquet").to_pandas()
print(candidates[["rank", "query_id", "reference_id", "score", "query_inside", "reference_covered"]].head())

# %% One pair on its own: how does the query lie on the reference?
from PIL import Image  # noqa: E402

reference = Image.open(next((photos / "references").glob("*.png"))).convert("RGB")
copy = ndec.edits.edit_image(reference, "crop", np.random.default_rng(0))
lie = ndec.candidates.fit_geometry(np.asarray(copy.image), np.asarray(reference))
print(f"{lie.inliers} inliers; the copy covers {lie.reference_covered:.0%} of it (made with {copy.content_share:.0%})")

# %% A detector, judged: every number with its interval.
report = ndec.benchmark(
    ndec.configure(
        ndec.BenchmarkConfig, bench, model="efficientnet-lite0", queries=photos / "queries",
        references=photos / "references", ground_truth=photos / "ground_truth.csv", replicates=200, name="tour",
    )
)  # fmt: skip
metrics = json.loads((report / "metrics.json").read_text("utf-8"))
uap = metrics["uap"]
print(f"μAP {uap['value']:.3f}, 95 % interval {uap['low']:.3f} to {uap['high']:.3f}; see {report / 'report.html'}")

# %% An error is one paragraph: what was wrong, the value seen, what to do.
try:
    ndec.configure(ndec.MineConfig, bench, topp=20)
except ndec.UsageError as error:
    print("refused:", error)
