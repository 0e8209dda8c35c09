"""`ndec annotate check`: verify the append-only tables by their hash chain, and compare them with Label Studio."""

from __future__ import annotations

from pathlib import Path

from ndec_builder.annotation.label_studio.connection import connect_label_studio
from ndec_builder.annotation.label_studio.label_sync import collect_changes
from ndec_builder.annotation.label_tables import of_files
from ndec_builder.annotation.records.given_labels import waiting_text
from ndec_builder.annotation.records.ledger import APPEND_ONLY, chain_problem, last_entry
from ndec_builder.annotation.records.skips import SKIPPED
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.upkeep.settings import CheckConfig
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.locks import locked
from ndec_builder.core.storage import write_json
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 1


def run(config: CheckConfig) -> Path:
    """Write check.json and return its path. Nothing else is written, and nothing is deleted in Label Studio.

    Every row of labels, skips, incidents and set_aside is hashed. If a server is reachable, each label there is
    compared with the stored one. Labels that were given since the last pull are no error. Raises NdecError if a table
    lost or changed rows.
    """
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    with locked(directory):
        problems = [problem for name in APPEND_ONLY if (problem := chain_problem(directory, name))]
        chains = {name: entry for name in APPEND_ONLY if (entry := last_entry(directory, name))}
        for name, entry in chains.items():
            say(f"{name}: {number_of(entry['rows'], 'row')} in {number_of(entry['generation'], 'generation')}")
        if not chains:
            say("no table has a chain yet; the next `ndec annotate pull` starts one")
        for line in waiting_text(AnnotationTables(workspace, config.split)):
            say(line)
        found = None if problems else _compare(config, workspace)
    path = write_json(
        directory / "check.json", {"chains": chains, "problems": problems, "differences_to_label_studio": found}
    )
    if problems:
        raise NdecError("\n".join(problems))
    return path


def _compare(config: CheckConfig, workspace: Workspace) -> dict[str, int] | None:
    """How many labels differ between Label Studio and the tables; None if no server answers."""
    tables = AnnotationTables(workspace, config.split, compact=True)
    tables.require_pushed()
    try:
        connection = connect_label_studio(workspace, config.url, config.token_file)
    except (NdecError, UsageError) as error:
        say(f"not compared with Label Studio: {error}")
        return None
    if elsewhere := sum(of_files(part).num_rows for part in tables.label_parts()):
        say(f"{number_of(elsewhere, 'label')} came with files of pairs; Label Studio does not have them")
    changes = collect_changes(tables, connection, everything=True, accept_deleted=True, repair=False)
    for missing in changes.deleted:
        say(str(missing))
    skips = changes.rows.skips
    found = {
        "not_stored": changes.counts["new"],
        "changed": changes.counts["changed"],
        "skipped": sum(row["kind"] == SKIPPED for row in skips),
        "missing": sum(row["kind"] != SKIPPED for row in skips),
    }
    if not any(found.values()):
        say(f"every label on {connection.url} is stored")
    else:
        say(
            f"{connection.url} and the workspace differ: {number_of(found['not_stored'], 'label')} there "
            "are not stored, "
            f"{found['changed']} were changed there, "
            f"{number_of(found['skipped'], 'pair was', 'pairs were')} skipped, {found['missing']} stored "
            f"labels are missing there; run `ndec annotate pull --all --split {config.split}`"
        )
    return found
