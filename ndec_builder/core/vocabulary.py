"""The words that tables, settings and options share. Imports nothing, so that the command line can read it at start."""

from __future__ import annotations

# `basic` is the word of the NDEC paper for the images a detector is trained on.
ROLES = ("reference", "basic", "pool", "query")
# test: pool × reference, becomes the benchmark · train: pool × basic, becomes the training pairs
SPLITS = ("test", "train")
LABELS = ("edited_copy", "hard_negative", "unrelated", "unsure")
# What a query of a dataset is, and what a hard negative came from.
QUERY_KINDS = ("edited_copy", "hard_negative", "distractor")
HARD_KINDS = ("natural", "reverse_crop")
# Rounds of annotation, in the order in which they take place.
ROUNDS = ("first", "double_check", "adjudication", "audit")
# Annotator of labels that came with a file of pairs: this, then the name of the source. No person's name has a colon.
FILE_SOURCE = "file:"
# Settings that people ask for and ndec does not have, with the reason.
LEFT_OUT = {
    "precision": "Models run in float32, or in bfloat16 (the setting bf16). int8 was tried and left out, see "
    "benchmarks/results/int8_tried.md.",
}
