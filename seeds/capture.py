"""What went over the loopback interface, as tcpdump saw it: beginnings and ends of connections."""

import re
import signal
import socket
import subprocess

from programs import Program, find

FLAGS = "tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0"


class Capture:
    """A running capture of every SYN, FIN and RST on loopback."""

    def __init__(self, file):
        self.file = file
        command = [find("tcpdump"), "-i", "lo", "-n", "-U", "--immediate-mode", "-B", "16384",
                   "-Z", "root", "-w", file, FLAGS]
        self.tcpdump = Program(command, file + ".log")
        self.tcpdump.wait_for_line("listening on")

    def catch_up(self):
        """Waits until everything up to now is in the file: until a connection of our own can be seen in it."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)):
                self.tcpdump.wait_until(lambda: self.connections(port), "our mark in the capture")

    def stop(self):
        """Ends it; a capture that lost packets proves nothing and is an error."""
        self.catch_up()
        self.tcpdump.stop(signal.SIGINT)
        words = "\n".join(self.tcpdump.lines())
        lost = re.search(r"(\d+) packets? dropped by kernel", words)
        if lost is None or lost[1] != "0":
            raise RuntimeError(f"the capture is not complete:\n{words}")

    def connections(self, port):
        """The source ports from which connections to a port were begun."""
        begun = self._packets(f"dst port {port} and tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn")
        return [re.search(r"127\.0\.0\.1\.(\d+) >", packet)[1] for packet in begun]

    def resets(self, upstream, listener):
        """How many RSTs the proxy between these two ports sent, to either side."""
        sent = f"(dst port {upstream} or src port {listener})"
        return len(self._packets(f"{sent} and tcp[tcpflags] & tcp-rst != 0"))

    def _packets(self, wanted):
        command = [find("tcpdump"), "-r", self.file, "-n", wanted]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        return done.stdout.splitlines()
