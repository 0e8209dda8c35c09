# mypy: ignore-errors
"""Middleware of the server that ndec starts: adds ndec's scripts and layout to its pages."""

from __future__ import annotations

import gc
from pathlib import Path

_USUAL = (700, 10, 10)  # when Python 3.11 collects garbage
_FILES = Path(__file__).parent
_STYLE = b"<style>" + (_FILES / "layout.css").read_bytes() + b"</style>"
_SCRIPTS = b"".join(b"<script>" + (_FILES / name).read_bytes() + b"</script>" for name in ("one_key.js", "layout.js"))


class OneKeyPerPair:
    def __init__(self, get_response):
        self.get_response = get_response
        # Label Studio makes this twice: before its migrations, and to serve.
        if gc.isenabled():
            gc.set_threshold(*_USUAL)
        else:
            gc.freeze()  # Django is loaded and stays: no collection looks through it again
            gc.enable()

    def __call__(self, request):
        response = self.get_response(request)
        # Every page: Label Studio moves from page to page without loading a new one.
        if not response.streaming and response.get("Content-Type", "").startswith("text/html"):
            response.content = response.content.replace(b"</body>", _STYLE + _SCRIPTS + b"</body>")
            if response.has_header("Content-Length"):
                response["Content-Length"] = str(len(response.content))
        return response
