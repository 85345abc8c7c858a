"""The servers of a run: started on a chosen core, measured, and stopped by process id even after errors."""

import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_running = []
_priority = 0
_lock = threading.Lock()


class Ended(Exception):
    """A server did not start, or ended early; the text has its name and its last output."""


@dataclass(frozen=True)
class Cpu:
    """CPU time in seconds: `total` is exact to the nanosecond, its parts are the kernel's estimate."""

    total: float
    user: float
    system: float

    def since(self, earlier):
        """Returns the CPU time between two readings, with the parts scaled to the exact total."""
        total = self.total - earlier.total
        user, system = self.user - earlier.user, self.system - earlier.system
        parts = (user + system) or 1.0
        return Cpu(total, total * user / parts, total * system / parts)


def prefer(priority):
    """Sets the nice value of this run and of all processes that it starts from now on."""
    global _priority
    _priority = priority
    os.setpriority(os.PRIO_PROCESS, 0, priority)


def start_on(core, command, **settings):
    """Starts a command on a core; `taskset` replaces itself by the command, so that the process id is the command's."""
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is passed on by this run
        **settings,
    )
    # Linux weighs sessions before the nice values of the processes inside them.
    autogroup = Path(f"/proc/{process.pid}/autogroup")
    if _priority and autogroup.exists():
        autogroup.write_text(str(_priority))
    return process


class Server:
    """A running server, with its children."""

    def __init__(self, name, command, core, directory, environment=None):
        self.name = name
        self.log = Path(directory) / f"{name}.log"
        with open(self.log, "wb") as log:
            self._process = start_on(core, command, stderr=log, env={**os.environ, **(environment or {})})
        with _lock:
            _running.append(self)
        # No server may block on a full pipe: the output is kept, and `stop` returns it.
        self._output = []
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    def _read_output(self):
        self._output.extend(self._process.stdout)

    @property
    def pid(self):
        """Returns the id of the started process, in which `taskset` has become the server."""
        return self._process.pid

    def wait_for_port(self, *ports, limit=20.0):
        """Waits until every port accepts connections."""
        end = time.monotonic() + limit
        for port in ports:
            while not _accepts(port):
                if self._process.poll() is not None or time.monotonic() > end:
                    raise Ended(f"port {port} does not accept: {self._fate()}")
                time.sleep(0.02)
        return self

    def _fate(self):
        status = self._process.poll()
        fate = "runs" if status is None else f"ended with status {status}"
        self._reader.join(0.2)
        said = b"".join(self._output[-5:]) + self.log.read_bytes()[-1500:]
        return f"{self.name} {fate}, and wrote: {said.decode(errors='replace').strip()}"

    def processes(self):
        """Returns the process ids of the server and of all its descendants."""
        found, queue = [], [self.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            try:
                queue += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            except OSError:
                continue
        return found

    def _assert_running(self):
        if self._process.poll() is not None:
            raise Ended(self._fate())

    def cpu(self):
        """Returns the CPU time used so far by the server, all its threads and all its living descendants."""
        self._assert_running()
        readings = [_cpu_of(pid) for pid in self.processes()]
        return Cpu(*(sum(part) for part in zip(*readings)))

    def memory(self):
        """Returns the resident KiB of all processes together: `rss`, and `private`, the part that is not shared."""
        self._assert_running()
        sums = {"rss": 0, "private": 0}
        for pid in self.processes():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
                field, value = line.split()[:2]
                sums["rss"] += int(value) * (field == "Rss:")
                sums["private"] += int(value) * field.startswith("Private_")
        return sums

    def stop(self):
        """Ends the server, waits until it is gone, and returns its standard output."""
        with _lock:
            if self in _running:
                _running.remove(self)
        everyone = self.processes()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            for pid in everyone:
                _kill(pid)
            self._process.wait()
        self._reader.join(5)
        return b"".join(self._output).decode(errors="replace")


def stop_all():
    """Stops every server of this run that still runs."""
    while True:
        with _lock:
            if not _running:
                return
            server = _running[-1]
        server.stop()


def stop_on_signals():
    """Makes SIGTERM and SIGHUP end the run as Ctrl-C does, so that the servers are stopped then too."""

    def interrupt(number, _frame):
        raise KeyboardInterrupt(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)


def _accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _cpu_of(pid):
    # The clock of a whole process by its id, as clock_getcpuclockid(3) computes it: of all threads, including ended
    # ones.
    total = time.clock_gettime_ns((~pid << 3) | 2) / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return total, int(fields[11]) / _TICKS, int(fields[12]) / _TICKS
