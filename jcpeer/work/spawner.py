"""The process that starts a node's attempts and workers, and sees to it that nothing of them outlives the node.

    node ── control ──> spawner ── fork ──> keeper ── spawn ──> leader ── ...

It is run by path with `python -I -S`, imports a handful of modules and nothing of jcpeer, and so starts in 20 ms and
forks in one, however large the node has grown. The node asks for a process by sending one end of a fresh socket over
`control`; the spawner forks a *keeper* for it, which reads the request from that socket, starts the *leader* in a
session of its own, and answers with one line: what became of it. Then it waits a while for another request, which saves
half of the work for a short command. No names and no tables: the socket is the attempt, from request to answer.

Invariants, which the kernel keeps for us:
- A keeper is a subreaper: whatever the leader starts, daemons in sessions of their own included, is below the keeper,
  and an orphan becomes its child. It kills its children, and those whom that orphans, until there are none; only then
  does it report. So the answer, or the end of the socket, means that nothing of the attempt runs.
- A keeper acts when its leader ends, when the node closes its end of the socket (a wish, or the death of the node), or
  when the spawner dies (`lifeline`). The spawner ends with the node.
- What is left of a keeper that was killed falls to the spawner, a subreaper too: a child of it that is no keeper is
  killed at sight.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Mapping

PR_SET_CHILD_SUBREAPER = 36

IDLE_S = 10.0
"""A keeper that is asked for nothing more ends after so long."""
END_S_MAX = 2.0
"""How long the spawner waits at its end for keepers; only a process stuck in the kernel can take so long."""

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def main() -> None:
    """Serve the control socket, whose number is the only argument, until the node closes it."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # they are meant for the node, which ends us by closing the socket
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    Spawner(socket.socket(fileno=int(sys.argv[1]))).serve()


class Spawner:
    """Forks a keeper for each socket that arrives, and reaps what falls to it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._keepers: set[int] = set()
        self._lifeline, self._life = os.pipe()  # nothing is written: its end is the message
        self._children = Alarm()

    def serve(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._children, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._children.fileno() in ready:
                self._children.clear()
                self._reap()
            if self._control.fileno() in ready:
                data, descriptors, _, _ = socket.recv_fds(self._control, 1, 2, socket.MSG_CMSG_CLOEXEC)
                if not data:
                    break
                self._fork_keeper(descriptors)
        os.close(self._life)
        poll.unregister(self._control)
        while self._keepers and poll.poll(END_S_MAX * 1000):
            self._children.clear()
            self._reap()

    def _fork_keeper(self, descriptors: list[int]) -> None:
        try:
            keeper = os.fork()
        except OSError:
            keeper = -1  # the node sees its socket end without a message
        if keeper == 0:
            status = 1
            try:
                self._control.close()
                os.close(self._life)
                keep(socket.socket(fileno=descriptors[0]), self._lifeline, descriptors[1:])
                status = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(status)
        if keeper > 0:
            self._keepers.add(keeper)
        for each in descriptors:
            os.close(each)

    def _reap(self) -> None:
        strangers = False
        for pid, status in reaped():
            strangers = strangers or pid not in self._keepers or status != 0
            self._keepers.discard(pid)
        if strangers:
            for child in children():
                if child not in self._keepers:
                    kill(child)  # what this orphans comes with the next SIGCHLD


class Alarm:
    """A descriptor that is readable once a child of this process has ended."""

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def fileno(self) -> int:
        return self._reader

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass


def keep(node: socket.socket, lifeline: int, extra: list[int]) -> None:
    """Do what the node asks for, one request after another; what it gets `extra` descriptors for is the only one."""
    alarm = Alarm()
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    while asked(node, lifeline) and (request := read_request(node)) is not None:
        keep_one(request, node, lifeline, alarm, extra)
        if extra:
            return


def asked(node: socket.socket, lifeline: int) -> bool:
    """Wait for a request, which may turn out to be the end of the node; False where it is not waited for any more."""
    poll = select.poll()
    poll.register(node, select.POLLIN)
    poll.register(lifeline, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll(IDLE_S * 1000)}
    return node.fileno() in ready and lifeline not in ready


def keep_one(request: Request, node: socket.socket, lifeline: int, alarm: Alarm, extra: list[int]) -> None:
    """Start it, wait for its end or for the wish to end it, leave nothing, and say what it was."""
    before_s = children_cpu_s()
    try:
        leader = start(request, extra)
    except OSError as error:
        report(node, {"errno": error.errno, "path": str(error.filename or request.argv[0])})
        return
    for each in extra:
        os.close(each)
    poll = select.poll()
    for watched in (node.fileno(), lifeline, alarm.fileno()):
        poll.register(watched, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if node.fileno() in ready or lifeline in ready:
            break
        alarm.clear()
        if leader_ended(leader):
            break
    status = end_all(leader)
    report(node, {"status": status, "cpu_s": children_cpu_s() - before_s, "lost": lifeline in ready})


def children_cpu_s() -> float:
    """What children that have ended, and theirs, have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Request:
    """What the node asks for."""

    def __init__(self, argv: list[str], env: dict[str, str], cwd: str, stdout: str, stderr: str) -> None:
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.stdout = stdout
        self.stderr = stderr


def read_request(node: socket.socket) -> Request | None:
    """Its length in 4 bytes, then JSON; None if the node is gone."""
    with node.makefile("rb") as reader:
        length = int.from_bytes(reader.read(4), "big")
        body = reader.read(length)
    return Request(**json.loads(body)) if length and len(body) == length else None


def report(node: socket.socket, message: Mapping[str, object]) -> None:
    with contextlib.suppress(OSError):  # the node may be gone
        node.sendall(json.dumps(message).encode() + b"\n")


OWN_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
"""Those that this process, or Python, does not handle as a program expects to find them."""


def start(request: Request, extra: list[int]) -> int:
    """Spawn the leader. The number of an extra descriptor becomes its last argument.

    To fork, and let Python set the child up, takes three times as long.

    Raises:
        OSError: of the step that failed, with the file where it was one.
    """
    for each in extra:
        os.set_inheritable(each, True)
    argv = [*request.argv, *map(str, extra)]
    opened: list[int] = []
    try:
        os.chdir(request.cwd)  # there is one process at a time to be started here
        opened.append(os.open(os.devnull, os.O_RDONLY))
        for path in (request.stdout, request.stderr):
            # Read and write: a worker reads back what a call printed. Append: it also empties the file in between.
            opened.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600))
        return spawned(argv, request.env, opened)
    finally:
        for each in opened:
            os.close(each)
        os.chdir("/")


def spawned(argv: list[str], env: dict[str, str], standard: list[int]) -> int:
    """A process in a session of its own, with these for its standard streams. Its program is looked for as
    `os.execvpe` does it: along the PATH of its own environment."""
    name, failure = argv[0], errno.ENOENT
    actions = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(standard)]
    for path in [name] if "/" in name else [os.path.join(each, name) for each in os.get_exec_path(env)]:
        try:
            return os.posix_spawn(path, argv, env, file_actions=actions, setsid=True, setsigdef=OWN_SIGNALS)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                failure = (
                    error.errno or failure
                )  # what was found and cannot be executed tells more than what was not there
    raise OSError(failure, os.strerror(failure), name)


def leader_ended(leader: int) -> bool:
    """Reap orphans that have ended; the leader itself stays a zombie, so that its number remains its own."""
    while True:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return False
        if ended.si_pid == leader:
            return True
        os.waitpid(ended.si_pid, 0)


def end_all(leader: int) -> int:
    """Kill and reap until no descendant is left; the leader's exit status, negative where a signal ended it."""
    with contextlib.suppress(OSError):
        os.killpg(leader, signal.SIGKILL)  # most of it at one blow, before it can fork on
    status = 0
    while True:
        for child in children():
            kill(child)
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            return status
        for pid, raw in reaped():
            if pid == leader:
                status = os.waitstatus_to_exitcode(raw)


def reaped() -> list[tuple[int, int]]:
    """The children that have ended, with their raw status."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, status))


def children() -> list[int]:
    """The children of this process, which has one thread."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(each) for each in file.read().split()]
    except FileNotFoundError:
        return children_by_scan()  # a kernel without CONFIG_PROC_CHILDREN


def children_by_scan() -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = file.read().rpartition(b")")[2].split()[1]  # the name before may hold anything
            except OSError:
                continue
            if int(parent) == os.getpid():
                found.append(int(name))
    return found


def kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
