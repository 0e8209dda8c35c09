"""The annotators' guideline as a web page with pictures; the labelling page links to it."""

from __future__ import annotations

import re

from ndec_builder.core.workspace import shipped

_STYLE = """:root { color-scheme: light dark; --text: #222; --code: #eee; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e4e4; --code: #333; } body { background: #1b1b1d; }
  a { color: #8ec7f5; } }
body { font: 17px/1.5 sans-serif; max-width: 1080px; margin: 24px auto; padding: 0 20px; color: var(--text); }
table { border-collapse: collapse; margin: 14px 0; }
td, th { border: 1px solid #bbb; padding: 6px 10px; text-align: left; }
thead:not(:has(th:not(:empty))) { display: none; }
img { max-width: 100%; border-radius: 4px; vertical-align: middle; } code { background: var(--code); padding: 1px 4px; }
blockquote { border-left: 5px solid #2f6fde; margin-left: 0; padding-left: 16px; font-size: 20px; }"""


def guideline_page() -> bytes:
    """The guideline as HTML; its pictures are at /examples/NAME.jpg."""
    from markdown_it import MarkdownIt

    text = shipped("annotation/guideline.md").read_text("utf-8")
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{viewport}<title>Guideline for annotators</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'.encode()


def example_picture(name: str) -> bytes | None:
    """A picture of the guideline, or None if there is none with this name."""
    if not re.fullmatch(r"[a-z0-9-]+\.jpg", name):
        return None
    path = shipped("annotation/examples") / name
    return path.read_bytes() if path.is_file() else None
