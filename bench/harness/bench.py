"""What every row needs to know of the run: proxies, cores, certificates, how long and how often."""

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .peers import Task
from .upstream import Upstream


@dataclass(frozen=True)
class Bench:
    """One run. `proxies` in the order in which they take turns."""

    certificates: object
    directory: Path
    proxy_core: int
    load_core: int
    proxies: tuple
    relay: str  # the relay's program
    rounds: int
    seconds: int  # of each measurement under load
    quick: bool
    say: object  # progress, for people
    ended: object  # an event: somebody interrupted the run

    def task(self, upstream_port, **settings):
        """The work of one proxy, on the proxy's core where `core` does not say otherwise."""
        settings = {"core": self.proxy_core, **settings}
        return Task(upstream_port, self.certificates, self.directory, **settings)

    @property
    def every_core(self):
        """For work that is counted, not timed."""
        return f"{self.load_core},{self.proxy_core}"

    def upstream(self, name):
        """An nginx upstream on the load's core, to be given ports and started."""
        return Upstream(name, self.certificates, self.directory, self.load_core)


@contextmanager
def stopping(*things):
    """Stops everything in `things`, lists of things too, when the block ends."""
    try:
        yield
    finally:
        for thing in things:
            for each in list(thing) if isinstance(thing, list) else [thing]:
                each.stop()
