"""Work that asks the process of its command: the same answers in any process, errors, commands that give none."""

from __future__ import annotations

import functools
import os
import threading
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.executor.asking import Question, ask, ask_over, reply_over
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, open_plan
from ndec_builder.core.executor.runner import run_shards
from support import shard_work

TEN = Plan(10, 3, "f" * 64)
HERE = Engine(here=True)


def square(content: Any) -> Any:
    if isinstance(content, str):
        raise ValueError(content)
    return content * content


@pytest.mark.slow
@pytest.mark.parametrize("engine", [HERE, Engine(workers=2)], ids=["here", "two workers"])
def test_the_command_answers_and_a_shard_whose_question_fails_is_set_aside(tmp_path: Path, engine: Engine) -> None:
    folder = open_plan(tmp_path, TEN)
    asked: list[int] = []

    def answer(content: Any) -> Any:
        asked.append(os.getpid())
        return square(content)

    work = functools.partial(shard_work.asking, folder)
    with pytest.raises(GapsError, match=r"tries: 1\. .*ValueError: nonsense"):
        run_shards(folder, TEN, work, engine, answer=answer)
    (folder / "fixed").touch()
    run_shards(folder, TEN, work, engine, answer=answer)
    text = " ".join((folder / f"{shard.name}.txt").read_text() for shard in TEN.shards)
    assert text == " ".join(str(item * item) for item in range(10))
    assert asked == [os.getpid()] * (10 + 3)  # three tries to answer nonsense


def test_an_error_that_a_person_must_mend_stops_the_run(tmp_path: Path) -> None:
    def refuse(content: Any) -> Any:
        raise UsageError("no such model")

    folder = open_plan(tmp_path, TEN)
    with pytest.raises(NdecError, match="no such model"):
        run_shards(folder, TEN, functools.partial(shard_work.asking, folder), HERE, answer=refuse)


def test_a_command_that_gives_no_answer_is_named_as_the_fault(tmp_path: Path) -> None:
    folder = open_plan(tmp_path, TEN)
    with pytest.raises(NdecError, match="was given no answer: a fault of ndec"):
        run_shards(folder, TEN, functools.partial(shard_work.asking, folder), HERE)
    with pytest.raises(NdecError, match="was given no answer"):
        ask("anything")


def test_errors_and_arrays_cross_the_pipe() -> None:
    mine, theirs = Pipe()

    def serve() -> None:
        for _ in range(2):
            question = mine.recv()
            assert isinstance(question, Question)
            reply_over(mine, square, question)

    thread = threading.Thread(target=serve)
    thread.start()
    found = ask_over(theirs)(np.arange(4))
    with pytest.raises(RuntimeError, match="ValueError: bad"):
        ask_over(theirs)("bad")
    thread.join()
    assert found.tolist() == [0, 1, 4, 9]


def test_a_worker_that_died_gets_no_reply() -> None:
    mine, theirs = Pipe()
    theirs.close()
    reply_over(mine, square, Question(3))
    mine.close()
    reply_over(mine, square, Question(3))
