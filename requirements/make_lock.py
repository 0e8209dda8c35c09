"""Write requirements/lock.txt: every package of the environment of the published figures, its version and its sha256.

    python requirements/make_lock.py

pip resolves the project with all its extras under requirements/constraints.txt, again and without installing anything;
what it would take is written down. The hashes are those of the files for this platform and Python, named in the first
line. No address is written: `pip install --require-hashes -r requirements/lock.txt` takes the files from wherever pip
is told to look.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

HERE = Path(__file__).parent
EXTRAS = "cpu,annotate,cluster,dev"


def resolve(folder: Path) -> list[dict[str, Any]]:
    """pip's own report of what it would install."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--report", str(report), "-c", str(HERE / "constraints.txt"), f"{HERE.parent}[{EXTRAS}]"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"pip could not resolve the project:\n{done.stderr[-2000:]}")
    found: list[dict[str, Any]] = json.loads(report.read_text("utf-8"))["install"]
    return found


def sha256_of(entry: dict[str, Any]) -> str:
    """From the report, else from the file itself when it lies on this machine. Empty for what is no archive."""
    info = entry["download_info"]
    hashes: dict[str, str] = info.get("archive_info", {}).get("hashes", {})
    if "sha256" in hashes:
        return hashes["sha256"]
    address = urlsplit(info["url"])
    path = Path(unquote(address.path))
    if address.scheme == "file" and path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return ""


def lock() -> str:
    lines, without = [], []
    with tempfile.TemporaryDirectory() as name:
        entries = resolve(Path(name))
    for entry in sorted(entries, key=lambda entry: entry["metadata"]["name"].lower()):
        package, version = entry["metadata"]["name"], entry["metadata"]["version"]
        if package == "ndec-builder":
            continue
        digest = sha256_of(entry)
        if not digest:
            without.append(package)
            continue
        lines.append(f"{package}=={version} \\\n    --hash=sha256:{digest}")
    if without:
        raise SystemExit(f"pip gave no sha256 of {', '.join(without)}")
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return f"# {len(lines)} packages for {where}; made by requirements/make_lock.py\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    (HERE / "lock.txt").write_text(lock(), "utf-8")
    print(HERE / "lock.txt")
