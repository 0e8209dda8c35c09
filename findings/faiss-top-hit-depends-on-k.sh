#!/usr/bin/env bash
# FAISS: which of two equal vectors IndexFlatIP ranks first depends on k
#
# Expected: An exact search returns the same best hit for any k. A search with k = 5 only adds four
# more rows.
#
# What happens: Among equal scores, IndexFlatIP returns the k smallest ids, but in descending order.
# So the first hit is id 0 for k = 1, id 1 for k = 2 and id 4 for k = 5. IndexFlatL2 lists the same
# ties in ascending order. On normalised vectors the two indexes should be interchangeable, but
# recall@1 and "the best match" differ as soon as a collection contains duplicates.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check faiss-cpu==1.15.1 numpy==2.4.6

venv/bin/python - <<'EOF'
import faiss
import numpy as np

vectors = np.zeros((10, 8), dtype="float32")
vectors[:, 0] = 1  # ten copies of one unit vector
print("faiss", faiss.__version__)
found = {}
for cls in (faiss.IndexFlatIP, faiss.IndexFlatL2):
    index = cls(8)
    index.add(vectors)
    for k in (1, 2, 5):
        found[cls.__name__, k] = index.search(vectors[:1], k)[1][0].tolist()
        print(f"{cls.__name__} k={k}: ids {found[cls.__name__, k]}")
assert [found["IndexFlatIP", k][0] for k in (1, 2, 5)] == [0, 1, 4]
assert [found["IndexFlatL2", k] for k in (1, 2, 5)] == [[0], [0, 1], [0, 1, 2, 3, 4]]
EOF
