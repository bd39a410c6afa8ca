"""However a command ends, the user sees at most one line of why, and the shell a documented status.

A fault of ours is written to a file, with its traceback, and only named on the screen; JCPEER_DEBUG=1 shows it there.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from jcpeer.cli import exits
from jcpeer.cli.exits import Leave, status_of
from jcpeer.cli.terminal import complain
from jcpeer.cli.words import one_line, plain
from jcpeer.errors import JcpeerError

LOG_NAME = "errors.log"
LOG_BYTES_MAX = 1024 * 1024


def guarded(command: Callable[[], None]) -> int:
    """The exit status of this command, everything said that is to be said."""
    try:
        try:
            command()
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise Leave(exits.BROKEN_PIPE) from error
        return exits.OK
    except Leave as leaving:
        if leaving.status == exits.BROKEN_PIPE:
            _drop_stdout()
        if str(leaving):
            complain(str(leaving))
        return leaving.status
    except KeyboardInterrupt:
        complain("interrupted")
        return exits.INTERRUPTED
    except JcpeerError as error:
        return _expected(error)
    except ExceptionGroup as group:
        # Several children of a node can fail at once, of the same cause: the first line names it.
        ours = next((each for each in _leaves(group) if isinstance(each, JcpeerError)), None)
        return _expected(ours) if ours is not None and all(_is_ours(each) for each in _leaves(group)) else _bug(group)
    except Exception as error:
        return _bug(error)


def _expected(error: JcpeerError) -> int:
    status = status_of(error)
    if status == exits.INTERNAL:
        return _bug(error)
    if _debugging():
        traceback.print_exception(error)
    complain(plain(str(error)))
    return status


def _bug(error: Exception) -> int:
    if _debugging():
        traceback.print_exception(error)
        return exits.INTERNAL
    what = one_line(f"{type(error).__name__}: {error}", length=120)
    kept = _keep(error)
    where = f"the details are in {kept}" if kept else "JCPEER_DEBUG=1 shows the details"
    complain(f"an error in jcpeer itself, {what}; {where}; please report it")
    return exits.INTERNAL


def _keep(error: Exception) -> Path | None:
    """Where the traceback was added, None if nothing can be written there."""
    try:
        from jcpeer.places import state_dir

        path = state_dir("node").parent / LOG_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        too_long = path.exists() and path.stat().st_size > LOG_BYTES_MAX
        with path.open("w" if too_long else "a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(sys.argv)}\n")
            file.writelines(traceback.format_exception(error))
            file.write("\n")
    except Exception:  # whatever is wrong there, the first fault is the one to tell of
        return None
    return path


def _debugging() -> bool:
    return os.environ.get("JCPEER_DEBUG", "") not in ("", "0")


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, JcpeerError) and status_of(error) != exits.INTERNAL


def _drop_stdout() -> None:
    """Nobody reads: what is still to be flushed at exit goes nowhere, instead of raising once more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
