"""What goes on in threads of its own until it is over. Parts of a mixed load: readers in an open loop, and what watches
them; what else takes part is in uploaders.py, journal.py, chatters.py and soak.py.
"""

import collections
import contextlib
import os
import random
import threading
import time
import uuid

from harness import Client, quantile

READS = ["/api/gigs?sort=newest&limit=20", "/api/gigs?latitude=13.75&longitude=100.54&radius_km=5", "/api/gigs/my-gigs", "/api/users/me",
         "/api/chat/rooms", "/api/wallet", "/api/transactions/history", "/api/gigs/search?q=sofa",
         "/api/gigs/map?min_latitude=13&min_longitude=100&max_latitude=14&max_longitude=101&zoom=11",
         "/api/users/nearby?latitude=13.75&longitude=100.54", "/api/reviews/my-reviews"]
BAD = [("GET", "/api/gigs?limit=-1", None), ("GET", "/api/gigs/not-an-id", None), ("POST", "/api/gigs", {"title": "x"}),
       ("PUT", "/api/users/me", {"role": "ADMIN"}), ("POST", "/api/transactions/escrow", {"gig_id": "x"}),
       ("POST", "/api/reviews", {"gig_id": str(uuid.UUID(int=1)), "rating": 9}), ("GET", "/api/gigs?q=%00", None)]


class Weather:
    """What the faults do, and when they do it."""

    def __init__(self):
        self.kind = self.last = None
        self.ended = 0.0

    @contextlib.contextmanager
    def bad(self, kind):
        self.kind = kind
        try:
            yield
        finally:
            self.kind, self.last, self.ended = None, kind, time.monotonic()

    def was(self, kind, since):
        """Whether there was this fault at any time from `since` on."""
        return self.kind == kind or (self.last == kind and self.ended >= since)

    def was_calm(self, moment, before_s=3):
        return self.kind is None and self.ended < moment - before_s


class Load:
    """`count` threads that run until it is over, or break."""

    def __init__(self, count=1):
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(n,), daemon=True) for n in range(count)]
        self.broken = []

    def work(self, n):
        try:
            self.run(n)
        except BaseException as failure:  # pylint: disable=broad-except
            self.broken.append(repr(failure))
            raise

    def run(self, n):
        raise NotImplementedError

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


class Planned(Load):
    """An open loop: so many requests a second by plan, whatever becomes of those before; a latency counts from the
    planned time. What is late by `patience_s` is left out, where only the rate counts."""

    def __init__(self, count, rate, seed, patience_s=float("inf")):
        super().__init__(count)
        self.rate, self.random, self.patience_s = rate, random.Random(seed), patience_s
        self.lock, self.next = threading.Lock(), time.monotonic()

    def planned(self):
        with self.lock:
            self.next += self.random.expovariate(self.rate)
            return self.next, self.random.random(), self.random.randrange(1 << 30)

    def turns(self):
        """(planned time, a number in [0, 1), a large one) of each request that falls to this thread, when it is due."""
        while not self.over.is_set():
            at, roll, pick = self.planned()
            if self.over.wait(max(0, at - time.monotonic())):
                break
            if time.monotonic() - at < self.patience_s:
                yield at, roll, pick


class Readers(Planned):
    """Four of five are plain reads, the rest small writes and nonsense."""

    width = 16

    def __init__(self, server, folks, weather, rate, seed):
        super().__init__(self.width, rate, seed)
        self.server, self.folks, self.weather = server, folks, weather
        self.statuses, self.wrong = collections.Counter(), []
        self.times = collections.defaultdict(list)  # by what fault there was at the time, None when calm

    def run(self, n):
        person = self.folks[n % len(self.folks)]
        client = Client(self.server.base, person.token, check=False, timeout_s=10)
        for at, roll, pick in self.turns():
            kind = self.weather.kind
            method, target, body, bad = "GET", READS[pick % len(READS)], None, roll >= 0.95
            if bad:
                method, target, body = BAD[pick % len(BAD)]
            elif roll >= 0.8:
                method, target, body = "PUT", "/api/users/location", {"latitude": 13.7 + roll / 10, "longitude": 100.5}
            try:
                answer = client.call(method, target, body)
            except Exception:  # pylint: disable=broad-except
                self.statuses["cut"] += 1
                client.close()
                continue
            took = time.monotonic() - at
            self.statuses[answer.status] += 1
            calm = self.weather.was_calm(at)
            if calm or kind:
                self.times[kind].append(took)
            if answer.status >= 500 and (answer.status != 503 or (calm and self.weather.was_calm(time.monotonic()))):
                self.wrong.append(f"{method} {target}: {answer}")
            elif bad and answer.status < 400:
                self.wrong.append(f"taken: {method} {target}: {answer}")
        client.close()


class Watch(Load):
    """Asks again and again on a connection of its own; how long each answer took, and what it was."""

    def __init__(self, base, target, token=None, pause_s=0.005):
        super().__init__()
        self.base, self.target, self.token, self.pause_s = base, target, token, pause_s
        self.seen = []

    def run(self, n):
        with Client(self.base, self.token, check=False) as client:
            while not self.over.wait(self.pause_s):
                began = time.monotonic()
                answer = client.call("GET", self.target)
                self.seen.append((began, time.monotonic() - began, answer.status))

    def between(self, start, end):
        return [(seconds, status) for began, seconds, status in self.seen if start <= began <= end]


class Memory(Load):
    """The server's memory, once a second, while it is the same process."""

    def __init__(self, server):
        super().__init__()
        self.server, self.samples = server, []

    def run(self, n):
        while not self.over.wait(1):
            with contextlib.suppress(OSError, ValueError):
                pid = self.server.pid
                with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
                    self.samples.append((time.monotonic(), pid, int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)))

    def level(self, since, until):
        """MiB, the median of this time; None of nothing."""
        some = [mib for at, pid, mib in self.samples if since <= at < until and pid == self.server.pid]
        return quantile(some, 0.5) if some else None

    def slope(self, since):
        """MiB a minute, by least squares; 0 of too little."""
        points = [(at, mib) for at, pid, mib in self.samples if at >= since and pid == self.server.pid]
        if len(points) < 5:
            return 0.0
        middle, level = (sum(each) / len(points) for each in zip(*points))
        spread = sum((at - middle) ** 2 for at, _ in points)
        return sum((at - middle) * (mib - level) for at, mib in points) / spread * 60
