"""README.md: the dataset card. Its YAML head makes `datasets.load_dataset(DIR, TABLE)` work."""

from __future__ import annotations

import json
from typing import Any

from ndec_builder.annotation.decisions.agreement import agreement_texts
from ndec_builder.annotation.decisions.audit_text import card_text
from ndec_builder.core.console import number_of
from ndec_builder.core.schemas import MANIFEST_TABLES
from ndec_builder.manifests.writing.responsible import came_with_files, card_facts, escaped, other_choice

_STEPS = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")  # of the Hugging Face size categories
TABLE_MEANINGS = {
    "queries": "possible copies: edited copies, hard negatives and distractors",
    "references": "originals that the queries are searched in",
    "ground_truth": "the reference of every query, null where it has none",
    "train_basic": "training images, each a different original (the paper calls them basic images)",
    "train_pairs": "hard negative pairs for training: the latter is similar to the former but not an edited copy of it",
    "train_pair_images": "the latter images of train_pairs",
}
_IMAGES = {
    "elsewhere": "The tables hold the uri and sha256 of each image, not its pixels; relative uris start at "
    "`images_root` of `manifest.json`.",
    "folder": "The images are in `images/`; `uri` is a path from this folder, `sha256` that of the packed file.",
    "tar": "The images are in the WebDataset shards `images/TABLE-*.tar`; `uri` is `SHARD#bytes=FIRST-LAST` (both "
    "included, as in an HTTP Range header), `sha256` that of these bytes.",
    "attribution_only": "The images are not part of this dataset: `ndec fetch PATH` downloads them from their URLs, "
    "checks each sha256 and reports what is gone or changed.",
}
_CHECK = "`ndec validate PATH` recomputes every count and hash."


def card(info: dict[str, Any]) -> str:
    """Return the card of a dataset from its `manifest.json` (without the hashes). Deterministic."""
    return "\n".join([*_head(info), *_body(info)]) + "\n"


def _head(info: dict[str, Any]) -> list[str]:
    rows = sum(info["counts"]["rows"].values())
    lines = [
        "---",
        f"pretty_name: {json.dumps(info['name'])}",
        "license: other",
        "license_name: per-image",
        "license_link: ATTRIBUTION.csv",
        "task_categories:",
        "- image-feature-extraction",
        "tags:",
        "- image-copy-detection",
        "- hard-negatives",
        *(f"- {json.dumps(word, ensure_ascii=False)}" for word in info.get("card", {}).get("keywords", ())),
        "size_categories:",
        f"- {_size_category(rows)}",
        "configs:",
    ]
    default = next(name for name in ("queries", "train_basic") if info["counts"]["rows"][name] or name != "queries")
    for table, (split, _) in MANIFEST_TABLES.items():
        if not info["counts"]["rows"][table]:
            continue  # `datasets` raises for a split without rows: an empty table is written but is no config
        lines += [f"- config_name: {table}", *(["  default: true"] if table == default else []), "  data_files:"]
        lines += [f"  - split: {split}", f"    path: data/{table}/{split}-*.parquet"]
    return [*lines, "---", ""]


def _size_category(rows: int) -> str:
    """The Hugging Face size category of a number of rows: n<1K, 1K<n<10K … n>1T."""
    above = [step for place, step in enumerate(_STEPS) if rows >= 10 ** (place + 3)]
    if len(above) == len(_STEPS):
        return f"n>{above[-1]}"
    return f"{above[-1]}<n<{_STEPS[len(above)]}" if above else f"n<{_STEPS[0]}"


def _body(info: dict[str, Any]) -> list[str]:
    counts = info["counts"]
    lines = [f"# {escaped(info['name'])} {info['version']}", "", info["description"], ""]
    if "simulated" in info["labels_by"]:
        lines += [
            f"> **Labels by: {info['labels_by']}.** They follow from how the images were made; no one labelled them.",
            "",
        ]
    lines += ["| table | rows | what it holds |", "|---|---|---|"]
    lines += [f"| {table} | {counts['rows'][table]:,} | {TABLE_MEANINGS[table]} |" for table in MANIFEST_TABLES]
    lines += ["", "| queries | count |", "|---|---|"] if counts["rows"]["queries"] else []
    lines += [f"| {kind} | {count:,} |" for kind, count in counts["queries"].items()]
    if confirmed := info.get("confirmed_copies"):
        lines.append(f"| edited_copy, found in the pool and labelled so | {confirmed:,} |")
    lines += [f"| hard_negative, {kind} | {count:,} |" for kind, count in counts["hard_negatives"].items()]
    lines += ["", *_images(info), *_load(counts["rows"]), *_where(info["images"])]
    lines += ["## How it was made", "", *_preset(info["preset"])]
    for split, facts in info["lineage"].items():
        lines += _split(split, facts)
    if pairs := info["ingested_pairs"]:
        lines += [
            f"{number_of(pairs['rows'], 'training pair')} came with another dataset. Nobody labelled them again here.",
            "",
        ]
    lines += _distractors(info)
    lines += [f"Written by ndec {info['ndec_version']}.", ""]
    lines += card_facts(info)
    lines += _drops(info["dropped"])
    lines += ["## Licences", "", "Images keep their own licences: see `ATTRIBUTION.csv`.", ""]
    lines += ["| licence | images |", "|---|---|"]
    lines += [f"| {escaped(licence)} | {count:,} |" for licence, count in counts["licenses"].items()]
    return lines + (["", "Training on queries or references is forbidden."] if counts["rows"]["queries"] else [])


def _load(rows: dict[str, int]) -> list[str]:
    code = 'queries = datasets.load_dataset("PATH", "queries")["test"]'
    if not rows["queries"]:
        code = 'pairs = datasets.load_dataset("PATH", "train_pairs")["train"]'
    return ["## Load it", "", "```python", "import datasets", code, "```", ""]


def _images(info: dict[str, Any]) -> list[str]:
    """Numbers of groups: intervals are computed over groups, not over images."""
    groups = ", ".join(f"{count:,} in {table}" for table, count in info["counts"]["groups"].items())
    lines = [f"Groups (scene, author, video; never shared by training and test): {groups}.", ""]
    if source := info.get("corpus"):
        counts = source["counts"]
        names = ", ".join(escaped(f"{package['name']} {package['version']}") for package in source["packages"])
        lines += [
            f"The images are the mini corpus of ndec ({counts.get('usable')} usable originals; {counts.get('claim')})"
            + (f", from the packages {names}." if names else ", made from the user's own photos."),
            "",
        ]
    return lines


def _not_again(mining: dict[str, Any]) -> str:
    if not (count := mining.get("queries_not_rechecked")):
        return ""
    were = number_of(count, "hard-negative query was", "hard-negative queries were")
    return f" {were} not searched again in all of these references, and each may be a copy of one of the others."


def _split(split: str, facts: dict[str, Any]) -> list[str]:
    mining = facts["mining"]
    settings = mining["settings"]
    lowest = "not recorded" if mining["cut"] is None else f"{mining['cut']:.4f}"
    known = {None: "an unrecorded number", 0: "any number"}
    most = {name: known.get(value, str(value)) for name, value in settings.items()}
    count, model = f"{mining['counts'].get('pairs', 0):,}", escaped(mining["model"])
    limits = f"at most {most['max_per_query']} per pool image and {most['max_per_reference']} per reference"
    other = other_choice(mining)
    chosen = (
        f"{count} pairs {other}, scored by {model}" if other else f"the {count} most similar pairs by {model}, {limits}"
    )
    lines = [
        f"Split {split}: {chosen}, lowest score {lowest}; "
        f"{number_of(mining['counts'].get('duplicates', 0), 'of them was a duplicate', 'of them were duplicates')}, "
        "which nobody labelled. "
        f"{mining['rechecked_pairs']:,} more pairs came from searching the kept queries again." + _not_again(mining),
        "",
    ]
    if facts["labels"]:
        lines += ["| round | annotator | label | count |", "|---|---|---|---|"]
        lines += [
            f"| {row['round']} | {escaped(row['annotator'])} | {row['label']} | {row['count']:,} |"
            for row in facts["labels"]
        ]
        lines.append("")
        lines += [text for line in came_with_files(split, facts) for text in (escaped(line), "")]
    return lines + _quality(facts)


def _where(images: dict[str, Any]) -> list[str]:
    lines = [_IMAGES[images["form"]], _CHECK]
    if images.get("encoded_anew"):
        size = f"longest side at most {images['resize']} px, " if images["resize"] else ""
        lines.append(
            f"{number_of(images['encoded_anew'], 'image was', 'images were')} re-encoded when they were "
            f"packed ({size}format "
            f"{images['image_format']}, quality {images['quality']}); the others keep their original bytes."
        )
    return [*lines, ""]


def _distractors(info: dict[str, Any]) -> list[str]:
    settings = info["settings"]
    if not settings["distractors_drawn"]:
        return []
    compared = "each is below the lowest score of the mined pairs with every reference; nobody labelled them"
    if not settings.get("distractors_compared"):
        compared = "they were not compared with the references, and nobody labelled them"
    return [
        f"{number_of(settings['distractors_drawn'], 'distractor was', 'distractors were')} drawn at "
        f"random from the pool: {compared}.",
        "",
    ]


def _preset(preset: dict[str, Any] | None) -> list[str]:
    if preset is None:
        return []
    lines = ["It has the parts of the NDEC benchmark" + (", not all of them:" if preset["partial"] else ".")]
    if preset["differs"]:
        lines += ["", "| part | here | published |", "|---|---|---|"]
        lines += [f"| {part} | {n['found']:,} | {n['published']:,} |" for part, n in preset["differs"].items()]
    return [*lines, ""]


def _quality(facts: dict[str, Any]) -> list[str]:
    """Agreement and the bound on wrong labels, where they were computed."""
    agreement = facts["agreement"] or {}
    lines = []
    if skipped := sum((agreement.get("skipped") or {}).values()):
        lines.append(f"* Skipped: {skipped:,} times an annotator skipped a pair that nobody got since.")
    if withdrawn := agreement.get("labels_withdrawn"):
        lines.append(
            f"* Withdrawn: {number_of(withdrawn, 'label was', 'labels were')} skipped or "
            "deleted later; they do not count."
        )
    lines += [f"* {text}" for text in agreement_texts(agreement)]
    if (bound := agreement.get("residual_bound")) is not None:
        undecided = (agreement.get("residual") or {}).get("undecided")
        counted = f" ({number_of(undecided, 'undecided pair')} counted as copies)" if undecided else ""
        lines.append(
            f"* Edited copies among the pairs kept on a single label, upper 95 % bound: {_number(bound)}{counted}."
        )
    lines += _proof(agreement)
    if facts["decisions"]:
        counts = ", ".join(f"{count:,} {decision}" for decision, count in facts["decisions"].items())
        lines.append(f"* Decisions: {counts}.")
    if (undecided := facts.get("undecided")) and undecided["pairs"]:
        lines.append(
            f"* Undecided: {number_of(undecided['pairs'], 'pair')}, of which "
            f"{undecided['never_assigned']:,} were given to nobody."
            f" {number_of(undecided['queries_dropped'], 'query')} with "
            f"{number_of(undecided['hard_negatives'], 'hard negative is', 'hard negatives are')} left "
            "out only because another of their pairs is undecided."
        )
    return [*lines, ""] if lines else []


def _proof(agreement: dict[str, Any]) -> list[str]:
    """Results of random checks: the audit of the kept pairs, and of the pairs that nobody labelled."""
    lines = []
    audit, cleared = agreement.get("audit"), agreement.get("auto_clear")
    if audit and (text := card_text(audit)):
        lines.append(f"* {text}")
    if certificate := agreement.get("certificate"):
        lines.append(_certificate(certificate))
    if cleared and cleared["threshold"] is not None:
        lines.append(
            f"* Nobody labelled {number_of(cleared['pairs'], 'pair')} that were discarded as edited "
            "copies by a pre-label of at "
            f"least {cleared['threshold']:.4f}; of {cleared['checked']:,} random pairs of them that people labelled, "
            f"{cleared['wrong']:,} were not copies: at most {cleared['bound']:.2%} (one-sided 95 % bound)."
        )
    for person in agreement.get("annotators") or []:
        if (gold := person["gold"])["n"]:
            lines.append(
                f"* {escaped(person['annotator'])}: {gold['right']:,} of {gold['n']:,} gold pairs right "
                f"(95 % interval {gold['low']:.3f}–{gold['high']:.3f})."
            )
    return lines


def _certificate(found: dict[str, Any]) -> str:
    """The recall certificate with its assumptions, or how many labels it lacks."""
    changed = found.get("changed", 0)
    if found["stale"] or changed or found["open"]:
        missing = f"{number_of(found['open'], 'label is', 'labels are')} missing"
        if changed:
            missing = f"{number_of(changed, 'pair has', 'pairs have')} other labels in its random sample now"
        missing = "it is about other candidates" if found["stale"] else missing
        return f"* Recall: the certificate of {found['recall']:.0%} is not reached ({missing})."
    twice = ", labelled so by two annotators" if found["confirmed"] else ""
    unkeepable = f" or in queries that have an edited copy ({found['unkeepable']:,})" if found["unkeepable"] else ""
    return (
        f"* Recall: at least {found['recall']:.0%} of the hard negatives among the "
        f"{number_of(found['pairs'], 'candidate')} are "
        f"labelled{unkeepable} ({found['confidence']:.0%} confidence); "
        f"{number_of(found['unlabelled'], 'pair was', 'pairs were')} not looked "
        f"at. Proven by {number_of(found['sample'], 'random pair')} with "
        f"{number_of(found['positives'], 'hard negative')}{twice}, of which "
        f"up to {found['false']:,} may be wrong labels (error {found['error']:.3f}, {escaped(found['error_source'])}). "
        f"Assumptions: an annotator misses at most {found['missed']:.0%} of the hard negatives, independently of the "
        "ranking, and errors are independent between pairs"
        + (", repeated by a second annotator in at most one case of five." if found["confirmed"] else ".")
    )


def _number(value: Any) -> str:
    """A value from agreement.json as text: a number, or a breakdown by name."""
    if isinstance(value, dict):
        return ", ".join(f"{escaped(str(key))} {_number(part)}" for key, part in value.items() if part is not None)
    return f"{value:.4g}" if isinstance(value, float) else escaped(str(value))


def _drops(dropped: dict[str, dict[str, int]]) -> list[str]:
    rows = [(table, reason, count) for table, reasons in dropped.items() for reason, count in reasons.items() if count]
    if not rows:
        return []
    lines = ["Left out, with the reason:", "", "| of | reason | count |", "|---|---|---|"]
    return [*lines, *(f"| {table} | {reason} | {count:,} |" for table, reason, count in rows), ""]
