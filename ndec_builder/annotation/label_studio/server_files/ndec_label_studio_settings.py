# mypy: ignore-errors
"""Django settings of the server that ndec starts. Lives on the server's PYTHONPATH, never imported by ndec itself."""

from __future__ import annotations

import gc
import os

import ndec_owner
from core.settings.base import *  # noqa: F403

SENTRY_DSN = ""  # the next import reads it while the settings are half made: without it the server does not start

from core.settings.label_studio import *  # noqa: E402, F403

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405
    DATABASES["default"]["OPTIONS"] = {  # noqa: F405
        "timeout": 30,  # seconds to wait for a lock
        "transaction_mode": "IMMEDIATE",  # take the write lock at once: no deadlock between two writers
        "init_command": os.environ.get("NDEC_SQLITE", "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"),
    }
gc.set_threshold(20_000, 20, 20)  # 300 migrations keep what they make: looking through it took a third of their time
ALLOWED_HOSTS = os.environ.get("NDEC_HOSTS", "*").split()
MIDDLEWARE.append("ndec_one_key.OneKeyPerPair")  # noqa: F405
if "NDEC_OWNER" in os.environ:
    ndec_owner.end_with_owner()
    gc.disable()  # while Django loads: new modules are no garbage; the middleware enables it
