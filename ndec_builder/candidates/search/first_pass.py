"""Choose the first pass by what this machine supports, or by the setting `search`."""

from __future__ import annotations

import numpy as np

from ndec_builder.candidates.search.bf16 import Bf16Error, Bf16Pass, has_bf16
from ndec_builder.candidates.search.faiss_flat import FlatPass, GpuPass
from ndec_builder.candidates.search.proposals import FirstPass
from ndec_builder.candidates.settings import SEARCHES
from ndec_builder.core.console import say
from ndec_builder.core.errors import UsageError

_SMALL = 1e11  # multiplications, a second of work; for less, loading torch takes longer than it saves


def choose(search: str, shape: tuple[int, ...], references: np.ndarray) -> FirstPass:
    """Return the first pass for queries of this shape among references (m, d) float16.

    auto takes GPUs where FAISS finds some, else bf16 for large searches on a CPU that supports it, else FAISS. Raises
    UsageError for an unknown name, and for bf16 on a CPU without it.
    """
    if search not in SEARCHES:
        raise UsageError(f"search {search!r} is unknown; it is one of {', '.join(SEARCHES)}")
    if search == "bf16" and not has_bf16():
        raise UsageError("search is bf16, but this CPU has neither amx_bf16 nor avx512_bf16; use search = auto")
    large = shape[0] * references.size >= _SMALL
    if search == "auto" and large and gpus():
        return GpuPass(references)
    if search == "bf16" or (search == "auto" and large and has_bf16()):
        try:
            return Bf16Pass(references)
        except Bf16Error as error:
            say(f"{error}: searching with FAISS")
    return GpuPass(references) if search == "faiss" and gpus() else FlatPass(references)


def gpus() -> int:
    import faiss

    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0
