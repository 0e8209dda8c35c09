# mypy: ignore-errors
"""Middleware of the server that ndec starts: adds `one_key.js` to its pages, so that one key labels a pair."""

from __future__ import annotations

from pathlib import Path

_SCRIPT = b"<script>" + Path(__file__).with_name("one_key.js").read_bytes() + b"</script></body>"


class OneKeyPerPair:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        # Every page: Label Studio moves from page to page without loading a new one.
        if not response.streaming and response.get("Content-Type", "").startswith("text/html"):
            response.content = response.content.replace(b"</body>", _SCRIPT)
            if response.has_header("Content-Length"):
                response["Content-Length"] = str(len(response.content))
        return response
