"""CITATION.cff of a dataset (Citation File Format 1.2.0), and zenodo.json: the metadata of a deposit at Zenodo.

Missing authors are written as not stated.
"""

from __future__ import annotations

import html
import json
from typing import Any

from ndec_builder.manifests.writing.responsible import KEYWORDS

_NOT_STATED = "Authors not stated"
_PAPER = (
    "references:",
    "  - type: conference-paper",
    '    title: "A Benchmark and Asymmetrical-Similarity Learning for Practical Image Copy Detection"',
    "    authors:",
    "      - {family-names: Wang, given-names: Wenhao}",
    "      - {family-names: Sun, given-names: Yifan}",
    "      - {family-names: Yang, given-names: Yi}",
    "    year: 2023",
    '    collection-title: "Proceedings of the AAAI Conference on Artificial Intelligence"',
)


def citation(info: dict[str, Any]) -> str:
    """The file's text, from manifest.json. A JSON string is a YAML string, so untrusted text cannot break out of it."""
    authors = info["authors"] or [_NOT_STATED]
    lines = [
        "cff-version: 1.2.0",
        'message: "If you use this dataset, cite it, the paper of its protocol, and its image sources."',
        "type: dataset",
        f"title: {json.dumps(info['name'], ensure_ascii=False)}",
        f"version: {json.dumps(info['version'])}",
        f"abstract: {json.dumps(info['description'], ensure_ascii=False)}",
        *_stated(info.get("card", {})),
        "authors:",
        *(f"  - name: {json.dumps(name, ensure_ascii=False)}" for name in authors),
        *_PAPER,
    ]
    return "\n".join(lines) + "\n"


def _stated(card: dict[str, Any]) -> list[str]:
    """Web page, day of publication and keywords, where `[card]` states them."""
    names = {"url": "url", "date-released": "date_published", "keywords": "keywords"}
    return [f"{key}: {json.dumps(card[name], ensure_ascii=False)}" for key, name in names.items() if card.get(name)]


def deposit(info: dict[str, Any]) -> dict[str, Any]:
    """The body of a request to Zenodo's deposit API. It has no licence: the images keep theirs, so a person chooses."""
    card = info.get("card", {})
    metadata = {
        "upload_type": "dataset",
        "title": info["name"],
        "version": info["version"],
        "description": f"<p>{html.escape(info['description'])}</p>",
        "creators": [{"name": name} for name in info["authors"] or [_NOT_STATED]],
        "keywords": [*KEYWORDS, *(word for word in card.get("keywords", ()) if word not in KEYWORDS)],
        "publication_date": card.get("date_published"),
        "related_identifiers": [{"identifier": card["url"], "relation": "isIdenticalTo"}] if card.get("url") else None,
    }
    return {"metadata": {name: value for name, value in metadata.items() if value}}
