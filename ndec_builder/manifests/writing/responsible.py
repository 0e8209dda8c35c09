"""What croissant.json says about a dataset apart from its tables: web page, date, keywords, and the Responsible-AI
fields (Croissant's RAI vocabulary 1.0, and `prov` as Croissant 1.1 recommends).

Everything comes from manifest.json: from the lineage, the counts, and `[card]` of ndec.toml. What neither says is left
out, and `ndec validate` lists it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ndec_builder.annotation.decisions.agreement import agreement_texts
from ndec_builder.annotation.decisions.audit_text import published_bound
from ndec_builder.core.vocabulary import FILE_SOURCE

RAI_CONFORMS_TO = "http://mlcommons.org/croissant/RAI/1.0"
KEYWORDS = ("image copy detection", "hard negatives", "near-duplicate", "benchmark")
_ORACLE = "oracle"
# setting of [card] → the property that it fills; Croissant or the NeurIPS datasets track asks for each
_EXPECTED = {
    "url": "url",
    "date_published": "datePublished",
    "collection": "rai:dataCollection",
    "derived_from": "prov:wasDerivedFrom",
    "limitations": "rai:dataLimitations",
    "biases": "rai:dataBiases",
    "social_impact": "rai:dataSocialImpact",
    "personal_information": "rai:personalSensitiveInformation",
    "synthetic": "rai:hasSyntheticData",
}


_HEADINGS = {
    "url": "Web page",
    "date_published": "Published",
    "collection": "Collection",
    "collection_type": "Kind of collection",
    "derived_from": "Comes from",
    "annotators": "Annotators",
    "use_cases": "Intended uses",
    "limitations": "Limitations",
    "biases": "Biases",
    "social_impact": "Social impact",
    "personal_information": "Personal and sensitive information",
    "synthetic": "Source pictures are synthetic",
    "maintenance": "Maintenance",
}
STATED = ("url", "datePublished", "keywords")  # the rest of these properties have a prefix


def stated_facts(info: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of croissant.json that state these facts, by their JSON-LD name; unknown ones are absent."""
    said = info.get("card", {})
    values: dict[str, Any] = {
        "url": said.get("url"),
        "datePublished": said.get("date_published"),
        "keywords": [*KEYWORDS, *(word for word in said.get("keywords", ()) if word not in KEYWORDS)],
        "rai:dataCollection": said.get("collection"),
        "rai:dataCollectionType": list(said.get("collection_type", ())),
        "rai:dataPreprocessingProtocol": _preprocessing(info),
        "rai:dataAnnotationProtocol": _protocol(info),
        "rai:dataAnnotationPlatform": ["Label Studio"] if _people(info) else [],
        "rai:dataAnnotationAnalysis": _analysis(info),
        "rai:annotationsPerItem": _per_item(info),
        "rai:annotatorDemographics": [said["annotators"]] if said.get("annotators") else [],
        "rai:machineAnnotationTools": _tools(info),
        "rai:dataBiases": [*_listed(said, "biases"), *_biases(info)],
        "rai:dataLimitations": [*_listed(said, "limitations"), *_limitations(info)],
        "rai:dataUseCases": [*_listed(said, "use_cases"), *_uses(info)],
        "rai:dataSocialImpact": said.get("social_impact"),
        "rai:personalSensitiveInformation": _listed(said, "personal_information"),
        "rai:hasSyntheticData": _synthetic(info),
        "rai:dataReleaseMaintenancePlan": _listed(said, "maintenance"),
        "prov:wasDerivedFrom": _origins(info),
        "prov:wasGeneratedBy": _activities(info),
    }
    return {name: value for name, value in values.items() if value not in (None, "", [])}


def card_facts(info: Mapping[str, Any]) -> list[str]:
    """The section of the dataset card about what `[card]` states; no lines if it states nothing."""
    said = info.get("card", {})
    texts = {name: ", ".join(value) if isinstance(value, list) else value for name, value in said.items()}
    stated = [f"* {heading}: {escaped(texts[name])}" for name, heading in _HEADINGS.items() if texts.get(name)]
    return ["## About the data", "", *stated, ""] if stated else []


def escaped(text: str) -> str:
    """Untrusted text for a Markdown table: no markup, no HTML, one cell, one line."""
    safe = "".join("\\" + char if char in "\\`*_[]|#" else char for char in " ".join(text.split()))
    return safe.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def missing(info: Mapping[str, Any]) -> list[str]:
    """Names of what a reader expects and nobody stated: settings of [card], and authors."""
    if "card" not in info:  # exported by a version without [card]
        return []
    said, known = info["card"], stated_facts(info)
    own = {"limitations", "biases"}  # the lineage adds to these, but it does not know the pictures
    names = [name for name, key in _EXPECTED.items() if not said.get(name) and (key not in known or name in own)]
    return [f"[card] {name} ({_EXPECTED[name]})" for name in names] + (
        [] if info["authors"] else ["--authors (creator)"]
    )


def _listed(said: Mapping[str, Any], name: str) -> list[str]:
    return [said[name]] if said.get(name) else []


def _people(info: Mapping[str, Any]) -> list[str]:
    """Names of the annotators, without the one that answers from the known truth, and without files of pairs."""
    return [name for name in info["annotators"] if name != _ORACLE and not name.startswith(FILE_SOURCE)]


def other_choice(mining: Mapping[str, Any]) -> str:
    """How the mined pairs were chosen, if not by the score of the descriptor; else an empty text."""
    if mining.get("pairs_from_a_file"):
        return "that came from a file instead of a search"
    return "that share local features and fit by a homography" if mining.get("pairs_by_local_features") else ""


def _preprocessing(info: Mapping[str, Any]) -> list[str]:
    steps = []
    for split, facts in sorted(info["lineage"].items()):
        mining = facts["mining"]
        count = mining["counts"].get("pairs", 0)
        other = other_choice(mining)
        chosen = f"{count} pairs {other}" if other else f"the {count} most similar pairs by {mining['model']}"
        duplicates = mining["counts"].get("duplicates", 0)
        steps.append(f"Split {split}: {chosen} were selected; {duplicates} duplicates among them were set aside.")
    steps += [
        f"Left out of {table}: {count} ({reason})."
        for table, reasons in sorted(info["dropped"].items())
        for reason, count in sorted(reasons.items())
        if count
    ]
    if again := info["images"].get("encoded_anew"):
        steps.append(f"{again} images were re-encoded when they were packed.")
    return steps


def _protocol(info: Mapping[str, Any]) -> str | None:
    texts = []
    if "simulated" in info["labels_by"]:
        texts.append("Labels that follow from how the images were made; nobody gave them.")
    for split, facts in sorted(info["lineage"].items()):
        rounds: dict[str, tuple[int, set[str]]] = {}
        for row in facts["labels"]:
            if row["annotator"].startswith(FILE_SOURCE):
                continue
            count, names = rounds.get(row["round"], (0, set()))
            rounds[row["round"]] = count + row["count"], names | {row["annotator"]}
        if rounds:
            parts = (f"{name}: {count} labels by {len(names)}" for name, (count, names) in rounds.items())
            texts.append(f"Split {split}, annotation rounds: {', '.join(parts)}.")
        texts += came_with_files(split, facts)
        if facts["bases"]:
            texts.append(
                "Basis of the decisions: "
                + ", ".join(f"{n} {basis}" for basis, n in sorted(facts["bases"].items()))
                + "."
            )
    if not texts:
        return None
    what = "Each pair of a query and a reference is labelled edited_copy, hard_negative, unrelated or unsure."
    return " ".join([what, *texts])


def came_with_files(split: str, facts: Mapping[str, Any]) -> list[str]:
    """One sentence for each file of pairs that labels of a split came with. `facts`: its lineage."""
    rows = [row for row in facts["labels"] if row["annotator"].startswith(FILE_SOURCE)]
    names = sorted({row["annotator"] for row in rows})
    counts = {name: sum(row["count"] for row in rows if row["annotator"] == name) for name in names}
    return [
        f"Split {split}: {count} labels came with {name.removeprefix(FILE_SOURCE)}; nobody gave them with ndec."
        for name, count in counts.items()
    ]


def _per_item(info: Mapping[str, Any]) -> str | None:
    """Number of labels behind each decision, over both splits."""
    counts: dict[int, int] = {}
    for facts in info["lineage"].values():
        for labels, pairs in facts.get("labels_per_decision", {}).items():
            counts[int(labels)] = counts.get(int(labels), 0) + pairs
    return ", ".join(f"{labels} labels: {pairs} pairs" for labels, pairs in sorted(counts.items())) or None


def _analysis(info: Mapping[str, Any]) -> list[str]:
    texts = []
    for split, facts in sorted(info["lineage"].items()):
        agreement = facts["agreement"] or {}
        texts += [f"Split {split}: {text}" for text in agreement_texts(agreement)]
        if (audit := agreement.get("audit")) and (published := published_bound(audit)):
            texts.append(
                f"Split {split}: {audit['audited']} of {audit['kept']} kept hard negatives were re-labelled; at most "
                f"{published[0]:.2%} are copies ({published[1]})."
            )
        if facts["decisions"]:
            texts.append(
                f"Split {split}, decisions: "
                + ", ".join(f"{n} {name}" for name, n in sorted(facts["decisions"].items()))
            )
    return texts


def _tools(info: Mapping[str, Any]) -> list[str]:
    cleared = sum(facts["bases"].get("auto_cleared", 0) for facts in info["lineage"].values())
    return [f"ndec {info['ndec_version']}: {cleared} pairs were decided by a pre-label"] if cleared else []


def _biases(info: Mapping[str, Any]) -> list[str]:
    models = sorted({facts["mining"]["model"] for facts in info["lineage"].values()})
    return [
        f"Hard negatives were selected by their similarity under {model}: detectors related to it meet more of them."
        for model in models
    ]


def _limitations(info: Mapping[str, Any]) -> list[str]:
    texts = []
    if "simulated" in info["labels_by"]:
        texts.append(f"Labels by: {info['labels_by']}.")
    for split, facts in sorted(info["lineage"].items()):
        if (undecided := facts.get("undecided")) and undecided["pairs"]:
            texts.append(f"Split {split}: {undecided['pairs']} candidate pairs are undecided.")
    settings = info["settings"]
    if settings["distractors_drawn"]:
        compared = "is below the mined pairs" if settings["distractors_compared"] else "was not measured"
        texts.append(
            f"{settings['distractors_drawn']} distractors were labelled by nobody; their similarity to the references "
            f"{compared}."
        )
    if bare := info["counts"]["images_without_licence_columns"]:
        texts.append(f"{bare} images come without a licence.")
    return texts


def _uses(info: Mapping[str, Any]) -> list[str]:
    rows = info["counts"]["rows"]
    texts = ["Testing: evaluate image copy detectors on queries and references. Training on these is forbidden."]
    texts = texts if rows["queries"] else []
    if rows["train_basic"] or rows["train_pairs"]:
        texts.append("Training: train_basic, train_pairs and train_pair_images.")
    return texts


def _synthetic(info: Mapping[str, Any]) -> bool | None:
    """Whether pictures were made by a program: edits recorded by ndec, or sources that [card] calls synthetic."""
    said = info.get("card", {}).get("synthetic")
    if info.get("made_by_edits") or said == "yes":
        return True
    return False if said == "no" else None


def _origins(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = list(info.get("card", {}).get("derived_from", ()))
    names += [f"{package['name']} {package['version']}" for package in (info.get("corpus") or {}).get("packages", [])]
    return [{"@type": "prov:Entity", "prov:label": name} for name in names]


def _activities(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Mining, editing, annotation and packaging, each with who or what did it."""
    software = f"ndec {info['ndec_version']}"
    found = [
        (f"Mining of split {split}", f"Pairs selected by similarity under {facts['mining']['model']}.", software)
        for split, facts in sorted(info["lineage"].items())
    ]
    if edited := info.get("made_by_edits"):
        found.append(("Editing", f"{edited} queries were made from other images by recorded edits.", software))
    if people := _people(info):
        found.append(("Annotation", f"{len(people)} annotators labelled pairs in Label Studio.", "annotators"))
    found.append(("Packaging", "Tables, checksums and this description were written.", software))
    return [
        {
            "@type": "prov:Activity",
            "prov:label": label,
            "description": text,
            "prov:wasAttributedTo": {
                "@type": "prov:Agent" if agent == "annotators" else "prov:SoftwareAgent",
                "prov:label": agent,
            },
        }
        for label, text, agent in found
    ]
