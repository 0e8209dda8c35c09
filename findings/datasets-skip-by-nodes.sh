#!/usr/bin/env bash
# datasets: take(100) and skip(100) of a stream are no longer a split once several processes read it
#
# Expected: take(100) holds out the first 100 pictures, skip(100) is everything else. On several machines or with several
# workers the rest is divided among them. No picture is in both parts, and none is lost.
#
# What happens: Dividing happens below skip: each process gets some of the files and skips its part of the 100 there.
# With two nodes, each skips the first 50 of its own files. So 50 held-out pictures are in the training set, and 50 others
# are in no part at all; with four nodes it is 75. The counts stay right (100 and 300), and there is no message. The two
# parts fit together only if both are read by equally many processes, and then the held-out set is another one for each
# number of them. The workers of a torch DataLoader divide a stream in the same way as nodes do, so validation in the
# main process and training with num_workers=2 is enough. A dataset in memory does not do this.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1

HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 venv/bin/python -W error - <<'EOF_PYTHON'
from importlib.metadata import version

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.distributed import split_dataset_by_node

print("datasets", version("datasets"), "pyarrow", version("pyarrow"))
datasets.disable_progress_bars()
files = [f"part{number}.parquet" for number in range(4)]
for number, file in enumerate(files):
    pq.write_table(pa.table({"picture": range(100 * number, 100 * number + 100)}), file)


def read(dataset, nodes):
    """Pictures that the nodes read together, as a list."""
    parts = [split_dataset_by_node(dataset, rank, nodes) for rank in range(nodes)] if nodes > 1 else [dataset]
    return [row["picture"] for part in parts for row in part]


seen = {}
for streaming in (False, True):
    whole = datasets.load_dataset("parquet", data_files=files, split="train", streaming=streaming)
    held_out, training = whole.take(100), whole.skip(100)
    first = set(read(held_out, 1))
    for nodes in (1, 2, 4):
        rows = read(training, nodes)
        leaked, lost = first & set(rows), set(range(400)) - first - set(rows)
        together = set(read(held_out, nodes)) & set(rows)
        seen[streaming, nodes] = (len(rows), len(leaked), len(lost), len(together))
        print(
            f"{'stream' if streaming else 'memory'}: training on {nodes} nodes reads {len(rows)} rows. Held out by one: "
            f"{len(leaked)} in both parts, {len(lost)} in neither. Held out by {nodes}: {len(together)} in both"
        )
assert all(seen[False, nodes] == (300, 0, 0, 0) for nodes in (1, 2, 4))
assert [seen[True, nodes] for nodes in (1, 2, 4)] == [(300, 0, 0, 0), (300, 50, 50, 0), (300, 75, 75, 0)]
EOF_PYTHON
