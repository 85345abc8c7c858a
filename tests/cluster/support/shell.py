"""Programs that the tests run: what they print, or an error that shows all of it."""

import subprocess


class Failed(AssertionError):
    """A program ended with another status than 0; `status` and `output` (both streams) say how."""

    def __init__(self, words, status, output):
        super().__init__(f"{' '.join(words)}\nended with status {status}:\n{output}")
        self.status = status
        self.output = output


def run(*words, stdin=None, timeout=90):
    """What the program printed. It fails where the program does, or where that takes longer than `timeout` seconds."""
    done = subprocess.run(words, input=stdin, text=True, capture_output=True, timeout=timeout)
    if done.returncode != 0:
        raise Failed(words, done.returncode, done.stdout + done.stderr)
    return done.stdout
