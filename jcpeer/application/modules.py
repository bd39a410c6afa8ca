"""The user's own modules, packed so that functions can be called where these modules are not installed.

Packed is what can be imported from the application's directory: its modules and packages with all files in them, and
whatever lies in it and is imported already. Left out are hidden files, virtual environments, byte code, and what is
not importable: data files beside the modules travel as `File`. The same content gives the same bytes.
"""

from __future__ import annotations

import io
import os
import stat
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from jcpeer.application.local_blobs import reason
from jcpeer.errors import GraphError

MODULES_BYTES_MAX = 64 * 1024 * 1024
MODULES_FILES_MAX = 10_000

_OURS = "jcpeer"
"""Each node has its own; a copy that travels would get in its way."""
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first instant that a zip can tell: real ones would make equal content differ."""


def import_root(script: Path) -> Path:
    """The directory from which this file's modules are imported: above the packages that it is part of."""
    directory = script.absolute().parent
    while (directory / "__init__.py").is_file() and directory.parent != directory:
        directory = directory.parent
    return directory


def pack_modules(directory: Path, *, loaded: Mapping[str, ModuleType] | None = None) -> bytes | None:
    """A zip of what can be imported from this directory; None where there is nothing.

    Args:
        loaded: The modules of this process, `sys.modules` where it is None.

    Raises:
        GraphError: there is too much of it, or it cannot be read.
    """
    files: dict[str, Path] = {}
    try:
        for name, path in _files(directory.resolve(), dict(sys.modules if loaded is None else loaded)):
            files.setdefault(name, path)  # the directory itself goes before what lies below it
            if len(files) > MODULES_FILES_MAX:
                raise _too_much(directory, f"more than {MODULES_FILES_MAX} files")
        return _zipped(directory, files) if files else None
    except OSError as error:
        raise GraphError(f"modules in {directory} cannot be read: {error.filename}: {reason(error)}") from error


def _files(directory: Path, loaded: Mapping[str, ModuleType]) -> Iterator[tuple[str, Path]]:
    """Names as an import would look for them, and where the files are."""
    for entry in _entries(directory):
        if entry.is_dir() and (entry / "__init__.py").is_file() and entry.name != _OURS:
            yield from _tree(entry, entry.name)
        elif entry.suffix == ".py" and entry.is_file():
            yield entry.name, entry
    for name, module in sorted(loaded.items()):
        path = _source(module)
        # A module with a name in underscores is a main program: what it defines travels by value.
        if path is None or not path.is_relative_to(directory) or name.startswith("__") or _top(name) == _OURS:
            continue
        if any(_skipped(part) for part in path.parts[len(directory.parts) :]) or _in_environment(path, directory):
            continue
        inner = name.replace(".", "/")
        yield (f"{inner}/__init__.py" if path.name == "__init__.py" else f"{inner}.py"), path


def _tree(directory: Path, name: str) -> Iterator[tuple[str, Path]]:
    for entry in _entries(directory):
        inner = f"{name}/{entry.name}"
        if entry.is_dir() and not entry.is_symlink():  # links to directories may lead in circles
            yield from _tree(entry, inner)
        elif stat.S_ISREG(entry.stat().st_mode):
            yield inner, entry


def _entries(directory: Path) -> list[Path]:
    if (directory / "pyvenv.cfg").exists():
        return []
    return [directory / name for name in sorted(os.listdir(directory)) if not _skipped(name)]


def _skipped(name: str) -> bool:
    return name.startswith(".") or name in _SKIPPED or name.endswith((".pyc", "~"))


def _in_environment(path: Path, directory: Path) -> bool:
    return any((above / "pyvenv.cfg").exists() for above in path.parents if above.is_relative_to(directory))


def _top(name: str) -> str:
    return name.partition(".")[0]


def _source(module: object) -> Path | None:
    # Anything may sit in sys.modules, and asking a lazy module for an attribute may import the world.
    file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
    return Path(file).resolve() if isinstance(file, str) and file.endswith(".py") and os.path.isfile(file) else None


def _zipped(directory: Path, files: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    size = 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            size += files[name].stat().st_size
            if size > MODULES_BYTES_MAX:
                raise _too_much(directory, f"more than {MODULES_BYTES_MAX // 2**20} MiB")
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, files[name].read_bytes())
    return buffer.getvalue()


def _too_much(directory: Path, what: str) -> GraphError:
    return GraphError(
        f"the modules in {directory} are {what}; give Application(…, directory=…) a smaller directory, and"
        " large data as jcpeer.File"
    )
