"""Answers tasks with the known truth of the demo through Label Studio's API, under the annotator's own account."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import requests

from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.accounts import log_in, read_accounts
from ndec_builder.annotation.label_studio.connection import NO_RETRY, TIMEOUT_SECONDS, Connection, explain_errors
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.console import track
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import LABELS
from ndec_builder.core.workspace import Workspace


def answer_all(
    workspace: Workspace,
    split: str,
    connection: Connection,
    known_label: Callable[[str, str], str],
    annotator: str = "oracle",
    round: str = "first",
    threads: int = 4,
) -> int:
    """Answer every unanswered pair in the annotator's project with `known_label(query_id, reference_id)`.

    Returns how many were answered. The annotator logs in with the account that `push` made; on a server without such
    accounts the answers are sent with the token of `connection`.
    Raises NdecError for an annotator without tasks or project in this round, and for a label that is not in LABELS.
    """
    tables = AnnotationTables(workspace, split)
    rows = [row for row in tables.require_tasks().to_pylist() if row["round"] == round]
    names = sorted({row["annotator"] for row in rows})
    if annotator not in names:
        raise NdecError(
            f"annotator {annotator!r} has no pairs in the round {round!r} of {split!r}; annotators with pairs: "
            f"{', '.join(names) or 'none'}. Assign some: `ndec annotate push --split {split} --annotator {annotator}`"
        )
    gold = {pair: "hard_negative" if label == "no_copy" else label for pair, label in tables.gold_truth().items()}
    pairs = {row["pair_id"]: row for row in rows if row["annotator"] == annotator}
    client = connection.client()
    with explain_errors(connection, "looking for unanswered pairs"):
        project = projects.find_projects(client).get(projects.project_key(workspace, split, round, annotator))
        if project is None:
            title = projects.project_title(workspace, split, round, annotator)
            raise projects.deleted_project_error(title, connection.url, split, round)
        tasks = client.tasks.list(project=project.id, page_size=1000, include="id,data,total_annotations")
        open_tasks = [(t.id, pairs[t.data["pair_id"]]) for t in tasks if not t.total_annotations]

    account = read_accounts(workspace.label_studio).get(annotator) if connection.secrets else None
    browser = log_in(connection.url, account) if account else None

    def answer(item: tuple[int, dict[str, str]]) -> None:
        task, row = item
        label = gold.get(row["pair_id"]) or known_label(row["query_id"], row["reference_id"])
        if label not in LABELS:
            raise NdecError(
                f"known_label gave {label!r} for {row['query_id']} × {row['reference_id']}, not one of {LABELS}"
            )
        result = [{"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": [label]}}]
        if browser is None:
            with explain_errors(connection, "sending an answer"):
                client.annotations.create(id=task, result=result, lead_time=0.0, request_options=NO_RETRY)
            return
        path = f"{connection.url}/api/tasks/{task}/annotations/"
        try:
            sent = browser.post(path, json={"result": result, "lead_time": 0.0}, timeout=TIMEOUT_SECONDS)
            sent.raise_for_status()
        except requests.RequestException as error:
            raise NdecError(
                f"Label Studio at {connection.url} did not take an answer of {annotator} ({type(error).__name__}); "
                "nothing is lost: run the same command again"
            ) from None

    with ThreadPoolExecutor(threads) as pool:
        for _ in track(pool.map(answer, open_tasks), len(open_tasks), f"{annotator} answers"):
            pass
    return len(open_tasks)
