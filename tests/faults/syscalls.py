"""Stops a process before each system call that changes a file below a folder, so that a test can make it fail.

The kernel asks a supervisor before it runs such a call (seccomp user notification, Linux 5.5), also for calls inside
libraries such as Arrow. No library is preloaded, and the process under test is not changed. Only x86_64.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from support.processes import fork

_SECCOMP, _PRCTL_NO_NEW_PRIVS, _NEW_LISTENER = 317, 38, 8
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # ioctl numbers of the listener
_NOTIFY, _ALLOW, _CONTINUE = 0x7FC00000, 0x7FFF0000, 1
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Number of a call → its name and where its file is named: "0" a descriptor, "p0" a path, "d0p1" a path below a
# descriptor. Of two names the second one is taken.
_CALLS = {
    1: ("write", "0"), 18: ("write", "0"), 20: ("write", "0"), 40: ("write", "0"), 326: ("write", "2"),
    2: ("open", "p0"), 85: ("open", "p0"), 257: ("open", "d0p1"),
    74: ("fsync", "0"), 75: ("fsync", "0"), 77: ("truncate", "0"), 76: ("truncate", "p0"), 285: ("truncate", "0"),
    82: ("rename", "p1"), 264: ("rename", "d2p3"), 316: ("rename", "d2p3"),
    86: ("link", "p1"), 265: ("link", "d2p3"), 88: ("link", "p1"), 266: ("link", "d1p2"),
    87: ("unlink", "p0"), 263: ("unlink", "d0p1"), 84: ("rmdir", "p0"),
    83: ("mkdir", "p0"), 258: ("mkdir", "d0p1"),
    90: ("chmod", "p0"), 91: ("chmod", "0"), 268: ("chmod", "d0p1"), 93: ("chown", "0"),
}  # fmt: skip
NEEDS_SPACE = frozenset({"write", "open", "truncate", "mkdir", "link", "rename", "fsync"})  # may meet a full disk


@dataclass(frozen=True)
class Call:
    """One call that would change a file. number: 1 for the first of the process · path: below the watched folder."""

    number: int
    name: str
    path: str


Decide = Callable[[Call], int]  # 0: let it run · an errno: fail with it · -SIGKILL: kill the process before it


@dataclass
class Ended:
    """How a process ended: its exit code or minus the signal, what it printed, and the calls it made."""

    code: int
    text: str
    calls: list[Call] = field(default_factory=list)


def available() -> str:
    """Empty if processes can be watched here, else the reason why not."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return f"system calls are watched on Linux x86_64 only, this is {platform.system()} {platform.machine()}"
    try:
        actions = Path("/proc/sys/kernel/seccomp/actions_avail").read_text("ascii")
    except OSError:
        actions = ""
    return "" if "user_notif" in actions else "this kernel has no seccomp user notification"


class Watched:
    """A forked process that runs `work` and asks `decide` before each change below `root`.

    Until `wait` nothing is answered, so the process stands still at its first change; `step` goes on by one call.
    """

    def __init__(self, work: Callable[[], int], root: Path, log: Path, decide: Decide = lambda _: 0) -> None:
        self.root, self.log, self.decide = str(root.resolve()), log, decide
        self.calls: list[Call] = []
        ours, theirs = socket.socketpair()
        log.unlink(missing_ok=True)
        self.pid = fork()
        if self.pid == 0:
            ours.close()
            _run(work, log, theirs)
        theirs.close()
        with ours:
            ours.settimeout(60)
            _, handles, _, _ = socket.recv_fds(ours, 1, 1)
        if not handles:
            raise OSError(f"the process could not be watched: {log.read_text('utf-8', 'replace')}")
        self._listener = handles[0]
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)

    def wait(self, seconds: float = 300.0) -> Ended:
        """Answer all calls until the process ends."""
        while self.step(seconds) is not None:
            pass
        return self.ended()

    def step(self, seconds: float = 300.0, *, patient: bool = False) -> Call | None:
        """Answer calls up to and including the next one below the root; None when the process has ended.

        A process that makes none in so many seconds is killed; if `patient`, None is returned.
        """
        while True:
            (event,) = self._poll.poll(seconds * 1000) or [(0, 0)]
            if not event[1] and patient:
                return None
            if not event[1]:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"the process did nothing for {seconds} s: {self.log.read_text('utf-8', 'replace')}")
            if not event[1] & select.POLLIN:
                return None
            request = bytearray(80)
            try:
                _ioctl(self._listener, _RECEIVE, request)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):  # it was killed just now
                    continue
                raise
            identity, process = struct.unpack_from("QI", request)
            number, arguments = struct.unpack_from("i", request, 16)[0], struct.unpack_from("6Q", request, 32)
            name, place = _CALLS[number]
            path = _path(process, place, arguments)
            if path is None or not f"{path}/".startswith(f"{self.root}/"):
                self._answer(identity, 0)
                continue
            call = Call(len(self.calls) + 1, name, os.path.relpath(path, self.root))
            self.calls.append(call)
            result = self.decide(call)
            if result < 0:
                os.kill(self.pid, -result)
            else:
                self._answer(identity, result)
            return call

    def ended(self) -> Ended:
        """Reap the process."""
        os.close(self._listener)
        _, status = os.waitpid(self.pid, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it left running in its session
        text = self.log.read_text("utf-8", "replace") if self.log.is_file() else ""
        return Ended(os.waitstatus_to_exitcode(status), text, self.calls)

    def _answer(self, identity: int, error: int) -> None:
        answer = bytearray(struct.pack("QqiI", identity, 0, -error, 0 if error else _CONTINUE))
        with contextlib.suppress(OSError):  # the process has been killed
            _ioctl(self._listener, _SEND, answer)


def _ioctl(handle: int, request: int, data: bytearray) -> None:
    import fcntl

    fcntl.ioctl(handle, request, data, True)


def _path(process: int, place: str, arguments: tuple[int, ...]) -> str | None:
    """The absolute path that a call names; None if it has none."""
    try:
        if "p" not in place:
            return os.readlink(f"/proc/{process}/fd/{arguments[int(place)]}").removesuffix(" (deleted)")  # noqa: PTH115
        folder, _, argument = place.partition("p")
        with open(f"/proc/{process}/mem", "rb", 0) as memory:  # noqa: PTH123
            memory.seek(arguments[int(argument)])
            text = os.fsdecode(_string(memory))
        base = f"/proc/{process}/cwd"
        if folder:
            handle = ctypes.c_int(arguments[int(folder[1:])]).value
            base = base if handle == -100 else f"/proc/{process}/fd/{handle}"
        return os.path.normpath(os.path.join(os.readlink(base), text))  # noqa: PTH115, PTH118
    except OSError:
        return None


def _string(memory: object) -> bytes:
    """A text that ends with a null byte; it may end just before a page that cannot be read."""
    data = b""
    while b"\0" not in data:
        data += memory.read(64)  # type: ignore[attr-defined]
    return data.partition(b"\0")[0]


def _run(work: Callable[[], int], log: Path, parent: socket.socket) -> None:
    """In the forked process: be watched, then work. Never returns."""
    code = 99
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for number in (1, 2):
            os.dup2(handle, number)
        sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)  # a test runner replaced them
        socket.send_fds(parent, [b"1"], [_install()])
        parent.close()
        code = work()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _install() -> int:
    """Install the filter in this thread and those it starts; returns the listener."""
    code = _filter()
    program = _Program(len(code) // 8, ctypes.cast(ctypes.create_string_buffer(code), ctypes.c_void_p))
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PRCTL_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = library.syscall(_SECCOMP, 1, _NEW_LISTENER, ctypes.byref(program))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


def _filter() -> bytes:
    """BPF: notify for the calls of `_CALLS`; of `open` and `openat` only those that may write."""
    load, equal, any_bit, give = 0x20, 0x15, 0x45, 0x06
    flags = {2: 1, 257: 2}  # open, openat: which argument has the flags
    plain = [number for number in _CALLS if number not in flags]
    first_block = 1 + len(plain) + len(flags) + 1
    notify = first_block + 3 * len(flags)
    code = [(load, 0, 0, 0)]  # the number of the call

    def jump_if(kind: int, value: int, target: int) -> None:
        code.append((kind, target - len(code) - 1, 0, value))

    for number in plain:
        jump_if(equal, number, notify)
    for place, number in enumerate(flags):
        jump_if(equal, number, first_block + 3 * place)
    code.append((give, 0, 0, _ALLOW))
    for argument in flags.values():
        code.append((load, 0, 0, 16 + 8 * argument))
        jump_if(any_bit, _WRITING, notify)
        code.append((give, 0, 0, _ALLOW))
    code.append((give, 0, 0, _NOTIFY))
    return b"".join(struct.pack("HBBI", *line) for line in code)
