"""What counts as an output, and that no name leads out of an attempt's directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jcpeer.application.task import INLINE_BYTES_MAX
from jcpeer.errors import StorageError
from jcpeer.work.files import (
    InputFile,
    collect_outputs,
    copy_file,
    place_inputs,
    stays_inside,
)


def test_only_a_regular_file_of_the_attempts_own_is_an_output(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not yours")
    work = tmp_path / "work"
    (work / "deep").mkdir(parents=True)
    (work / "deep" / "file").write_text("here")
    (work / "link").symlink_to("deep/file")
    (work / "out").symlink_to(secret)
    (work / "away").symlink_to(tmp_path)
    (work / "loop").symlink_to("loop")
    os.mkfifo(work / "pipe")
    os.link(secret, work / "hard")
    names = (
        "deep/file",
        "link",
        "hard",
        "out",
        "away/secret",
        "loop",
        "pipe",
        "deep",
        "absent",
        "deep/file/x",
        "../secret",
    )
    collected = collect_outputs(work, names)
    assert collected.outputs == {"deep/file": b"here", "link": b"here", "hard": b"not yours"}
    assert len(collected.missing) == len(names) - 3 + 1  # and the listing
    assert (work / "hard").stat().st_ino != secret.stat().st_ino


def test_a_large_output_stays_a_file(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(INLINE_BYTES_MAX + 1))
    assert collect_outputs(tmp_path, ["large"]).outputs == {"large": tmp_path / "large"}


@pytest.mark.parametrize("name", ["", ".", "..", "a/../../b", "/a", "a\0b"])
def test_names_that_are_no_paths_below_are_known(name: str) -> None:
    assert not stays_inside(name)


def test_a_copy_is_interrupted_between_pieces_and_complete_otherwise(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt() -> None:
        raise Interrupted

    source = tmp_path / "source"
    source.write_bytes(os.urandom(1_000_000))
    with pytest.raises(Interrupted):
        copy_file(source, tmp_path / "copy", interrupt=interrupt)
    copy_file(source, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_a_disk_that_refuses_is_a_storage_error_that_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file where a directory should be")
    with pytest.raises(StorageError, match="work"):
        place_inputs(tmp_path / "work", [InputFile("a", b"")])
