"""Questions of a shard's work to the process of the command, which holds what every worker would have to load.

The command answers in threads, one for each worker that waits. A task on a cluster cannot ask.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from ndec_builder.core.errors import NdecError

Answerer = Callable[[Any], Any]  # may be called in several threads at once


@dataclass(frozen=True)
class Question:
    """What a worker process sends while it works on a shard."""

    content: Any


@dataclass(frozen=True)
class Reply:
    """The answer, or the error that computing it raised."""

    value: Any = None
    error: Exception | None = None


def nobody(content: Any) -> Any:
    """The answer of a command that gave none to `run_shards`."""
    raise NdecError("the work of a shard asks the process of its command, which was given no answer: a fault of ndec")


_answer: Answerer = nobody


@contextlib.contextmanager
def answering(answer: Answerer) -> Iterator[None]:
    """While it is open, `ask` calls this function."""
    global _answer
    before, _answer = _answer, answer
    try:
        yield
    finally:
        _answer = before


def ask(content: Any) -> Any:
    """The answer of the command's process. Raises what computing it raised."""
    return _answer(content)


def ask_over(connection: Connection) -> Answerer:
    """For a worker process: asks at the other end of the connection and waits."""

    def asked(content: Any) -> Any:
        try:
            connection.send(Question(content))
            reply: Reply = connection.recv()
        except (EOFError, OSError):
            os._exit(1)  # the command has ended or stops its workers
        if reply.error is not None:
            raise reply.error
        return reply.value

    return asked


def reply_over(connection: Connection, answer: Answerer, question: Question) -> None:
    """For the command: computes the answer and sends it; a worker that has died meanwhile gets none."""
    try:
        reply = Reply(answer(question.content))
    except NdecError as error:
        reply = Reply(error=error)
    except Exception as error:  # an error of a library may not be picklable
        reply = Reply(error=RuntimeError(f"{type(error).__name__}: {error}"))
    with contextlib.suppress(OSError):
        connection.send(reply)
