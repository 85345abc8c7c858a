"""The packets on the loopback interface, captured by tcpdump: beginnings and ends of connections."""

import re
import socket
import subprocess

from programs import Program, find

FLAGS = "tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0"


class Capture(Program):
    """A running capture of every SYN, FIN and RST of some loopback ports."""

    def __init__(self, file, ports):
        self.file = file
        self.mark = socket.create_server(("127.0.0.1", 0))
        ports = [*ports, port_of(self.mark)]
        wanted = " or ".join(f"port {port}" for port in ports)
        # A small snapshot length leaves room for many packets in the kernel's ring; none may be lost.
        command = [find("tcpdump"), "-i", "lo", "-n", "-s", "128", "-B", "16384", "-Z", "root",
                   "-U", "--immediate-mode", "-w", file, f"({FLAGS}) and ({wanted})"]
        super().__init__(command, file + ".log")
        self.wait_for_line("listening on")

    def catch_up(self):
        """Waits until everything up to now is in the file, by making one more connection and waiting for its packets.
        """
        port = port_of(self.mark)
        before = self.connections(port)
        with socket.create_connection(("127.0.0.1", port)):
            self.wait_until(lambda: self.connections(port) > before, "our mark in it")

    def finish(self):
        """Ends the capture properly; a capture that lost packets proves nothing and is an error."""
        self.catch_up()
        self.mark.close()
        self.stop()
        words = "\n".join(self.lines())
        lost = re.search(r"(\d+) packets? dropped by kernel", words)
        if lost is None or lost[1] != "0":
            raise RuntimeError(f"the capture is not complete:\n{words}")

    def connections(self, port):
        """Returns the number of connections to a port that were begun until now."""
        return self._count(f"dst port {port} and tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn")

    def resets(self, upstream, listener):
        """Returns the number of RSTs that the proxy between these two ports has sent until now, to either side."""
        sent = f"(dst port {upstream} or src port {listener})"
        return self._count(f"{sent} and tcp[tcpflags] & tcp-rst != 0")

    def _count(self, wanted):
        command = [find("tcpdump"), "-r", self.file, "-n", wanted]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        return len(done.stdout.splitlines())


def port_of(listener):
    """Returns the port of a listening socket."""
    return listener.getsockname()[1]
