"""`ndec annotate pull`: append new and changed labels of Label Studio to labels.parquet."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ndec_builder.annotation.label_studio import server_snapshot
from ndec_builder.annotation.label_studio.accounts import labels_of_others, read_accounts
from ndec_builder.annotation.label_studio.connection import connect_label_studio
from ndec_builder.annotation.label_studio.credentials import closed_text
from ndec_builder.annotation.label_studio.label_sync import pull_labels
from ndec_builder.annotation.records.given_labels import take_given_labels
from ndec_builder.annotation.records.ledger import APPEND_ONLY, last_entry
from ndec_builder.annotation.records.missing_images import missing_line
from ndec_builder.annotation.records.skips import skips_by_annotator, waiting_skips
from ndec_builder.annotation.records.table_store import memory_returned
from ndec_builder.annotation.settings import PullConfig
from ndec_builder.annotation.stopping.progress import certificate_line
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.web.picture_keys import add_keys
from ndec_builder.core.console import number_of, say
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.storage import sha256_file
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 2


def run(config: PullConfig) -> Path:
    """Append new labels; returns the path of labels.parquet, whose old rows stay as they are.

    Most pulls request only the tasks changed since the newest label of a project (server_snapshot.FullComparisons says
    when all are compared). A changed answer is a new row. A label that was withdrawn by Skip or deleted does not count
    any more: its row stays, and skips.parquet gets a row. Raises NdecError for projects that no longer exist, after
    pulling the others.
    """
    record = RunRecord("annotate pull", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    with locked(directory), memory_returned():
        take_given_labels(AnnotationTables(workspace, config.split))
        tables = AnnotationTables(workspace, config.split, compact=True)
        tables.require_pushed()
        connection = connect_label_studio(workspace, config.url, config.token_file)
        add_keys(tables, connection)
        counts, lost = pull_labels(
            tables, connection, everything=config.everything, accept_deleted=config.accept_deleted
        )
        closed = closed_text(workspace.label_studio)
        accounts = {} if closed else read_accounts(workspace.label_studio)
        before = counts["labels"] - counts["new"] - counts["changed"]
        others = labels_of_others(accounts, tables.label_parts(before))
        chain = {name: entry for name in APPEND_ONLY if (entry := last_entry(directory, name))}
        counts["other_account"] = others.total()
        inputs = {"tasks.parquet": sha256_file(directory / "tasks.parquet")}
        record.write(directory, counts=dict(counts), inputs=inputs, ledger=chain)
    _report_counts(counts, tables)
    if tables.certificate and (line := certificate_line(AnnotationTables(workspace, config.split))):
        say(line)
    if closed:
        say(f"{closed}: not checked whether labels were given under somebody else's account")
    for (annotator, login), number in sorted(others.items()):
        say(
            f"project of {annotator}: {number_of(number, 'label')} given under the account {login} count as labels of "
            f"{annotator}. If somebody else gave them, use `ndec annotate send-back {annotator} --why TEXT`"
        )
    if line := missing_line(workspace):
        say(line)
    if lost:
        raise lost[0]
    return directory / "labels.parquet"


def _report_counts(counts: Counter[str], tables: AnnotationTables) -> None:
    skipped = number_of(counts["skipped"], "pair is", "pairs are")
    say(f"pulled labels: {counts['new']} new, {counts['changed']} changed; {skipped} skipped")
    if tables.skipped and (waiting := waiting_skips(tables.skipped, tables.tasks)):
        names = ", ".join(f"{name} {number}" for name, number in skips_by_annotator(waiting).items())
        say(f"skipped by {names}; the next push of that round gives these pairs to someone else")
    if counts["withdrawn"]:
        say(
            f"{number_of(counts['withdrawn'], 'label was', 'labels were')} withdrawn by Skip or deleted in Label "
            "Studio; the rows stay, and they decide nothing until the pair gets a new label"
        )
    if counts["former"]:
        say(
            f"{number_of(counts['former'], 'label is', 'labels are')} about pictures that were replaced after the task "
            "was made: stored, and not counted; `ndec annotate push` asks again"
        )
    if counts["foreign"]:
        say(f"ignored: {number_of(counts['foreign'], 'task')} in ndec's projects that ndec did not make")
    if counts["unreadable"]:
        say(
            f"{number_of(counts['unreadable'], 'annotation has', 'annotations have')} no known choice; "
            "was the labelling interface changed by hand?"
        )
    if handed := server_snapshot.handed_over(tables.directory):
        say(
            f"moving {number_of(len(handed), 'pair')} to another annotator was interrupted; run that "
            "`leave` or `push` again"
        )
