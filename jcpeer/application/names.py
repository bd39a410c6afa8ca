"""Which names tasks and files may have, and what somebody may have meant who wrote another.

File names become paths below a task's work directory and below the directory of results, on machines of all kinds and
from hands that need not be friendly: so none is absolute, none leads out, and two of one directory can coexist.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from itertools import islice

from jcpeer.application.task import ARGUMENTS, FILE_PREFIX, FUNCTION, MODULES, VALUE, VALUE_PREFIX

_TASK = re.compile(r"\w[\w.:=+,@-]{0,199}")
_NOT_IN_TASK = re.compile(r"[^\w.:=+,@-]+")
_VALUE_SLOT = re.compile(rf"{re.escape(VALUE_PREFIX)}[0-9]{{1,9}}", re.ASCII)
_FILE_SLOT = re.compile(rf"{re.escape(FILE_PREFIX)}[0-9]{{1,9}}/([^/]+)", re.ASCII)
_PLAIN_FILE = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)
_COMPONENT_BYTES_MAX = 255
_PATH_BYTES_MAX = 1024
_CANDIDATES_MAX = 10_000


def task_id_fault(name: str) -> str | None:
    """Why no task can have this id, or None."""
    if _TASK.fullmatch(name):
        return None
    return "use at most 200 letters, digits and . _ - : = + , @, beginning with a letter or digit"


def task_id_from(text: str) -> str:
    """The nearest thing to this text that is a task's id; empty where nothing is left of it."""
    return _NOT_IN_TASK.sub("_", text).lstrip(".:=+,@-")[:180]


def file_name_fault(name: str) -> str | None:
    """Why no input or output can be a file of this name, or None."""
    if name.startswith("@"):
        return "names beginning with '@' are taken by values; rename the file"
    if _PLAIN_FILE.fullmatch(name):  # what most of them are
        return None
    if name.startswith("/"):
        return "it is absolute; write a path below the task's work directory"
    if "\0" in name or not _is_text(name):
        return "it has characters that no file name has"
    parts = name.split("/")
    if ".." in parts:
        return "'..' leads out of the task's work directory; write a path below it"
    if "" in parts or "." in parts:
        return "write a plain path to a file, as in dir/file.txt"
    encoded = name.encode()
    if len(encoded) > _PATH_BYTES_MAX or any(len(part.encode()) > _COMPONENT_BYTES_MAX for part in parts):
        return "it is too long for a file name"
    return None


def input_name_fault(name: str) -> str | None:
    """Why no input can have this name, or None."""
    if name in (FUNCTION, ARGUMENTS, MODULES) or _VALUE_SLOT.fullmatch(name):
        return None
    slot = _FILE_SLOT.fullmatch(name)
    return file_name_fault(slot[1] if slot else name)


def output_name_fault(name: str) -> str | None:
    """Why no output can have this name, or None."""
    return None if name == VALUE else file_name_fault(name)


def plain_name(path: str) -> str:
    """The same relative path without the harmless "./" and "//"; a trailing "/" stays, to be seen."""
    if "/" not in path:
        return "" if path == "." else path
    normal = "/".join(part for part in path.split("/") if part not in ("", "."))
    prefix = "/" if path.startswith("/") else ""
    return prefix + normal + ("/" if normal and path.endswith("/") else "")


def arrival_name(path: str) -> str:
    """The name in the work directory of an input for which none was given: the path itself if it is a relative one
    that stays below, its last part otherwise."""
    plain = plain_name(path).rstrip("/")
    if plain.startswith("/") or ".." in plain.split("/"):
        return os.path.basename(plain)
    return plain


def nested(names: Iterable[str]) -> tuple[str, str] | None:
    """Two of these files of which one would have to be a directory to hold the other, or None."""
    known = set(names)
    for name in known:
        start = name.find("/")
        while start != -1:
            if name[:start] in known:
                return name[:start], name
            start = name.find("/", start + 1)
    return None


def remedy(wrong: str, known: Iterable[str], otherwise: str) -> str:
    """ "did you mean 'x'?" where one of the known names is like the wrong one, the other remedy where none is."""
    # Comparing costs some microseconds a name: among very many, a guess is not worth the wait.
    close = difflib.get_close_matches(wrong[:200], islice(known, _CANDIDATES_MAX), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else otherwise


def one_line(error: object, *, length: int = 300) -> str:
    """An error's text without line breaks, cut."""
    return " ".join(str(error).split())[:length]


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
