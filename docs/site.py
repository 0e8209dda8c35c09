"""Hooks of `mkdocs build` that make pages from the code, the schemas and the benchmark tables.

mkdocs.yml names this file. The pages use the same definitions as the program, so they cannot be out of date.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from ndec_builder.annotation.decisions.recall_certificate import expected_recall, goal_of_look
from ndec_builder.cli.assist import sizing
from ndec_builder.commands import settings_sections
from ndec_builder.core.config import file_settings
from ndec_builder.core.console import duration

ROOT = Path(__file__).parent.parent
STAGES = ["sources", "edits", "embeddings", "candidates", "annotation", "manifests", "training", "evaluation", "league"]
ELSEWHERE = {  # file of the repository → page of the site
    "manifests/DATA_DICTIONARY.md": "reference/formats.md",
    "annotation/guideline.md": "guideline.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
    "ndec_builder/__init__.py": "reference/python.md",
    "benchmarks/results": "performance.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages and their pictures."""
    pages = {
        "reference/commands.md": commands(),
        "reference/settings.md": settings(),
        "reference/python.md": python(),
        "reference/formats.md": formats(),
        "performance.md": performance(),
        "sizing.md": (ROOT / "docs" / "sizing.md").read_text("utf-8") + sizes(),
        "guideline.md": (ROOT / "annotation" / "guideline.md").read_text("utf-8"),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text("utf-8"),
    }
    for name, text in pages.items():
        if (old := files.get_file_from_path(name)) is not None:
            files.remove(old)
        files.append(File.generated(config, name, content=text))
    for picture in sorted((ROOT / "annotation" / "examples").glob("*.jpg")):
        files.append(File.generated(config, f"examples/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to files outside docs/ at the page that shows the file. A link to code becomes plain text."""
    here = ROOT / {"guideline.md": "annotation", "changelog.md": "."}.get(page.file.src_uri, "docs") / "x"
    if page.file.src_uri not in ("guideline.md", "changelog.md"):
        here = ROOT / "docs" / page.file.src_uri
    depth = page.file.src_uri.count("/")

    def moved(match: re.Match[str]) -> str:
        picture, text, target, anchor = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = (here.parent / target).resolve()
        if picture and path.parent.name == "examples":
            return f"![{text}]({'../' * depth}examples/{path.name})"
        if not path.is_relative_to(ROOT):
            return match[0]
        name = path.relative_to(ROOT).as_posix()
        name = "benchmarks/results" if name.startswith("benchmarks/results/") else name
        if name in ELSEWHERE:
            return f"[{text}]({'../' * depth}{ELSEWHERE[name]}{anchor or ''})"
        if name.startswith("docs/"):
            return f"{picture}[{text}]({'../' * depth}{name.removeprefix('docs/')}{anchor or ''})"
        return text if not picture else match[0]

    return LINK.sub(moved, markdown)


def commands() -> str:
    """Every verb with its arguments and options, from the command line itself."""
    import typer.main
    from typer.cli import get_docs_for_click

    from ndec_builder.cli import app

    group = typer.main.get_group(app)
    context = group.make_context("ndec", ["status"])  # any verb works: the generator needs a context and runs nothing
    return get_docs_for_click(obj=group, ctx=context, name="ndec", title="Commands")


def settings() -> str:
    """Every setting of `ndec.toml`, by section."""
    lines = [
        "# Settings", "", "`ndec init` writes them all, commented out at their defaults, into `ndec.toml`. Flags "
        "override the file. In Python they are the fields of the config, see [Python](python.md).", "",
    ]  # fmt: skip
    for section, cls in settings_sections().items():
        known = file_settings(cls)
        if not known:
            continue
        lines += [f"## [{section}] – {cls.__name__}", "", "| setting | default | |", "|---|---|---|"]
        for field in dataclasses.fields(cls):
            if field.name in known:
                value = "" if field.default in (None, "", ()) else f"`{field.default}`"
                lines.append(f"| `{field.name}` | {value} | {_cell(known[field.name].help)} |")
        lines.append("")
    return "\n".join(lines)


def python() -> str:
    """The public names. mkdocstrings fills in their docstrings."""
    import ndec_builder

    lines = [
        "# Python", "", "```python", *(ndec_builder.__doc__ or "").splitlines()[2:7], "```", "",
        "`examples/tour.py` uses them one after another, and the tests run it. Errors are `NdecError` (`exit_code` 1), "
        "`UsageError` (2) and `GapsError` (3: finished, with gaps), each with one paragraph of text.", "",
        "## Verbs", "", "::: ndec_builder.api", "    options: {show_root_heading: false, show_root_toc_entry: false, "
        "filters: ['!^_', '!^run_verb$']}", "",
        "## Annotation verbs: `ndec.annotate`", "", "::: ndec_builder.annotate",
        "    options: {show_root_heading: false, show_root_toc_entry: false}", "",
    ]  # fmt: skip
    for stage in STAGES:
        package = importlib.import_module(f"ndec_builder.{stage}")
        lines += [f"## `ndec.{stage}`", "", (package.__doc__ or "").strip(), ""]
        for name in package.__all__:
            thing = getattr(package, name)
            lines += [f"::: {thing.__module__}.{name}", ""]
    return "\n".join(lines)


def formats() -> str:
    """The tables that stages exchange, from their schemas, and the dictionary of a finished dataset."""
    from ndec_builder.core import schemas

    lines = [
        "# Formats", "", f"Schema version {schemas.SCHEMA_VERSION}. First the tables of a workspace, from "
        "`core/schemas.py`, then the finished dataset with the meaning of each column.", "",
        "## Tables of a workspace", "",
    ]  # fmt: skip
    import pyarrow as pa

    for schema in dict.fromkeys(value for value in vars(schemas).values() if isinstance(value, pa.Schema)):
        name = (schema.metadata or {}).get(b"ndec_table", b"").decode()
        cells = ", ".join(f"`{field.name}` {field.type}" for field in schema)
        lines += [f"### {name}", "", cells, ""]
    dictionary = (ROOT / "manifests" / "DATA_DICTIONARY.md").read_text("utf-8")
    return (
        "\n".join(lines)
        + "\n"
        + dictionary.replace("\n## ", "\n### ").replace("# Data dictionary", "## Data dictionary", 1)
    )


def performance() -> str:
    """The last full run of every benchmark, unchanged."""
    lines = [
        "# Performance", "", "The last full run of each script in `benchmarks/` and `tests/faults/`, as the script "
        "wrote it, with its date, machine and command. Projected numbers are marked.", "",
    ]  # fmt: skip
    for path in sorted([*ROOT.glob("benchmarks/results/*.md"), *ROOT.glob("tests/faults/results/*.md")]):
        text = re.sub(r"^(#+) ", r"#\1 ", path.read_text("utf-8"), flags=re.MULTILINE)
        lines += [re.sub(r"<(?=[A-Za-z/])", "&lt;", text), ""]
    return "\n".join(lines)


def sizes() -> str:
    """The tables of the sizing guide, by the arithmetic of `sizing`."""
    cores, price = 2, 0.04
    lines = ["", "## Images × dimensions → memory, hours, cost", ""]
    lines += [
        f"Projected for {cores} cores and for 32, from the rates above; cost at {price} $ per core-hour (assumed).",
        "",
    ]
    lines += [
        "| pool × references × dims | disk | memory | embed | search | 32 cores | cost |",
        "|---|---|---|---|---|---|---|",
    ]
    for pool, references, dim in (
        (10_000, 1_000, 256), (100_000, 10_000, 256), (1_000_000, 100_000, 256), (1_000_000, 100_000, 512),
        (9_000_000, 1_000_000, 512),
    ):  # fmt: skip
        embed = sizing.embed_seconds(pool + references, cores)
        search = sizing.search_seconds(pool, references, dim, cores)
        many = (embed + search) * cores / 32 / 0.8
        lines.append(
            f"| {pool:,} × {references:,} × {dim} | {sizing.size(sizing.vectors_bytes(pool + references, dim))} | "
            f"{sizing.size(sizing.vectors_bytes(references, dim))} | {duration(embed)} | "
            f"{duration(search)} | {duration(many)} | {(embed + search) * cores / 3600 * price:.2f} $ |"
        )
    lines += ["", "Disk: vectors of pool and references. Memory: vectors of the references. 32 cores: "
              "both, at 80 % of the rate per core (assumed).", "", "## Pairs × overlap → person-days", ""]  # fmt: skip
    lines += ["At 5 s per pair (assumed; `ndec annotate status` shows your own speed), six hours per day.", "",
              "| pairs | overlap 0 | overlap 0.1 | overlap 0.2 | every pair twice | days for six, overlap 0.1 |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for pairs in (1_000, 10_000, 50_000, 150_000):
        days = [sizing.person_hours(pairs, 5.0, overlap) / 6 for overlap in (0.0, 0.1, 0.2, 1.0)]
        lines.append(f"| {pairs:,} | " + " | ".join(f"{day:.1f}" for day in days) + f" | {days[1] / 6:.1f} |")
    lines += ["", "## Random sample → where `certify` lets you stop", "",
              "Computed, not measured: 5,000 pairs, a recall of 80 % with 95 % confidence, 3 % wrong labels (assumed). "
              "The share of the hard negatives that is labelled at the stop, if one annotator labels the sample, and "
              "if a second one confirms its hard negatives. —: too few to certify.", "",
              "| random pairs | 10 % hard negatives | confirmed | 30 % | confirmed | 60 % | confirmed |",
              "|---|---|---|---|---|---|---|"]  # fmt: skip
    for sample in (200, 400, 600, 1000):
        cells = [
            expected_recall(sample, share, 5000, goal_of_look(), 0.03, confirmed=twice)
            for share in (0.1, 0.3, 0.6)
            for twice in (False, True)
        ]
        lines.append(f"| {sample:,} | " + " | ".join("—" if cell is None else f"{cell:.0%}" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
