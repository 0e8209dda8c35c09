"""Break each security check in a copy of the code, and see its test fail: labelling servers, and references.

    python tests/faults/guards.py [--only NAME] [--out tests/faults/results/guards.md]

A test of a guard proves something only if it fails without the guard. Each row below breaks one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("ndec_builder", "annotation", "tests", "pyproject.toml")
WEB, STUDIO = "ndec_builder/annotation/web", "ndec_builder/annotation/label_studio"
IMAGES, SERVERS, SERVER = (f"tests/{name}.py" for name in ("annotation/test_image_server", "faults/test_servers",
                                                           "annotation/test_server"))  # fmt: skip
ACCESS, REFERENCES, BOUNDED = ("ndec_builder/core/access", "tests/sources/test_references.py",
                               "tests/sources/test_bounded_reads.py")  # fmt: skip


@dataclass(frozen=True)
class Guard:
    """A check, how it is broken, and the test that must then fail."""

    name: str
    path: str
    intact: str
    broken: str
    test: str


GUARDS = [
    Guard("other host names are refused", f"{WEB}/image_server.py", "self.allowed is not None and host not in",
          "False and host not in", f"{IMAGES}::test_other_host_names_are_refused"),
    Guard("a wrong key is refused", f"{WEB}/image_server.py", "if not hmac.compare_digest(",
          "if None is hmac.compare_digest(", f"{IMAGES}::test_pictures_need_the_key_on_every_host"),
    Guard("pictures without a key are refused", f"{WEB}/image_server.py", "and not self.takes_keyless()", "and False",
          f"{IMAGES}::test_pictures_need_the_key_on_every_host"),
    Guard("… also on a public host with old tasks", f"{WEB}/image_server.py", "is_loopback(host) and has_keyless",
          "has_keyless", f"{IMAGES}::test_tasks_without_the_key_are_shown_until_they_have_it"),
    Guard("… and after the old tasks got the key", f"{WEB}/picture_keys.py", "not _marker(workspace, split).is_file()",
          "True", f"{IMAGES}::test_tasks_without_the_key_are_shown_until_they_have_it"),
    Guard("keys are compared in constant time", f"{WEB}/image_server.py",
          'not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self.key.encode())', "given != self.key",
          f"{SERVERS}::test_the_key_is_compared_by_compare_digest_and_by_nothing_else"),
    Guard("only pages of Label Studio read pictures", f"{WEB}/image_server.py",
          "if self.origins is None or origin in self.origins:", "if True:",
          f"{IMAGES}::test_only_pages_of_label_studio_read_pictures_on_loopback"),
    Guard("example pictures have plain names", f"{WEB}/guideline.py", 'if not re.fullmatch(r"[a-z0-9-]+\\.jpg", name):',
          "if False:", f"{IMAGES}::test_everything_else_is_refused"),
    Guard("the same, read from the raw response", f"{WEB}/guideline.py",
          'if not re.fullmatch(r"[a-z0-9-]+\\.jpg", name):', "if False:",
          f"{SERVERS}::test_no_path_escapes_the_image_server"),
    Guard("a request ends in time", f"{WEB}/image_server.py",
          "self.rfile = io.BufferedReader(_TimedReader(self.connection, self.request_seconds))",
          "self.connection.settimeout(self.request_seconds)",
          f"{IMAGES}::test_a_trickle_of_bytes_does_not_keep_a_connection_open"),
    Guard("a fixed number of threads", f"{WEB}/image_server.py", "_THREADS = 16", "_THREADS = 64",
          f"{IMAGES}::test_silent_connections_take_a_fixed_number_of_threads_and_time_out"),
    Guard("HEAD reads no picture", f"{WEB}/image_server.py", 'if self.command == "HEAD":  # answered',
          "if False:  # answered", f"{IMAGES}::test_head_does_not_read_the_picture"),
    Guard("ambient variables do not reach the server", f"{STUDIO}/server.py",
          'if name.startswith("LC_") or name in _PASSED_ON', "if name",
          f"{SERVER}::test_only_harmless_variables_reach_the_server"),
    Guard("Label Studio's switches are set", f"{STUDIO}/server.py", '"SSRF_PROTECTION_ENABLED": "true",', "",
          f"{SERVER}::test_only_harmless_variables_reach_the_server"),
    Guard("new private files have mode 0600", f"{STUDIO}/credentials.py", "mode=0o600", "mode=0o644",
          f"{SERVER}::test_new_secrets_are_private_from_the_start"),
    Guard("folders of older versions are made private", f"{STUDIO}/credentials.py", "path.chmod(found & 0o700)", "pass",
          f"{SERVER}::test_folders_that_others_could_read_are_made_private"),
    Guard("no password in the database setting", f"{STUDIO}/database.py", "if setting and urlsplit(setting).password:",
          "if False:", "tests/annotation/test_database.py::test_invalid_addresses"),
    Guard("no password in a repr", f"{STUDIO}/database.py", 'password: str = field(default="", repr=False)',
          'password: str = ""', "tests/annotation/test_database.py"),
    Guard("no token and no key in a repr", f"{STUDIO}/connection.py", "image_url: str = field(repr=False)",
          "image_url: str", f"{SERVERS}::test_a_connection_shows_no_secret"),
    Guard("one server per data folder", f"{STUDIO}/data_lock.py", "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
          "pass", "tests/annotation/test_data_lock.py"),
    Guard("the lock outlives the command", f"{STUDIO}/server.py", "(self._lock.fileno(), watched)", "(watched,)",
          "tests/annotation/test_data_lock.py"),
    Guard("a holder elsewhere is believed", f"{STUDIO}/data_lock.py", "if holder and is_elsewhere(holder):",
          "if False:", "tests/annotation/test_data_lock.py"),
    Guard("copies of a database are not replaced", f"{STUDIO}/database.py", ", default=0) + 1", ", default=0) * 0 + 1",
          "tests/annotation/test_backups.py"),
    Guard("no start without a copy", f"{STUDIO}/database.py", "if program is None:", "if program is None and False:",
          "tests/annotation/test_backups.py"),
    Guard("labels under another account are reported", f"{STUDIO}/accounts.py",
          'if (login or "").lower() != account["user"]:', "if False:", "tests/annotation/test_accounts.py"),
    Guard("the server ends with its ndec", f"{STUDIO}/server_files/ndec_owner.py",
          "os.kill(os.getpid(), signal.SIGTERM)", "pass", f"{SERVER}::test_the_server_ends_when_ndec_is_killed"),
    Guard("no chained addresses in a table", f"{ACCESS}/references.py", "if is_chained(text):", "if False:",
          f"{REFERENCES}::test_a_table_cannot_name"),
    Guard("files inside the source's folder only", f"{ACCESS}/references.py", "if not inside:", "if False:",
          f"{REFERENCES}::test_a_table_cannot_name"),
    Guard("regular files only", f"{ACCESS}/references.py", '"" if stat.S_ISREG(mode) else NOT_PLAIN', '""',
          f"{REFERENCES}::test_a_table_cannot_name"),
    Guard("known schemes only", f"{ACCESS}/references.py", "if scheme.lower() not in SCHEMES:", "if False:",
          f"{REFERENCES}::test_a_table_cannot_name"),
    Guard("no password in an address", f"{ACCESS}/references.py",
          "if parts.username is not None or parts.password is not None:", "if False:",
          f"{REFERENCES}::test_a_table_cannot_name"),
    Guard("allowed hosts only", f"{ACCESS}/references.py", "if entry is None:", "if False:",
          f"{REFERENCES}::test_a_table_cannot_name"),
    Guard("an allowed host has a public address", f"{ACCESS}/references.py",
          'return private_problem(host, port or (443 if scheme == "https" else 80))', 'return ""',
          f"{REFERENCES}::test_an_allowed_host_with_a_private_address_is_refused_before_anything_is_read"),
    Guard("a redirect is checked", f"{ACCESS}/hosts.py", "if permits(scheme, host, connection.port):", "if True:",
          f"{REFERENCES}::test_a_redirect_leads_to_no_other_private_host"),
    Guard("the address of the connection is checked", f"{ACCESS}/hosts.py", "if not is_public(peer):", "if False:",
          f"{REFERENCES}::test_a_name_that_changes_its_address_gets_no_request"),
    Guard("multicast is not public", f"{ACCESS}/hosts.py", " and not ip.is_multicast", "",
          "tests/sources/test_allowed_hosts.py::test_public_addresses"),
    Guard("no netrc and no proxy", f"{ACCESS}/hosts.py", "made.trust_env = False", "made.trust_env = True", REFERENCES),
    Guard("a size cap for one image", f"{ACCESS}/reading.py", "if size > MAX_BYTES:", "if False:", BOUNDED),
    Guard("a deadline for one image", f"{ACCESS}/reading.py", "thread.join(SECONDS)", "thread.join()", BOUNDED),
    Guard("images_root is inside the dataset", "ndec_builder/manifests/read.py",
          'if manifest.form != "elsewhere" and info.get("images_root") != ".":', "if False:",
          "tests/manifests/test_fetch.py::test_images_root_outside_of_the_dataset_is_refused"),
    Guard("credentials are taken out", "ndec_builder/core/addresses.py",
          'return _URL.sub(lambda found: _clean(found[0]), text) if "://" in text else text', "return text",
          "tests/manifests/test_credentials.py"),
]  # fmt: skip


def passes(folder: Path, test: str) -> bool:
    """Whether a test passes in a copy of the code; tests that need the real Label Studio are left out."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test, "-k"]
    command += ["not annotators_label_under and not killed_sign_up and not real_postgresql"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{test} could not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def broken(guard: Guard, folder: Path) -> None:
    path = folder / guard.path
    text = path.read_text("utf-8")
    if text.count(guard.intact) != 1:
        raise SystemExit(
            f"{guard.name}: {guard.intact!r} is {text.count(guard.intact)} times in {guard.path}, not once"
        )
    path.write_text(text.replace(guard.intact, guard.broken), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="only guards whose name contains this")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines, missed = [], 0
    with tempfile.TemporaryDirectory() as name:
        for number, guard in enumerate(guard for guard in GUARDS if given.only in guard.name):
            folder = Path(name) / str(number)
            for part in COPIED:
                source = ROOT / part
                if source.is_dir():
                    shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(source, folder / part)
            broken(guard, folder)
            failed = not passes(folder, guard.test)
            missed += not failed
            test = guard.test.removeprefix("tests/")
            lines.append(f"| {guard.name} | `{guard.path.removeprefix('ndec_builder/')}` | `{test}` | "
                         f"{'fails' if failed else 'PASSES'} |")  # fmt: skip
            print(lines[-1], flush=True)
            shutil.rmtree(folder)
    head = [
        "# Security checks, broken one at a time", "",
        f"{datetime.now(UTC):%Y-%m-%d} · `python tests/faults/guards.py`", "",
        "| guard that was broken | in | test | result |", "|---|---|---|---|",
    ]  # fmt: skip
    text = "\n".join([*head, *lines, "", f"{len(lines) - missed} of {len(lines)} broken guards were noticed.", ""])
    if given.out:
        given.out.write_text(text, "utf-8")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
