"""Numbers of the paper (tables 1 and 2, figures 6 and 7), shown next to those measured on your data."""

from __future__ import annotations

from typing import NamedTuple


class PaperRow(NamedTuple):
    """μAP in percent · true and false positives among the first N = 5,009, after the filter in rows with one."""

    uap: float
    tp: int
    fp: int
    precision: float


TABLE_1 = {
    "EsViTp": PaperRow(45.55, 2346, 2663, 46.84),
    "EsViTp+ASL": PaperRow(48.31, 1265, 501, 71.63),
    "CNNCL": PaperRow(54.30, 2620, 2389, 52.31),
    "CNNCL+ASL": PaperRow(56.95, 2110, 545, 79.47),
    "EfNet": PaperRow(51.97, 2579, 2430, 51.49),
    "EfNet+ASL": PaperRow(53.81, 1997, 562, 78.04),
    "BoT": PaperRow(42.06, 2075, 2934, 41.43),
    "BoT+ASL": PaperRow(45.07, 1620, 838, 65.91),
    "D²LV": PaperRow(58.87, 2836, 2173, 56.62),
    "D²LV+ASL": PaperRow(61.28, 2227, 583, 79.25),
    "Simple": PaperRow(47.00, 2269, 2740, 45.30),
    "Simple+ASL": PaperRow(49.30, 1829, 648, 73.84),
    "Strong": PaperRow(61.03, 2968, 2041, 59.25),
    "Strong+ASL": PaperRow(64.09, 2331, 567, 80.43),
}
TABLE_2 = {  # recipe → its row
    "baseline": PaperRow(47.00, 2269, 2740, 45.30),
    "asl-crop": PaperRow(49.10, 2098, 1233, 62.98),
    "asl-negative": PaperRow(48.14, 1877, 845, 68.96),
    "asl-positive": PaperRow(48.17, 1932, 794, 70.87),
    "triplet": PaperRow(45.37, 1774, 1200, 59.65),
    "asl": PaperRow(49.30, 1829, 648, 73.84),
}
FIGURE_6 = {0.0: 72.42, 0.75: 49.47, 1.0: 47.00}  # share of hard negatives → μAP; the points named in the text
# μAP without and with hard negatives (DISC21 dev II, NDEC), from the text or computed from the drops named there.
# † trained on 25,000 queries of DISC21.
FIGURE_7 = {
    "EsViTp †": (84.64, 45.55),
    "CNNCL †": (77.43, 54.30),
    "Simple": (72.42, 47.00),
    "Strong": (90.13, 61.03),
}
TRAINED_ON_QUERIES = ("CNNCL", "EsViTp")
NDEC_QUERIES, NDEC_REFERENCES, NDEC_PAIRS = 49_252, 1_000_000, 5_009


def is_ndec(queries: int, references: int, pairs: int) -> bool:
    """Whether these counts are those of NDEC itself."""
    return (queries, references, pairs) == (NDEC_QUERIES, NDEC_REFERENCES, NDEC_PAIRS)
