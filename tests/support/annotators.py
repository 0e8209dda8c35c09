"""Annotators at full speed: API clients that take the next pair of their project and label it, until told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import requests

LABELS = ("edited_copy", "hard_negative", "unrelated", "unsure")


def label_of(pair_id: str) -> str:
    """What every simulated annotator answers: known from the pair's number, so that a lost or mixed-up label shows."""
    return LABELS[int(pair_id, 16) % 4]


@dataclass
class Annotator:
    """One person's client. `handed`: pairs that Label Studio gave out; `saved`: those whose label it confirmed."""

    url: Callable[[], str]
    token: str
    project: Callable[[], int | None]
    stop: threading.Event
    patient: bool = False  # goes on after errors: the server is being killed
    pause: float = 0.0  # seconds between two labels
    handed: list[str] = field(default_factory=list)
    saved: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def work(self) -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Token {self.token}"
            while not self.stop.is_set():
                begun = time.perf_counter()
                try:
                    if not self._one(session):
                        if not self.patient:
                            return
                        time.sleep(0.3)
                except requests.RequestException as error:
                    self.errors.append(type(error).__name__)
                    if not self.patient:
                        raise
                    time.sleep(0.3)
                else:
                    self.seconds.append(time.perf_counter() - begun)
                time.sleep(self.pause)

    def _one(self, session: requests.Session) -> bool:
        """Label one pair; False when there is none."""
        project = self.project()
        if project is None:
            return False
        answer = session.get(f"{self.url()}/api/projects/{project}/next", timeout=60)
        if answer.status_code != 200:
            return False
        task = answer.json()
        pair_id = task["data"]["pair_id"]
        self.handed.append(pair_id)
        result = {"from_name": "verdict", "to_name": "query", "type": "choices"}
        result["value"] = {"choices": [label_of(pair_id)]}  # type: ignore[assignment]
        body = {"result": [result], "lead_time": 0.1}
        saved = session.post(f"{self.url()}/api/tasks/{task['id']}/annotations/", json=body, timeout=60)
        if saved.status_code == 201:
            self.saved[pair_id] = label_of(pair_id)
        else:
            self.errors.append(f"HTTP {saved.status_code}")
        return True
