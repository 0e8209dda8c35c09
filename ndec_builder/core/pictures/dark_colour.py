"""16-bit colour that holds fewer bits, and so would be shown almost black."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ndec_builder.core.pictures.errors import DecodeError


def refuse_dark_colour(image: Image.Image, data: bytes) -> None:
    """Pillow keeps the upper 8 of 16 bits of colour, so a 12-bit picture would become almost black.

    The values count as they are stored: a colour profile brightens, and a white background hides what is transparent.
    """
    colours = [band for name, band in zip(image.getbands(), image.split(), strict=True) if name != "A"]
    highest = max(band.getextrema()[1] for band in colours) * 256 + 255  # type: ignore[operator]
    if highest == 255 and _is_black(data):
        return
    if highest < 4096:
        raise DecodeError(
            f"16-bit colour with values below {highest + 1}: it probably holds 12 bits or fewer; scale it to "
            "the full 16 bits, or save it with 8"
        )


def _is_black(data: bytes) -> bool:
    """Whether all values are 0, the lower 8 bits too. OpenCV keeps all 16 bits."""
    import cv2  # loading it takes longer than reading most pictures, and few need it

    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        return True
    with_alpha = values.ndim == 3 and values.shape[2] in (2, 4)
    return not (values[..., :-1] if with_alpha else values).any()
