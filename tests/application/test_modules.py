from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from jcpeer.application import modules as packing
from jcpeer.application.modules import import_root, pack_modules
from jcpeer.errors import GraphError
from tests.application.here import modules


def write(directory: Path, *names: str) -> None:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}")


def packed(directory: Path, **loaded: Path) -> set[str]:
    found = {}
    for name, path in loaded.items():
        found[name.replace("__", ".")] = module = ModuleType(name)
        module.__file__ = str(path)
    data = pack_modules(directory, loaded=found)
    return set(modules(data)) if data else set()


def test_modules_and_packages_with_their_data_travel_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "helper.py", "pkg/__init__.py", "pkg/inner/code.py", "pkg/data.txt")
    write(tmp_path, "notes.txt", "results/big.csv", ".hidden/x.py", "pkg/__pycache__/x.pyc", "pkg/.cache", "plain/x.py")
    write(tmp_path, "venv/pyvenv.cfg", "venv/__init__.py", "jcpeer/__init__.py")
    assert packed(tmp_path) == {"helper.py", "pkg/__init__.py", "pkg/inner/code.py", "pkg/data.txt"}


def test_what_is_imported_already_travels_under_the_name_of_its_import(tmp_path: Path) -> None:
    write(tmp_path, "src/lib.py", "space/mod.py", ".venv/lib/dep.py", "env/pyvenv.cfg", "env/lib/dep.py")
    assert packed(
        tmp_path,
        lib=tmp_path / "src" / "lib.py",
        space__mod=tmp_path / "space" / "mod.py",
        dep=tmp_path / ".venv" / "lib" / "dep.py",
        dep2=tmp_path / "env" / "lib" / "dep.py",
        outside=Path(__file__),
    ) == {"lib.py", "space/mod.py"}


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a", "x.py", "y.py")
    write(tmp_path / "b", "y.py", "x.py")
    assert pack_modules(tmp_path / "a", loaded={}) == pack_modules(tmp_path / "b", loaded={})
    write(tmp_path / "b", "z.py")
    assert pack_modules(tmp_path / "a", loaded={}) != pack_modules(tmp_path / "b", loaded={})


def test_too_much_is_refused_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "x.py", "y.py")
    monkeypatch.setattr(packing, "MODULES_BYTES_MAX", 7)
    with pytest.raises(GraphError, match="smaller directory"):
        pack_modules(tmp_path, loaded={})
    monkeypatch.setattr(packing, "MODULES_FILES_MAX", 1)
    with pytest.raises(GraphError, match="more than 1 files"):
        pack_modules(tmp_path, loaded={})


def test_modules_are_imported_from_above_the_packages(tmp_path: Path) -> None:
    write(tmp_path, "pkg/__init__.py", "pkg/sub/__init__.py", "pkg/sub/app.py")
    assert import_root(tmp_path / "pkg" / "sub" / "app.py") == tmp_path


def test_where_no_module_is_nothing_travels(tmp_path: Path) -> None:
    write(tmp_path, "notes.txt")
    assert pack_modules(tmp_path) is None  # among all modules of this process, none is from there
