"""Machines of a network on one machine: Linux network namespaces, joined by a bridge, each with limited bandwidth.

Each namespace has a network card of its own and no other way to the others, so MPI must send its messages through it. A
token bucket limits what a card sends. Making namespaces needs Linux, the program `ip` of iproute2, and root.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from ...errors import UsageError, how_to_install

# mpiexec starts its processes on "hosts" by ssh; this program takes the place of ssh and enters a namespace instead.
SSH = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
host=$1; shift
exec ip netns exec PREFIX${host##*.} sh -c "$*"
"""


class Network:
    """`count` namespaces at 10.98.0.1, 10.98.0.2, ..., each sending at most `mbits` Mbit/s; use it in a `with` block.

    Raises UsageError if the system does not allow namespaces.
    """

    def __init__(self, count: int, mbits: float) -> None:
        self.hosts = [f"10.98.0.{i}" for i in range(1, count + 1)]
        self.mbits, self.prefix, self.bridge = mbits, f"tinynet{os.getpid()}-", f"tinynet{os.getpid()}-bridge"
        self._names: list[str] = []

    def __enter__(self) -> Network:
        if not (sys.platform == "linux" and shutil.which("ip") and os.geteuid() == 0):
            raise UsageError("--mbits needs network namespaces: Linux, the program ip (iproute2), and root")
        self._folder = tempfile.TemporaryDirectory()
        self._ssh = Path(self._folder.name) / "enter"
        self._ssh.write_text(SSH.replace("PREFIX", self.prefix))
        self._ssh.chmod(0o755)
        try:
            self._build()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        self._folder.cleanup()

    def _build(self) -> None:
        self._namespace(self.bridge)
        self._inside(self.bridge, "link add bridge0 type bridge")
        self._inside(self.bridge, "addr add 10.98.0.254/24 dev bridge0")
        self._inside(self.bridge, "link set bridge0 up")
        for i, host in enumerate(self.hosts, 1):
            name = f"{self.prefix}{i}"
            self._namespace(name)
            self._inside(name, f"link add eth0 type veth peer name port{i} netns {self.bridge}")
            self._inside(self.bridge, f"link set port{i} master bridge0 up")
            self._inside(name, f"addr add {host}/24 dev eth0")
            self._inside(name, "link set eth0 up")
            _run(f"tc -n {name} qdisc add dev eth0 root tbf rate {self.mbits}mbit burst 128kb latency 50ms")

    def _namespace(self, name: str) -> None:
        _run(f"ip netns add {name}")
        self._names.append(name)
        self._inside(name, "link set lo up")

    def _inside(self, name: str, command: str) -> None:
        _run(f"ip -n {name} {command}")

    def launcher(self, mpiexec: str) -> list[str]:
        """The words before a program that start it once in each namespace."""
        hosts = ",".join(self.hosts)
        words = f"ip netns exec {self.bridge} {mpiexec} -localhost 10.98.0.254 -hosts {hosts} -ppn 1"
        return [*words.split(), "-launcher", "ssh", "-launcher-exec", str(self._ssh), "-n", str(len(self.hosts))]

    def environment(self) -> dict[str, str]:
        """Variables without which MPI would see one machine, and use its memory and not its network."""
        return {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": "eth0", "MPIR_CVAR_NOLOCAL": "1"}


def _run(command: str) -> None:
    done = subprocess.run(shlex.split(command), capture_output=True, text=True)
    if done.returncode:
        raise UsageError(f"network namespaces cannot be made here: `{command}`: {done.stderr.strip()}")


def find_mpiexec() -> str:
    """The mpiexec beside this Python, or the first in PATH. Raises UsageError if there is none."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("mpiexec", path=places)
    if found is None:
        raise UsageError(f"there is no mpiexec: install it with {how_to_install('mpi')}")
    return found
