"""Labels that came with a file of pairs: `ndec mine --pairs FILE --labels COLUMN`.

Mining keeps them next to the candidates, those of all files together. The next `ndec annotate` command that changes
tables adds them to the label table, as labels of the annotator `file:NAME`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from ndec_builder.candidates.outside.pair_files import NamedPair
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import UsageError
from ndec_builder.core.rows import as_rows
from ndec_builder.core.schemas import GIVEN_LABELS, conform, pair_id, table_of
from ndec_builder.core.storage import fingerprint, read_table, write_table
from ndec_builder.core.vocabulary import FILE_SOURCE, LABELS
from ndec_builder.core.workspace import Workspace

# what the file said: query_id, reference_id, given_score, and given_label if labels were asked for
GIVEN_FILE = "given-pairs.parquet"
GIVEN_LABELS_FILE = "given-labels.parquet"  # schema GIVEN_LABELS


def understood(pairs: list[NamedPair], config: MineConfig) -> list[NamedPair]:
    """The pairs with ndec's labels in place of the words of the file.

    Raises UsageError for a word that is neither a label nor in `config.label_map`.
    """
    meanings = {label: label for label in LABELS} | _label_map(config)
    unknown = Counter(pair.label for pair in pairs if pair.label is not None and pair.label not in meanings)
    if unknown:
        seen = ", ".join(f"{word!r} ({count} ×)" for word, count in unknown.most_common(8))
        seen += f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        raise UsageError(
            f"{config.pairs}: the column {config.labels!r} has words that are no labels: {seen}. Labels are "
            f"{', '.join(LABELS)}; say what other words mean, for instance --label-map {unknown.most_common(1)[0][0]}="
            "edited_copy, or with nothing after the = that they are no label"
        )
    return [replace(pair, label=meanings[pair.label] or None) if pair.label is not None else pair for pair in pairs]


def _label_map(config: MineConfig) -> dict[str, str]:
    """Word of the file → label of ndec, or an empty text for no label."""
    found: dict[str, str] = {}
    for entry in config.label_map:
        word, equals, label = entry.rpartition("=")
        if not equals or not word or label not in ("", *LABELS):
            raise UsageError(
                f"label_map is {entry!r}; expected WORD=LABEL, where LABEL is {', '.join(LABELS)} or empty"
            )
        if found.setdefault(word, label) != label:
            raise UsageError(f"label_map gives {word!r} two meanings, {found[word]!r} and {label!r}")
    return found


def labels_mark(config: MineConfig) -> dict[str, str]:
    """How labels are read, for the fingerprint of mining; nothing without labels."""
    given = [config.labels, sorted(config.label_map), _annotator(config)]
    return {"labels": fingerprint(given)} if config.labels else {}


def _annotator(config: MineConfig) -> str:
    return FILE_SOURCE + (config.label_source or Path(config.pairs or "").name)


def refuse_second_name(config: MineConfig, workspace: Workspace, given: pa.Table) -> None:
    """Refuse a file that repeats the labels of another file or of an annotator: they would look like two who agree.

    Repeats: they label some pairs alike and none differently, and one of them has no label that the other lacks. Raises
    UsageError, except with an explicit `label_source`. Other shared pairs are only reported, and so are annotators who
    agree with a file that counts already. `given`: see GIVEN_FILE.
    """
    annotator = _annotator(config)
    rows = zip(*given.select(["query_id", "reference_id", "given_label"]).to_pydict().values(), strict=True)
    new = {pair_id(config.split, query, reference): label for query, reference, label in rows if label is not None}
    others = _labels_by_annotator(workspace, config.split)
    counted = others.pop(annotator, None) is not None  # people may have double-checked its pairs since
    for name, known in sorted(others.items()):
        shared = new.keys() & known.keys()
        differ = sum(new[pair] != known[pair] for pair in shared)
        if not shared:
            continue
        said = f"{config.pairs}: {number_of(len(shared), 'of its pairs has a label', 'of its pairs have a label')} of "
        said += f"{name} too, {differ} of them a different one"
        repeats = not differ and len(shared) in (len(new), len(known)) and not config.label_source
        if repeats and (name.startswith(FILE_SOURCE) or not counted):
            same = f"If these are the labels that {name} gave here, leave out --labels: they count already"
            if name.startswith(FILE_SOURCE):
                same = "If it is another copy or version of that file, use --label-source "
                same += f"{name.removeprefix(FILE_SOURCE)}, so that nobody counts twice"
            raise UsageError(
                f"{said}. {same}. If somebody else gave these labels, use --label-source with that person's name"
            )
        say(f"{said}; {annotator} and {name} count as two annotators")


def _labels_by_annotator(workspace: Workspace, split: str) -> dict[str, dict[str, str]]:
    """Annotator → pair_id → newest label: those of earlier files, and those that people gave in Label Studio."""
    found: dict[str, dict[str, str]] = {}
    if (path := workspace.candidates(split) / GIVEN_LABELS_FILE).is_file():
        for row in as_rows(read_table(path)):
            found.setdefault(row["annotator"], {})[row["pair_id"]] = row["label"]
    if (path := workspace.annotation(split) / "labels.parquet").is_file():
        table = read_table(path, ["annotator", "pair_id", "label", "is_gold"])
        for annotator, pair, label, is_gold in zip(*table.to_pydict().values(), strict=True):
            if not annotator.startswith(FILE_SOURCE) and not is_gold:
                found.setdefault(annotator, {})[pair] = label
    return found


def remember_given(config: MineConfig, directory: Path, table: pa.Table) -> None:
    """Add the labels of this file to GIVEN_LABELS_FILE and say how many. `table`: the candidates.

    The labels of a pair and a source replace earlier ones; labels of other pairs and sources stay. A duplicate of its
    reference gets no label, because nobody labels these pairs.
    """
    if not config.labels:
        return
    path, annotator = directory / GIVEN_LABELS_FILE, _annotator(config)
    columns = read_table(directory / GIVEN_FILE).to_pydict()
    labels = {
        key[:2]: key[2]
        for key in zip(columns["query_id"], columns["reference_id"], columns["given_label"], strict=True)
        if key[2] is not None
    }
    known = as_rows(read_table(path)) if path.is_file() else []
    before = {(row["annotator"], row["pair_id"]): row for row in known}
    now, copies, given_at = {}, Counter[str](), datetime.fromtimestamp(_changed(config), UTC)
    for row in table.select(["pair_id", "query_id", "reference_id", "duplicate_of"]).to_pylist():
        if (label := labels.get((row["query_id"], row["reference_id"]))) is None:
            continue
        if row.pop("duplicate_of") is not None:
            copies[label] += 1
        else:
            now[annotator, row["pair_id"]] = row | {"label": label, "annotator": annotator, "given_at": given_at}
    rows = sorted((before | now).items())
    write_table(path, conform(table_of(GIVEN_LABELS, [row for _, row in rows]), GIVEN_LABELS))
    _report(config, annotator, before, now, copies)


def _changed(config: MineConfig) -> float:
    assert config.pairs is not None
    return config.pairs.stat().st_mtime


def _report(
    config: MineConfig,
    annotator: str,
    before: dict[tuple[str, str], dict[str, object]],
    now: dict[tuple[str, str], dict[str, object]],
    copies: Counter[str],
) -> None:
    counts = Counter(str(row["label"]) for row in now.values())
    kinds = ", ".join(f"{counts[label]} {label}" for label in LABELS)
    say(
        f"{config.pairs}: {number_of(len(now), 'label')} ({kinds}), recorded as given by {annotator}; the next "
        f"`ndec annotate resolve --split {config.split}` or push counts them"
    )
    if copies:
        kinds = ", ".join(f"{count} {label}" for label, count in sorted(copies.items()))
        say(
            f"{number_of(copies.total(), 'label is', 'labels are')} not used ({kinds}): the pairs are duplicates of "
            "their reference, which nobody labels"
        )
    if changed := sum(key in before and before[key]["label"] != row["label"] for key, row in now.items()):
        say(f"{number_of(changed, 'label differs', 'labels differ')} from the last file of {annotator} and replace it")
    if gone := sum(source == annotator and (source, pair) not in now for source, pair in before):
        say(
            f"{number_of(gone, 'label')} of {annotator} from an earlier file, not in this one, still "
            f"{'counts' if gone == 1 else 'count'}: `ndec annotate send-back {annotator} --why TEXT` withdraws all "
            "labels of a source, and --label-source gives another file a name of its own"
        )


def given_labels(directory: Path) -> pa.Table:
    """The labels of all files of a split (schema GIVEN_LABELS), by annotator and pair_id; empty if there is none."""
    path = directory / GIVEN_LABELS_FILE
    return conform(read_table(path), GIVEN_LABELS) if path.is_file() else GIVEN_LABELS.empty_table()
