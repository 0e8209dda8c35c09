"""ndec: benchmarks with hard negatives for image copy detection, and detectors trained and judged on them."""

__version__ = "0.1.0"
