"""Machines for tests: network namespaces, each with places and a host name of its own, and real commands.

    with open_lan() as lan:
        ada, bob = lan.machine("ada"), lan.machine("bob")
        node = ada.start_node("--slots", "2")
        token = ada.run("grid", "invite").line

They are on one bridge (`open_lan`) or around one router (`open_wan`), which is in a namespace too, so nothing of it is
seen outside. Sockets on disk do cross namespaces: a test asks a node without the price of a new process. Whatever
happens, the end takes all processes and namespaces away.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil
import pytest
from attrs import define, frozen

from jcpeer.client import Grid
from jcpeer.client.blocking import SocketLink
from jcpeer.wire.requests import SeenNode

START_S = 20.0
"""Bound on a node's start, on a machine that does other things besides."""
COMMAND_S = 60.0
LOOK_S = 0.02
"""Between two looks at a condition."""

_PREFIX = "jcpeer-test"


@frozen
class Finished:
    """A command that has ended."""

    arguments: tuple[str, ...]
    status: int
    out: str
    err: str
    seconds: float

    @property
    def line(self) -> str:
        """The one line that it printed."""
        lines = self.out.splitlines()
        assert len(lines) == 1, f"{' '.join(self.arguments)} printed {len(lines)} lines: {self.out!r}; {self.err!r}"
        return lines[0]

    @property
    def data(self) -> Any:
        """The last object that it printed with --json."""
        return json.loads(self.out.splitlines()[-1])

    @property
    def events(self) -> list[Any]:
        """Every object that it printed with --json."""
        return [json.loads(line) for line in self.out.splitlines()]


@define(eq=False)
class Lines:
    """What a process prints on one stream, line by line, as it comes."""

    so_far: list[str]

    @classmethod
    def of(cls, stream: Any) -> Lines:
        lines = cls([])
        threading.Thread(target=lambda: lines.so_far.extend(_stripped(stream)), daemon=True).start()
        return lines

    def having(self, *texts: str) -> list[str]:
        """The lines so far that contain all of these."""
        return [line for line in list(self.so_far) if all(text in line for text in texts)]


def _stripped(stream: Any) -> Iterator[str]:
    with contextlib.suppress(ValueError):  # closed while we read
        for line in stream:
            yield line.rstrip("\n")


class RunningNode:
    """A `jcpeer node`; `listening` returns when it says that it listens."""

    def __init__(self, process: subprocess.Popen[str], machine: Machine) -> None:
        self.process = process
        self.machine = machine
        self.out, self.log = Lines.of(process.stdout), Lines.of(process.stderr)
        self.listening_since_s = 0.0

    def listening(self) -> RunningNode:
        def said_so() -> bool:
            assert self.process.poll() is None, f"the node ended with {self.process.poll()}: {self.log.so_far}"
            return bool(self.out.so_far)

        within(START_S, said_so, "the node listens")
        self.listening_since_s = time.monotonic()
        return self

    @property
    def ready(self) -> Any:
        """What it said when it listened, the last time: a node that moves to another grid says it again."""
        return json.loads(self.out.so_far[-1])

    @property
    def id(self) -> str:
        return str(self.ready["id"])

    @property
    def port(self) -> int:
        return int(self.ready["listens"][0].rsplit("/", 1)[-1])

    @property
    def dialled_at(self) -> str:
        """HOST:PORT, as a person names it."""
        return f"{self.machine.address}:{self.port}"

    @property
    def grid(self) -> Grid:
        return Grid(SocketLink(Path(self.ready["socket"]), patience_s=START_S))

    def nodes(self) -> dict[str, SeenNode]:
        """Its directory, by name, itself included."""
        with self.grid as grid:
            return {seen.record.name: seen for seen in grid.nodes().nodes}

    def notices(self) -> tuple[str, ...]:
        with self.grid as grid:
            return grid.nodes().notices

    def sees(self, *others: RunningNode) -> bool:
        """Whether its directory has itself and these, as they run now, and nobody else."""
        seen = {each.record.node for each in self.nodes().values()}
        return seen == {self.id, *(each.id for each in others)}

    def memory_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(5)

    def stop(self) -> None:
        """Politely; returns when it is gone."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


class Machine:
    """A computer on which a person runs commands: in a namespace, or, without `inside`, this one."""

    def __init__(
        self, name: str, directory: Path, *, user: str, inside: Sequence[str] = (), namespace: str = ""
    ) -> None:
        self.name = name
        self.directory = directory
        self.address = "127.0.0.1"
        self._inside = tuple(inside)
        self._namespace = namespace
        self._processes: list[subprocess.Popen[str]] = []
        directory.mkdir()
        places = {
            f"JCPEER_{each.upper()}_DIR": str(directory / each) for each in ("config", "data", "state", "runtime")
        }
        self._environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "HOME": str(directory),
            "LOGNAME": user,
            **places,
        }

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """A jcpeer command that goes on."""
        return self._begin(sys.executable, "-m", "jcpeer", *arguments, **environ)

    def _begin(self, *command: str, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self._inside, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self._environ, **environ},
            cwd=self.directory,
        )
        self._processes.append(process)
        return process

    def launch_node(self, *options: str) -> RunningNode:
        """A node, not waited for."""
        return RunningNode(self.start("node", "--json", *options), self)

    def start_node(self, *options: str) -> RunningNode:
        return self.launch_node(*options).listening()

    def try_to(self, *arguments: str, **environ: str) -> Finished:
        """A jcpeer command, run to its end, however that is."""
        started_s = time.monotonic()
        process = self.start(*arguments, **environ)
        out, err = process.communicate(timeout=COMMAND_S)
        return Finished(arguments, process.returncode, out, err, time.monotonic() - started_s)

    def run(self, *arguments: str, **environ: str) -> Finished:
        """The same, of a command that must succeed."""
        finished = self.try_to(*arguments, **environ)
        assert finished.status == 0, f"jcpeer {' '.join(arguments)}: {finished.status}, {finished.err}{finished.out}"
        return finished

    def python(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """A program of the test's own."""
        return self._begin(sys.executable, "-c", program, *arguments)

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def set_cable(self, *, plugged: bool) -> None:
        """Plug the machine's only cable in, or pull it."""
        _ip("-n", self._namespace, "link", "set", "eth0", "up" if plugged else "down")

    def close(self) -> None:
        """End all that was started here."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(5)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


class _Machines:
    """Machines in namespaces of their own, and what is between them in others."""

    programs: tuple[str, ...] = ("ip", "unshare", "hostname")

    def __init__(self, directory: Path, label: str) -> None:
        self._directory = directory
        self._label = label
        self._machines: list[Machine] = []
        self._namespaces: list[str] = []

    def open(self) -> None:
        """What is between the machines."""
        raise NotImplementedError

    def close(self) -> None:
        for machine in self._machines:
            machine.close()
        for namespace in self._namespaces:
            _remove_namespace(namespace)

    def add_machine(self, name: str, *, user: str) -> tuple[Machine, int, str]:
        """A machine with loopback alone, its number from 1, and its namespace."""
        number = len(self._machines) + 1
        namespace = f"{self._label}-{number}"
        self._add_namespace(namespace)
        inside = ("ip", "netns", "exec", namespace, "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name)
        machine = Machine(name, self._directory / f"{number}", user=user, inside=inside, namespace=namespace)
        self._machines.append(machine)
        return machine, number, namespace

    def _add_namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        self._namespaces.append(name)
        _ip("-n", name, "link", "set", "lo", "up")


class Lan(_Machines):
    """Machines on one bridge, over which multicast passes."""

    def __init__(self, directory: Path, label: str) -> None:
        super().__init__(directory, label)
        self._ports: dict[str, str] = {}

    @property
    def _bridge(self) -> str:
        return f"{self._label}-lan"

    def open(self) -> None:
        self._add_namespace(self._bridge)
        _ip("-n", self._bridge, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._bridge, "link", "set", "bridge", "up")

    def machine(self, name: str, *, user: str = "ada", cable: bool = True, multicast: bool = True) -> Machine:
        """A further machine, of this host name and person.

        Args:
            name: Its host name.
            user: Whose it is.
            cable: Without, it has loopback alone.
            multicast: Without, the bridge passes none on to it, as many a wireless network does.
        """
        machine, number, namespace = self.add_machine(name, user=user)
        if cable:
            port = f"port{number}"
            peer = ("peer", "name", "eth0", "netns", namespace)
            _ip("-n", self._bridge, "link", "add", port, "type", "veth", *peer)
            _ip("-n", self._bridge, "link", "set", port, "master", "bridge", "up")
            flood = "on" if multicast else "off"
            _ip("-n", self._bridge, "link", "set", port, "type", "bridge_slave", "mcast_flood", flood)
            self._ports[name] = port
            machine.address = f"10.77.{number}.1"
            _ip("-n", namespace, "address", "add", f"{machine.address}/16", "dev", "eth0")
            machine.set_cable(plugged=True)
        return machine

    def set_port(self, machine: Machine, *, on: bool) -> None:
        """Have the bridge pass on what comes from and goes to this machine, which is told nothing."""
        _ip("-n", self._bridge, "link", "set", self._ports[machine.name], "up" if on else "down")


class Wan(_Machines):
    """Sites and homes, every one a network of its own around one router, over which no multicast passes."""

    programs = (*_Machines.programs, "iptables")

    def __init__(self, directory: Path, label: str) -> None:
        super().__init__(directory, label)
        self._ports = self._homes = 0

    @property
    def _router(self) -> str:
        return f"{self._label}-router"

    def open(self) -> None:
        self._add_namespace(self._router)
        _ip("-n", self._router, "route", "add", "blackhole", "10.99.0.0/16")
        self.set_router(on=True)

    def set_router(self, *, on: bool) -> None:
        """Have it pass packets on, or not."""
        switch = f"echo {int(on)} > /proc/sys/net/ipv4/ip_forward"
        _ip("netns", "exec", self._router, "sh", "-c", switch)

    def site(
        self,
        name: str,
        *,
        user: str = "ada",
        firewall: Literal["none", "drops", "rejects"] = "none",
        private: str | None = None,
    ) -> Machine:
        """A further site, with one machine of this host name and person.

        Args:
            name: The machine's host name.
            user: Whose it is.
            firewall: It can dial others, and nobody can dial it: a knock is lost, or refused.
            private: An address of 10.99.0.0/16 that it has besides, and that from elsewhere leads nowhere.
        """
        machine, _, namespace = self.add_machine(name, user=user)
        machine.address = self._connect(namespace, private=private)
        if firewall != "none":
            then = "DROP" if firewall == "drops" else "REJECT"
            rule = ("-A", "INPUT", "-i", "eth0", "-p", "tcp", "--syn", "-j", then)
            _ip("netns", "exec", namespace, "iptables", *rule)
        return machine

    def home(self) -> Home:
        """A further network, of machines that share one address outside."""
        self._homes += 1
        namespace = f"{self._label}-home{self._homes}"
        self._add_namespace(namespace)
        self._connect(namespace)
        network = f"10.99.{self._homes}"
        _ip("-n", namespace, "link", "add", "bridge", "type", "bridge")
        _ip("-n", namespace, "address", "add", f"{network}.254/24", "dev", "bridge")
        _ip("-n", namespace, "link", "set", "bridge", "up")
        _ip("netns", "exec", namespace, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        translate = ("-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")
        _ip("netns", "exec", namespace, "iptables", *translate)
        return Home(self, namespace, network)

    def _connect(self, namespace: str, *, private: str | None = None) -> str:
        """A cable from there to the router; the address at that end of it."""
        self._ports += 1
        network, port = f"10.78.{self._ports}", f"port{self._ports}"
        _ip("-n", self._router, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("-n", self._router, "address", "add", f"{network}.254/24", "dev", port)
        _ip("-n", self._router, "link", "set", port, "up")
        address = f"{network}.1"
        for each in filter(None, (private, address)):
            _ip("-n", namespace, "address", "add", f"{each}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        _ip("-n", namespace, "route", "add", "default", "via", f"{network}.254", "src", address)
        return address


@frozen
class Home:
    """A local network behind a router that translates addresses, as most homes have: one can dial out of it only."""

    wan: Wan
    namespace: str
    network: str

    def machine(self, name: str, *, user: str = "ada") -> Machine:
        """A further machine in it."""
        machine, number, namespace = self.wan.add_machine(name, user=user)
        port = f"port{number}"
        peer = ("peer", "name", "eth0", "netns", namespace)
        _ip("-n", self.namespace, "link", "add", port, "type", "veth", *peer)
        _ip("-n", self.namespace, "link", "set", port, "master", "bridge", "up")
        machine.address = f"{self.network}.{number}"
        _ip("-n", namespace, "address", "add", f"{machine.address}/24", "dev", "eth0")
        machine.set_cable(plugged=True)
        _ip("-n", namespace, "route", "add", "default", "via", f"{self.network}.254")
        return machine


Network = TypeVar("Network", Lan, Wan)


def open_lan() -> AbstractContextManager[Lan]:
    """Machines on one local network. Skips the test, with the reason, where there cannot be one."""
    return _opened(Lan)


def open_wan() -> AbstractContextManager[Wan]:
    """Machines on networks of their own. Skips the test, with the reason, where there cannot be any."""
    return _opened(Wan)


@contextmanager
def _opened(kind: type[Network]) -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    if missing := [each for each in kind.programs if shutil.which(each) is None]:
        pytest.skip(f"needs the program {missing[0]}, for network namespaces")
    _remove_left_over()
    with _directory() as directory:
        network = kind(directory, f"{_PREFIX}-{os.getpid()}")
        try:
            try:
                network.open()
            except subprocess.CalledProcessError as error:
                pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
            yield network
        finally:
            network.close()


@contextmanager
def this_machine(*names: str) -> Iterator[list[Machine]]:
    """Machines without a network of their own: they share this one's loopback, and only that."""
    with _directory() as directory, contextlib.ExitStack() as stack:
        machines = [Machine(name, directory / name, user=name) for name in names]
        for machine in machines:
            stack.callback(machine.close)
        yield machines


def within(seconds: float, condition: Callable[[], object], what: str, *, since_s: float | None = None) -> float:
    """Wait until it holds; how long that took, since then or since the call. Fails when the time is over."""
    start_s = time.monotonic() if since_s is None else since_s
    while not condition():
        assert time.monotonic() - start_s < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(LOOK_S)
    return time.monotonic() - start_s


@contextmanager
def _directory() -> Iterator[Path]:
    """Short enough for the path of a socket, which pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="jcpeer-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10).stdout


def _remove_namespace(name: str) -> None:
    """With what a killed node may have left in it; a process ends by its id, and only if it is in there."""
    for pid in _ip("netns", "pids", name).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "delete", name)


def _remove_left_over() -> None:
    """Namespaces of a test process that was killed."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        owner = name.removeprefix(f"{_PREFIX}-").split("-")[0]
        if name.startswith(_PREFIX) and owner.isdigit() and not psutil.pid_exists(int(owner)):
            _remove_namespace(name)
