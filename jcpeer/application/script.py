"""Applications written as a Python file that defines `app`, run in the client's own process.

It runs as a module of another name than `__main__`, so that the same file can also be started by hand and connect to a
node under `if __name__ == "__main__":`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.modules import import_root
from jcpeer.application.names import one_line
from jcpeer.application.python import Application
from jcpeer.application.reading import read_text
from jcpeer.errors import GraphError

MODULE_NAME = "__jcpeer_application__"


def load_script(path: Path) -> LoadedApplication:
    """The application that this file calls `app`.

    Raises:
        GraphError: it cannot be run, or defines none.
    """
    source = read_text(path)
    path = path.absolute()
    module = ModuleType(MODULE_NAME)
    module.__file__ = str(path)
    with _importable(module, import_root(path)):
        try:
            exec(compile(source, str(path), "exec"), vars(module))
        except SyntaxError as error:
            raise GraphError(f"{path}: line {error.lineno}: this is not Python: {one_line(error.msg)}") from error
        except (Exception, SystemExit) as error:
            line = _line_in(path, error.__traceback__)
            text = one_line(error) if isinstance(error, GraphError) else one_line(f"{type(error).__name__}: {error}")
            raise GraphError(f"{path}: line {line}: {text}") from error
        app = vars(module).get("app")
        if not isinstance(app, Application):
            raise GraphError(f'{path}: it defines no application; write app = jcpeer.Application("NAME")')
        try:
            return app.load()
        except GraphError as error:
            raise GraphError(f"{path}: {error}", cycle=error.cycle) from error


@contextmanager
def _importable(module: ModuleType, directory: Path) -> Iterator[None]:
    """The file's neighbours can be imported, and its own functions and classes travel by value."""
    import cloudpickle

    sys.modules[MODULE_NAME] = module
    sys.path.insert(0, str(directory))
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)
        sys.path.remove(str(directory))
        del sys.modules[MODULE_NAME]


def _line_in(path: Path, traceback: TracebackType | None) -> int:
    line = 0
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(path):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
