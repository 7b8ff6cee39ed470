"""What can befall a server and its machine while it works. Each leaves the server ready again, and says since when it could
have been: a database that is frozen cannot be ready before it thaws.
"""

import collections
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time

from harness import Client, family_of, is_running, run_as, signal_all, slack, wait_for

DESCRIPTORS = 1400
# How soon it must be ready again after each.
BOUNDS_S = {"kill": 2, "stop": 5, "freeze": 5, "disk": 5, "files": 5, "descriptors": 5, "slow": 5, "clock": 5, "pressure": 5}
NEED_A_MOUNT = ("disk", "files")


class Faults:
    """Each leaves the server ready again, and says how long that took."""

    def __init__(self, server, log, store, clock, weather, seed, say=lambda text: None):
        """`log` and `store`: the volumes of PostgreSQL's log and of the files. `say`: told of each fault when it begins."""
        self.server, self.log, self.store, self.clock_file, self.weather = server, log, store, clock, weather
        self.random, self.took, self.say = random.Random(seed), collections.defaultdict(list), say
        self.broken = []

    def ready(self):
        def answers():
            with contextlib.suppress(Exception), Client(self.server.base, check=False, timeout_s=5) as client:
                return client.call("GET", "/health/ready").status == 200
            return False

        wait_for(answers, "ready", slack(60))

    def all_of(self, counts):
        kinds = [kind for kind, count in counts.items() for _ in range(count)]
        self.random.shuffle(kinds)
        for n, kind in enumerate(kinds, 1):
            self.hold(self.random.uniform(0.5, 1.5))
            self.say(f"fault {n} of {len(kinds)}: {kind}")
            with self.weather.bad(kind):
                try:
                    began = getattr(self, kind)()
                except (AssertionError, OSError, subprocess.SubprocessError) as failure:
                    self.mend(f"{kind}, fault {n}: {failure}")
                    continue
                self.ready()
                self.took[kind].append(time.monotonic() - began)

    def mend(self, failure):
        """What befell it was too much. That fails the run, which goes on: what it tells of the rest is wanted too."""
        self.broken.append(failure)
        self.say(f"FAILED {failure}\n{self.server.last_words()}")
        if self.server.process.poll() is not None:
            self.server.start(wait_ready=False)
        self.ready()

    def kill(self):
        """From the signal on: a process that will not go keeps its port and its directory."""
        began = time.monotonic()
        self.server.kill()
        self.server.start(wait_ready=False)
        return began

    def stop(self):
        postmaster, began = self.server.postmaster(), time.monotonic()
        signal_all([postmaster], signal.SIGQUIT)
        wait_for(lambda: self.server.postmaster() not in (0, postmaster), "a new postmaster", 20)
        return began

    def hold(self, seconds):
        until = time.monotonic() + seconds
        wait_for(lambda: time.monotonic() > until, "the time of a fault", seconds + 5)

    def freeze(self):
        family = family_of(self.server.postmaster())
        signal_all(family, signal.SIGSTOP)
        signal_all(set(family_of(family[0])) - set(family), signal.SIGSTOP)
        self.hold(3)
        signal_all(family_of(family[0]), signal.SIGCONT)
        return time.monotonic()

    def disk(self):
        postmaster = self.server.postmaster()
        self.log.fill()
        try:
            # The segments that are there already are used up first.
            def stopped():
                with contextlib.suppress(AssertionError, OSError, IndexError):
                    self.server.database().sql("SELECT pg_switch_wal()")
                return not is_running(postmaster)

            wait_for(stopped, "PostgreSQL has stopped", 60)
            self.hold(1)
        finally:
            self.log.free()
        return time.monotonic()

    def files(self):
        """No room for another picture, but for all else."""
        self.store.fill()
        try:
            self.hold(2)
        finally:
            self.store.free()
        return time.monotonic()

    def descriptors(self):
        """More who connect than it has descriptors."""
        peers = []
        try:
            for _ in range(DESCRIPTORS + 100):
                with contextlib.suppress(OSError):
                    peers.append(socket.create_connection(self.server.address(), timeout=0.5))
            self.hold(2)
        finally:
            for peer in peers:
                peer.close()
        return time.monotonic()

    def slow(self):
        """A thousand who send a byte now and then; nobody else is to notice."""
        peers = []
        try:
            for _ in range(1000):
                with contextlib.suppress(OSError):
                    peer = socket.create_connection(self.server.address(), timeout=1)
                    peer.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: ")
                    peers.append(peer)
            for _ in range(3):
                for peer in peers:
                    with contextlib.suppress(OSError):
                        peer.send(b"y")
                self.hold(0.7)
        finally:
            for peer in peers:
                peer.close()
        return time.monotonic()

    def clock(self):
        self.clock_file.set(self.random.choice((3600, 600, -20)))
        self.hold(1.5)
        self.clock_file.set(0)
        return time.monotonic()

    def limit_memory(self, most):
        """By the server's own user, who alone may where root is a container's."""
        as_user = {"user": run_as().pw_uid, "group": run_as().pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        subprocess.run(["prlimit", "--pid", str(self.server.pid), f"--as={most}:unlimited"], check=True, **as_user)

    def pressure(self):
        """D13: others take the processors, and of memory there is no more than it has."""
        spin = [sys.executable, "-c", "while True: pass"]
        others = [subprocess.Popen(spin) for _ in range(2 * os.cpu_count())]
        try:
            with open(f"/proc/{self.server.pid}/statm", encoding="ascii") as statm:
                has = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            self.limit_memory(has + (1 << 20))
            self.hold(3)
            self.limit_memory("unlimited")
        finally:
            for other in others:
                other.kill()
                other.wait()
        assert is_running(self.server.pid), "it died for want of memory"
        return time.monotonic()
