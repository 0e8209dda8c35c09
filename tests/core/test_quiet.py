from __future__ import annotations

import threading
import warnings

import pytest

from ndec_builder.core.pictures.quiet import without_pillow_warnings


def _warn(module: str) -> None:
    warnings.warn_explicit("odd picture", UserWarning, "file.py", 1, module=module, registry={})


def test_only_pillows_warnings_are_hidden_and_only_meanwhile() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        with without_pillow_warnings(), without_pillow_warnings():
            _warn("PIL.TiffImagePlugin")
            with pytest.raises(UserWarning):
                _warn("somebody.else")
        assert list(warnings.filters) == before
        with pytest.raises(UserWarning):
            _warn("PIL.TiffImagePlugin")


def test_a_thread_that_leaves_late_changes_no_filter_of_another() -> None:
    """Two threads that overlap, as A enters, B enters, A leaves, B leaves: `catch_warnings` left B's filters behind."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        inside, leave = threading.Event(), threading.Event()

        def late() -> None:
            with without_pillow_warnings():
                inside.set()
                leave.wait(60)
                _warn("PIL.Image")  # still hidden

        thread = threading.Thread(target=late)
        with without_pillow_warnings():
            thread.start()
            inside.wait(60)
        leave.set()
        thread.join()
        assert list(warnings.filters) == before
