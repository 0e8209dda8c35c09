"""What this process may use of its processor."""

from __future__ import annotations

import os

# values of ONEDNN_MAX_CPU_ISA that forbid torch and OpenVINO the instructions for bfloat16
_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")


def may_use_bf16() -> bool:
    """Whether ONEDNN_MAX_CPU_ISA allows instructions for bfloat16; without them bfloat16 is slower than float32."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() not in _WITHOUT_BF16
