"""Programs that the tests run: their output, or an error that contains all of it."""

import subprocess


class Failed(AssertionError):
    """A program ended with another status than 0, which is in `status`; `output` has the text of both streams."""

    def __init__(self, words, status, output):
        super().__init__(f"{' '.join(words)}\nended with status {status}:\n{output}")
        self.status = status
        self.output = output


def run(*words, stdin=None, timeout=90):
    """Runs a program and returns its standard output. Fails if the program fails or takes longer than `timeout`
    seconds."""
    done = subprocess.run(words, input=stdin, text=True, capture_output=True, timeout=timeout)
    if done.returncode != 0:
        raise Failed(words, done.returncode, done.stdout + done.stderr)
    return done.stdout
