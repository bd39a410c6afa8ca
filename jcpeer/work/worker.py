"""The process in which Python tasks are called, one after the other; the only place where anything is unpickled.

Started by the spawner as `python -c "...; main()" MODULES SOCKET`, it reads `CallRequest` frames and answers each with
a `CallReply`. Of calls that are over at once many come in one piece, and so go the answers: to read and to write costs
more than they do. What a call prints, at whatever level, goes to descriptors 1 and 2, two scratch files of this worker
that are read and emptied after each call; it is called in an empty directory of the worker's. So a call that prints
nothing and leaves no file makes none: the file system would cost several times what the rest does. Neither trio nor
libp2p is loaded here, so that a worker is there in a moment and small.

What ends the process in the midst of a call (a crash, `os._exit`) is seen by the node as the end of the socket.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pickle
import resource
import shutil
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

import cloudpickle

from jcpeer.application.task import INLINE_BYTES_MAX, Slot
from jcpeer.work.calling import (
    DROP,
    FUNCTIONS_MAX,
    HEADER_BYTES,
    VALUE_FILE,
    CallReply,
    CallRequest,
    frame_of,
    read_request,
)

TRACEBACK_CHARACTERS_MAX = 16 * 1024
RECEIVE_BYTES = 256 * 1024
REPLIES_BYTES = 64 * 1024
"""So many bytes of answers do not wait for more."""
LASTING_S = 0.001
"""The answer to a call that took so long is sent at once."""
PLAIN = frozenset({int, float, str, bytes, bool, type(None)})
PICKLE_PROTOCOL = 5
UNTOUCHED_NS = 10**9
"""As the time at which a directory was changed last: nothing was put into it since."""

PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Serve the socket given as the last argument, with the archive of user modules before it (or "") importable."""
    modules, descriptor = sys.argv[1], int(sys.argv[2])
    sys.argv = ["jcpeer-worker"]
    if modules:
        sys.path.insert(0, modules)
    # Whatever a call starts stays a descendant of ours, so that one glance tells whether it left something behind.
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.set_inheritable(descriptor, False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for whoever follows the log
    Worker(socket.socket(fileno=descriptor)).serve()


class CallFailed(Exception):
    """A call that did not succeed, by no fault of this program; the fields are those of a `Failure`."""

    def __init__(self, kind: str, text: str, remedy: str = "", *, exit_status: int | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.remedy = remedy
        self.exit_status = exit_status


class Worker:
    """Reads requests, calls, answers, until the node closes the socket."""

    def __init__(self, node: socket.socket) -> None:
        self._node = node
        self._pid = os.getpid()
        self._functions: dict[str, Any] = {}
        self._stdout = Scratch(1)
        self._stderr = Scratch(2)
        self._work = WorkDirectory(os.path.abspath("work"))
        self._environment = Environment()

    def serve(self) -> None:
        inbox, replies = Inbox(self._node), bytearray()
        while True:
            if replies and not inbox.has_frame():
                self._send(replies)
            body = inbox.take()
            if body is None:
                return
            if body == DROP[HEADER_BYTES:]:
                replies += DROP
                continue
            began_s = time.perf_counter()
            reply = self._answer(read_request(body))
            if os.getpid() != self._pid:
                os._exit(0)  # the function forked, and this is the child that came back from it
            replies += frame_of(reply)
            took_s = time.perf_counter() - began_s
            if took_s >= LASTING_S or len(replies) >= REPLIES_BYTES:
                self._send(replies)
            if took_s >= LASTING_S:
                for body in inbox.taken_back():
                    self._keep_function(read_request(body))  # the node counts on it all the same
            if reply.spent:
                self._send(replies)
                inbox.drop_all()

    def _send(self, replies: bytearray) -> None:
        self._node.sendall(replies)
        replies.clear()

    def _answer(self, request: CallRequest) -> CallReply:
        failure: tuple[str, str, str] | None = None
        exit_status: int | None = None
        value: bytes | bool = b""
        cpu_before_s = _cpu_s()
        started_s = time.perf_counter()
        try:
            self._work.enter(request.directory + "/work", may_have_files=request.has_work_directory)
            self._environment.set(request.env, self._work.path)
            value = self._call(request)
        except CallFailed as failed:
            failure = (failed.kind, failed.text, failed.remedy)
            exit_status = failed.exit_status
        ran_s = time.perf_counter() - started_s
        cpu_s = _cpu_s() - cpu_before_s
        _flush()
        left = self._work.leave(request.directory + "/work")
        stdout, stderr = (
            self._stdout.take(request.directory + "/stdout"),
            self._stderr.take(request.directory + "/stderr"),
        )
        return CallReply(
            failure,
            exit_status,
            value,
            stdout,
            stderr,
            ran_s,
            cpu_s,
            _left_something_behind() or sys.stdout.closed or sys.stderr.closed,
            left or True in (value, stdout, stderr),
        )

    def _call(self, request: CallRequest) -> bytes | bool:
        function, args, kwargs = self._load(request)
        name = request.function_name or getattr(function, "__name__", "the function")
        try:
            result = function(*args, **kwargs)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
            text = f"{name} called sys.exit({'' if error.code is None else repr(error.code)})"
            raise CallFailed("exit", text, "return from the function instead", exit_status=status) from None
        except BaseException as error:
            raise _failure_of(error, part=_users_part(error)) from None
        if not request.wants_value:
            return b""
        try:
            return pickled(result, request.directory)
        except CallFailed:
            raise
        except BaseException as error:
            kind = type(result)
            text = (
                f"the result of {name}, a {kind.__module__}.{kind.__qualname__}, cannot be pickled: {_in_a_line(error)}"
            )
            raise CallFailed(
                "exception", text, "return plain data, or write a file and declare it as an output"
            ) from None

    def _load(self, request: CallRequest) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        what = "the function"
        try:
            function = self._function(request)
            what = "an argument"
            args, kwargs = unpickled(request.arguments)
            if request.values or request.files:
                args, kwargs = fill((args, kwargs), request)
        except BaseException as error:
            failed = _failure_of(error, part=_users_part(error))
            if failed.kind == "exception":
                failed.text = f"{what} of {request.function_name or 'the task'} cannot be loaded\n{failed.text}"
            raise failed from None
        return function, args, kwargs

    def _keep_function(self, request: CallRequest) -> None:
        if request.function is not None:
            if len(self._functions) >= FUNCTIONS_MAX:
                self._functions.clear()  # as the node does on its side of the count
            self._functions[request.function_digest] = request.function

    def _function(self, request: CallRequest) -> Any:
        self._keep_function(request)
        function = self._functions[request.function_digest]
        if isinstance(function, (bytes, str)):
            # Only a function that could be loaded takes the place of its bytes: the node counts on the digest.
            function = self._functions[request.function_digest] = unpickled(function)
        return function


def fill(thing: Any, request: CallRequest) -> Any:
    """Put values and paths in place of the slots within lists, tuples and dictionaries.

    What holds no slot stays the very object; a sequence or mapping of a class of its own that holds one becomes a plain
    one, but for named tuples.
    """
    loaded: dict[str, Any] = dict(request.files)

    def filled(thing: Any) -> Any:
        match thing:
            case Slot(name):
                if name not in loaded:
                    loaded[name] = unpickled(request.values[name])
                return loaded[name]
            case list() | tuple():
                items = [filled(each) for each in thing]
                if all(new is old for new, old in zip(items, thing, strict=True)):
                    return thing
                if isinstance(thing, list):
                    return items
                return type(thing)(*items) if hasattr(thing, "_fields") else tuple(items)
            case dict():
                entries = {key: filled(each) for key, each in thing.items()}
                return thing if all(entries[key] is thing[key] for key in thing) else entries
            case _:
                return thing

    return filled(thing)


class Inbox:
    """The frames that come from the node, of which several may be here at once."""

    def __init__(self, node: socket.socket) -> None:
        self._node = node
        self._buffer = b""
        self._at = 0

    def has_frame(self) -> bool:
        """A whole one is here."""
        return self._end() <= len(self._buffer)

    def take(self) -> bytes | None:
        """The next one, for which it waits; None at the end."""
        while not self.has_frame():
            piece = self._node.recv(RECEIVE_BYTES)
            if not piece:
                return None
            self._add(piece)
        start, self._at = self._at + HEADER_BYTES, self._end()
        return self._buffer[start : self._at]

    def taken_back(self) -> list[bytes]:
        """Look, without waiting, whether the node wants some of what is here no more. These frames come out here; what
        `take` gives next is the `DROP` then."""
        with suppress(BlockingIOError):
            while piece := self._node.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT):
                self._add(piece)
        start, passed, dropped = self._at, list[bytes](), list[bytes]()
        while self.has_frame():
            at, self._at = self._at, self._end()
            frame = self._buffer[at : self._at]
            if frame == DROP:
                start, dropped = at, [*dropped, *passed]
                passed = []
            else:
                passed.append(frame[HEADER_BYTES:])
        self._at = start
        return dropped

    def drop_all(self) -> None:
        self._buffer, self._at = b"", 0

    def _add(self, piece: bytes) -> None:
        self._buffer, self._at = self._buffer[self._at :] + piece, 0

    def _end(self) -> int:
        """Where the next frame ends, which may not be here yet."""
        header = self._buffer[self._at : self._at + HEADER_BYTES]
        more = int.from_bytes(header, "big") if len(header) == HEADER_BYTES else 1
        return self._at + HEADER_BYTES + more


class Environment:
    """The variables that differ from call to call; to set one costs as much as a small call."""

    def __init__(self) -> None:
        self._set: dict[str, str] = {}

    def set(self, variables: dict[str, str], directory: str) -> None:
        for name, value in (*variables.items(), ("TMPDIR", directory)):
            if self._set.get(name) != value or os.environ.get(name) != value:  # a call may have changed it
                os.environ[name] = self._set[name] = value
        tempfile.tempdir = None  # or it would remember that of an earlier call


class Scratch:
    """What is printed to one descriptor, which is a file that serves call after call."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._path = os.readlink(f"/proc/self/fd/{descriptor}")
        self._own = os.dup(descriptor)  # for when a call closes or replaces the other

    def take(self, path: str) -> bytes | bool:
        """What was printed since the last time; True where it was so much that it now lies in a file of this path."""
        os.dup2(self._own, self._descriptor)
        size = os.fstat(self._own).st_size
        if size == 0:
            return b""
        if size <= INLINE_BYTES_MAX:
            data = os.pread(self._own, size, 0)
            os.ftruncate(self._own, 0)  # it is open for appending, so the next byte goes to the start
            return data
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.move(self._path, path)
        os.close(self._own)
        self._own = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(self._own, self._descriptor)
        return True


class WorkDirectory:
    """An empty directory to call in, which serves call after call: making and removing one costs more than a call.

    What a call leaves in it is moved to the attempt's own directory. A call with files as inputs finds them there.
    """

    def __init__(self, path: str) -> None:
        self._own = self.path = path
        self._make()

    def enter(self, attempts: str, *, may_have_files: bool) -> None:
        self.path = attempts if may_have_files else self._own
        os.chdir(self.path)

    def leave(self, attempts: str) -> bool:
        """Whether there are files in the attempt's directory."""
        if self.path != self._own:
            return True
        if os.stat(self._own).st_mtime_ns == UNTOUCHED_NS or not os.listdir(self._own):
            return False
        os.makedirs(os.path.dirname(attempts), exist_ok=True)
        shutil.move(self._own, attempts)
        self._make()
        return True

    def _make(self) -> None:
        os.mkdir(self._own)
        os.utime(self._own, ns=(UNTOUCHED_NS, UNTOUCHED_NS))  # which whatever is put into it changes


def unpickled(content: bytes | str) -> Any:
    """What these bytes, or those of the file of this name, stand for. A file is read straight into its place."""
    if isinstance(content, bytes):
        return pickle.loads(content)
    with open(content, "rb") as file:
        return pickle.load(file)


def pickled(result: Any, directory: str) -> bytes | bool:
    """A result as bytes; True where they are so many that they now lie in a file in this directory."""
    dump = pickle.dump if type(result) in PLAIN else cloudpickle.dump  # the same bytes of what is plain, much faster
    with Parcel(directory) as parcel:
        dump(result, parcel, PICKLE_PROTOCOL)
        return parcel.content()


class Parcel:
    """Takes what is written to it; what does not stay small goes straight to a file, so that there is no copy of it."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, VALUE_FILE)
        self._data = bytearray()
        self._file: int | None = None

    def __enter__(self) -> Parcel:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is None:
            return
        os.close(self._file)
        if kind is not None:  # what cannot be pickled to its end leaves nothing
            os.unlink(self._path)
            with suppress(OSError):
                os.rmdir(self._directory)

    def write(self, piece: bytes | memoryview) -> int:
        size = memoryview(piece).nbytes
        if self._file is None and len(self._data) + size <= INLINE_BYTES_MAX:
            self._data += piece
            return size
        try:
            if self._file is None:
                os.makedirs(self._directory, exist_ok=True)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                _write_all(self._file, self._data)
            _write_all(self._file, piece)
        except OSError as error:
            raise CallFailed("setup", f"the result cannot be written: {error}") from None
        return size

    def content(self) -> bytes | bool:
        return bytes(self._data) if self._file is None else True


def _write_all(descriptor: int, piece: bytes | bytearray | memoryview) -> None:
    rest = memoryview(piece).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the call may have closed it, or put something of its own there
            stream.flush()
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    _libc.fflush(None)


def _left_something_behind() -> bool:
    """Whether a process or a thread of the call still runs; a daemon thread, a service of some library, may stay."""
    try:
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            os.waitpid(ended.si_pid, 0)
    except ChildProcessError:
        if threading.active_count() == 1:
            return False
        return any(not each.daemon for each in threading.enumerate() if each is not threading.main_thread())
    return True


def _users_part(error: BaseException) -> TracebackType | None:
    """The user's part of a traceback: our own frames at its head say nothing to anybody."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename == __file__:
        frame = frame.tb_next
    return frame


def _in_a_line(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


def _failure_of(error: BaseException, *, part: TracebackType | None) -> CallFailed:
    text = "".join(traceback.format_exception(type(error), error, part)).strip()
    if len(text) > TRACEBACK_CHARACTERS_MAX:
        half = TRACEBACK_CHARACTERS_MAX // 2 - 10
        text = f"{text[:half]}\n  [...]\n{text[-half:]}"
    package = _missing_package(error)
    if package is None:
        return CallFailed("exception", text)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return CallFailed(
        "missing_package",
        f"package {package!r} is not installed for Python {version}\n{text}",
        f"python{version} -m pip install {package} on that node (its Python is {sys.executable}); "
        "a module of your own travels if it lies in the application's directory",
    )


def _missing_package(error: BaseException) -> str | None:
    """The package that a node lacks, where that is what the error says."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    package = error.name.partition(".")[0]
    try:
        found = package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        found = False
    return None if found else package
