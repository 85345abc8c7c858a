"""The settings of a run that every row needs: proxies, cores, certificates, durations and repetitions."""

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .peers import Task
from .upstream import Upstream


@dataclass(frozen=True)
class Bench:
    """A run; the proxies take turns in the order of `proxies`."""

    certificates: object
    directory: Path
    proxy_core: int
    load_core: int
    proxies: tuple
    relay: str  # the path of the relay's program
    rounds: int
    seconds: int  # the length of each measurement under load
    quick: bool
    say: object  # a function that reports progress to people
    ended: object  # an event, set when the run ends or is interrupted

    def task(self, upstream_port, **settings):
        """Returns a task for one proxy, on the proxy's core unless `core` is given."""
        settings = {"core": self.proxy_core, **settings}
        return Task(upstream_port, self.certificates, self.directory, **settings)

    @property
    def every_core(self):
        """Returns both cores, for work that is counted and not timed."""
        return f"{self.load_core},{self.proxy_core}"

    def upstream(self, name):
        """Returns an nginx upstream on the load's core, which needs ports before it is started."""
        return Upstream(name, self.certificates, self.directory, self.load_core)


@contextmanager
def stopping(*things):
    """Stops everything in `things`, including lists of things, when the block ends."""
    try:
        yield
    finally:
        for thing in things:
            for each in list(thing) if isinstance(thing, list) else [thing]:
                each.stop()
