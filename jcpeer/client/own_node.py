"""A node of one's own for as long as one run takes, where no other runs on this machine."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from attrs import frozen

from jcpeer.client.local import OWN_PREFIX
from jcpeer.errors import NoNodeError

READY_S = 10.0
"""A node listens well within 2 s; a machine under load may need more."""
LEAVE_S = 6.0
"""After SIGTERM a node is gone within 5 s, by its own promise."""


@frozen
class OwnNode:
    """A running node; `connect(name)` reaches it. `ready` is what it said when it began to listen."""

    name: str
    pid: int
    ready: dict[str, Any]


@contextmanager
def own_node(
    *, name: str | None = None, options: Sequence[str] = (), program: Sequence[str] = (sys.executable, "-m", "jcpeer")
) -> Iterator[OwnNode]:
    """A node in a process of its own, listening when the block begins and gone, with its state, when it ends.

    Args:
        name: Default: `run-` and this process's id.
        options: Further options of `jcpeer node`.

    Raises:
        NoNodeError: it did not come up; carries what it said last.
    """
    name = name or f"{OWN_PREFIX}{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="jcpeer-") as state, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*program, "node", "--name", name, "--json", "--until-eof", *options],
            stdin=subprocess.PIPE,  # never written to: it ends with us, however we end, and the node with it
            stdout=subprocess.PIPE,
            stderr=said,
            env={**os.environ, "JCPEER_STATE_DIR": state},
            # Ctrl-C is for us: the node must live on while we cancel and say goodbye.
            start_new_session=True,
        )
        try:
            yield OwnNode(name, process.pid, _await_ready(process, said))
        finally:
            _end(process)


def _await_ready(process: subprocess.Popen[bytes], said: IO[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    ready: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    # Reads on to the end: a node must not stop because nobody takes what it prints.
    threading.Thread(target=_read, args=(process.stdout, ready), daemon=True).start()
    try:
        found = ready.get(timeout=READY_S)
    except queue.Empty:
        raise NoNodeError(f"the node started for this run was not ready within {READY_S:.0f} s") from None
    if found is None:
        status = process.wait()
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"exit status {status}"
        raise NoNodeError(f"the node started for this run did not come up: {why}")
    return found


def _read(stdout: IO[bytes], ready: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    with stdout:
        for line in stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if isinstance(said, dict) and "listens" in said:
                ready.put(said)
    ready.put(None)


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(LEAVE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
