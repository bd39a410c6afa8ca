"""Nothing of an attempt is left for the next one, whether that gets the same directory or another."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jcpeer.work.directories import Directories
from jcpeer.work.files import make_directory


def begun(directories: Directories) -> Path:
    """The directory of an attempt that has begun to run."""
    attempt = directories.make()
    for part in ("tmp", "work"):
        make_directory(attempt / part)
    return attempt


async def test_an_attempt_that_left_nothing_but_logs_leaves_its_directory_to_the_next(tmp_path: Path) -> None:
    directories = Directories(tmp_path)
    attempt = begun(directories)
    (attempt / "stdout").write_text("printed")
    await directories.give_back(attempt)
    assert begun(directories) == attempt
    assert sorted(os.listdir(attempt)) == ["tmp", "work"]
    assert begun(directories) != attempt


def leave_a_file(attempt: Path) -> None:
    (attempt / "work" / "file").write_text("left")


def leave_a_file_beside(attempt: Path) -> None:
    (attempt / "file").write_text("left")


def leave_a_temporary_directory(attempt: Path) -> None:
    (attempt / "tmp" / "deep").mkdir()


def change_the_mode(attempt: Path) -> None:
    (attempt / "work").chmod(0o755)


def remove_the_directory(attempt: Path) -> None:
    (attempt / "work").rmdir()


def put_a_link_there(attempt: Path) -> None:
    other = attempt.parent / "other"
    other.mkdir()
    (other / "file").write_text("not the attempt's")
    (attempt / "work").rmdir()
    (attempt / "work").symlink_to(other)


def put_a_directory_where_a_log_was(attempt: Path) -> None:
    (attempt / "stdout").mkdir()


@pytest.mark.parametrize(
    "leave",
    [
        leave_a_file,
        leave_a_file_beside,
        leave_a_temporary_directory,
        change_the_mode,
        remove_the_directory,
        put_a_link_there,
        put_a_directory_where_a_log_was,
    ],
)
async def test_a_directory_that_was_touched_goes_with_all_that_is_in_it_and_nothing_else(
    tmp_path: Path, leave: Callable[[Path], None]
) -> None:
    directories = Directories(tmp_path)
    attempt = begun(directories)
    leave(attempt)
    await directories.give_back(attempt)
    assert not attempt.exists()
    assert directories.make() != attempt
    if leave is put_a_link_there:
        assert (tmp_path / "other" / "file").exists()


async def test_a_directory_that_was_never_made_is_nothing_to_remove(tmp_path: Path) -> None:
    directories = Directories(tmp_path)
    await directories.give_back(directories.name())
    assert not list(tmp_path.iterdir())
