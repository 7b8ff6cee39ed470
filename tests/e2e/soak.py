"""Mixed load with faults thrown in at random, and what must hold at the end: `./dev soak [MINUTES]`, and in short the suite
`e2e.soak`.

Readers send in an open loop: each request has its planned time, and its latency counts from there. Beside them writers keep
a journal of what they were told (journal.py), devices sit in chat rooms (chatters.py), and racers accept one gig from many
sides, release and refund one payment at once, send one key several times over several connections, and cut connections
before their answer. Faults come one after the other. Then it is calm, for the latency and the memory of a server that
nothing happens to; then everything open is settled and held against the database.
"""

import asyncio
import collections
import contextlib
import dataclasses
import json
import os
import random
import resource
import signal
import socket
import sys
import threading
import time
import uuid

import harness
from chatters import Crowd, Device, make_rooms
from clocks import Clock
from harness import Client, Person, Raw, family_of, gig, is_running, quantile, run, signal_all, slack, wait_for
from journal import Journal
from volumes import server_on_volumes

READS = ["/api/gigs?sort=newest&limit=20", "/api/gigs?latitude=13.75&longitude=100.54&radius_km=5", "/api/gigs/my-gigs", "/api/users/me",
         "/api/chat/rooms", "/api/wallet", "/api/transactions/history", "/api/gigs/search?q=sofa",
         "/api/gigs/map?min_latitude=13&min_longitude=100&max_latitude=14&max_longitude=101&zoom=11",
         "/api/users/nearby?latitude=13.75&longitude=100.54", "/api/reviews/my-reviews"]
BAD = [("GET", "/api/gigs?limit=-1", None), ("GET", "/api/gigs/not-an-id", None), ("POST", "/api/gigs", {"title": "x"}),
       ("PUT", "/api/users/me", {"role": "ADMIN"}), ("POST", "/api/transactions/escrow", {"gig_id": "x"}),
       ("POST", "/api/reviews", {"gig_id": str(uuid.UUID(int=1)), "rating": 9}), ("GET", "/api/gigs?q=%00", None)]
DESCRIPTORS = 1400
# Connections to the database that a server opens when it is busy, and keeps.
POOL = 16 + 4
LOST = (OSError, EOFError, AssertionError, ValueError)


@dataclasses.dataclass
class Plan:
    seconds: float  # of calm, after the faults
    faults: dict
    rate: int  # requests a second in the open loop
    writers: int
    rooms: int
    races: int
    cuts: int


SHORT = Plan(6, {"kill": 3, "stop": 1, "freeze": 1, "disk": 1, "descriptors": 1, "slow": 1, "clock": 1}, 20, 3, 3, 20, 20)
TARGETS = {"kill": 25, "stop": 5, "freeze": 5, "disk": 3, "descriptors": 2, "slow": 2, "clock": 3}


def plan(minutes):
    """All of the targets within five minutes; longer runs are longer in both halves."""
    part = minutes / 5
    faults = {kind: max(1, round(count * part)) for kind, count in TARGETS.items()}
    return Plan(max(10, minutes * 60 * 0.4), faults, 60, 8, 10, round(1000 * part), round(500 * part))


class Weather:
    """What the faults do, and when they do it."""

    def __init__(self):
        self.since, self.kind = None, None
        self.ended = 0.0

    @contextlib.contextmanager
    def bad(self, kind):
        self.kind = kind
        try:
            yield
        finally:
            self.kind, self.ended = None, time.monotonic()

    def was_calm(self, moment, before_s=3):
        return self.kind is None and self.ended < moment - before_s


class Load:
    """A part of the load, in threads of its own until it is over."""

    def __init__(self, count):
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


class Readers(Load):
    """The open loop: so many requests a second by plan, four of five plain reads, the rest small writes and nonsense."""

    width = 16

    def __init__(self, server, folks, weather, rate, seed):
        super().__init__(self.width)
        self.server, self.folks, self.weather, self.rate = server, folks, weather, rate
        self.random = random.Random(seed)
        self.lock, self.next = threading.Lock(), time.monotonic()
        self.statuses, self.calm, self.all, self.wrong = collections.Counter(), [], [], []

    def planned(self):
        with self.lock:
            self.next += self.random.expovariate(self.rate)
            return self.next, self.random.random(), self.random.randrange(1 << 30)

    def run(self, n):
        person = self.folks[n % len(self.folks)]
        client = Client(self.server.base, person.token, check=False, timeout_s=10)
        while not self.over.is_set():
            at, roll, pick = self.planned()
            if self.over.wait(max(0, at - time.monotonic())):
                break
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
            self.all.append(took)
            calm = self.weather.was_calm(at)
            if calm:
                self.calm.append(took)
            if answer.status >= 500 and (answer.status != 503 or (calm and self.weather.was_calm(time.monotonic()))):
                self.wrong.append(f"{method} {target}: {answer}")
            elif bad and answer.status < 400:
                self.wrong.append(f"taken: {method} {target}: {answer}")
        client.close()


class Racers(Load):
    """One gig from many sides, one payment two ways, one key many times, and connections cut before the answer."""

    def __init__(self, server, seeker, admin, helpers, wanted, seed):
        super().__init__(2)
        self.server, self.seeker, self.admin, self.helpers, self.races, self.cuts = server, seeker, admin, helpers, wanted.races, wanted.cuts
        self.seed = seed
        self.winners, self.payments, self.titles = collections.defaultdict(set), collections.defaultdict(set), {}
        self.done = collections.Counter()

    def busy(self):
        return self.done["accepts"] < self.races or self.done["payments"] < self.races or self.done["cuts"] < self.cuts

    def run(self, n):
        chance = random.Random(f"{self.seed} {n}")
        while not self.over.is_set():
            try:
                with contextlib.ExitStack() as stack:
                    peers = [stack.enter_context(contextlib.closing(Raw(self.server.address(), person.token, 5)))
                             for person in (self.seeker, self.admin, *self.helpers)]
                    while not self.over.is_set():
                        self.race(*peers)
                        for _ in range(2):
                            self.cut(peers, chance)
            except LOST:
                self.done["interrupted"] += 1
                self.over.wait(0.05)

    @staticmethod
    def until(peer, status, method, target, body=None, **headers):
        """Again while the answer is that it cannot be said now."""
        for _ in range(100):
            told, _, data = peer.ask(method, target, body, **headers)
            if told != 503:
                break
        assert told in status, (told, data)
        return json.loads(data)

    def race(self, seeker, admin, *helpers):
        one = self.until(seeker, (201,), "POST", "/api/gigs", gig(title=f"Race {uuid.uuid4()}"), Idempotency_Key=str(uuid.uuid4()))["id"]
        for peer in helpers:
            peer.send("POST", f"/api/gigs/{one}/accept")
        for person, peer in zip(self.helpers, helpers):
            if peer.read()[0] == 200:
                self.winners[one].add(person.id)
        self.done["accepts"] += 1
        paid = self.until(seeker, (201,), "POST", "/api/transactions/escrow", {"gig_id": one}, Idempotency_Key=str(uuid.uuid4()))["id"]
        for status in ("IN_PROGRESS", "COMPLETED"):
            self.until(seeker, (200, 409), "PUT", f"/api/gigs/{one}/status", {"status": status})
        seeker.send("PUT", f"/api/transactions/{paid}/release")
        admin.send("PUT", f"/api/transactions/{paid}/refund")
        for peer in (seeker, admin):
            status, _, body = peer.read()
            if status == 200:
                self.payments[paid].add(json.loads(body)["status"])
        self.done["payments"] += 1

    def cut(self, peers, chance):
        """One key: several times at once, in any order, on connections that end before they are answered; then once more."""
        key, title = str(uuid.uuid4()), f"Cut {uuid.uuid4()}"
        copies = [Raw(self.server.address(), self.seeker.token, 5) for _ in range(chance.randrange(1, 4))]
        self.titles[title] = None
        for copy in copies:
            copy.send("POST", "/api/gigs", gig(title=title), Idempotency_Key=key)
        if chance.random() < 0.5:
            self.over.wait(chance.uniform(0, 0.005))
        for copy in copies:
            if chance.random() < 0.5:
                # With a reset, as from a client that is gone.
                copy.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            copy.close()
        self.settle(peers[0], title, key)
        self.done["cuts"] += 1

    def settle(self, peer, title, key):
        for _ in range(200):
            status, _, body = peer.ask("POST", "/api/gigs", gig(title=title), Idempotency_Key=key)
            if status == 201:
                self.titles[title] = json.loads(body)["id"]
                return
            assert status in (409, 503), body
            self.over.wait(0.01)

    def check(self, database):
        """(lost, doubled), of what was told and what is stored."""
        stored = {row[0]: row[1] for row in database.sql("SELECT id, coalesce(helper_id::text, '') FROM gigs WHERE title LIKE 'Race %'")}
        accepts = {row[0]: int(row[1]) for row in database.sql("SELECT gig_id, count(*) FROM gig_events WHERE action = 'ACCEPT' GROUP BY 1")}
        lost = sum(stored.get(one) not in told for one, told in self.winners.items())
        doubled = sum(len(told) > 1 for told in self.winners.values()) + sum(count > 1 for one, count in accepts.items() if one in stored)
        money = {row[0]: row[1] for row in database.sql("SELECT id, status FROM transactions")}
        lost += sum(told != {money.get(paid)} for paid, told in self.payments.items() if len(told) == 1)
        doubled += sum(len(told) > 1 for told in self.payments.values())
        posted = collections.defaultdict(list)
        for title, one in database.sql("SELECT title, id FROM gigs WHERE title LIKE 'Cut %'"):
            posted[title].append(one)
        lost += sum(one is not None and one not in posted[title] for title, one in self.titles.items())
        doubled += sum(len(ids) > 1 for ids in posted.values())
        return lost, doubled


class Memory(Load):
    """The server's memory, once a second, while it is the same process."""

    def __init__(self, server):
        super().__init__(1)
        self.server, self.samples = server, []

    def run(self, n):
        while not self.over.wait(1):
            with contextlib.suppress(OSError, ValueError):
                pid = self.server.pid
                with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
                    self.samples.append((time.monotonic(), pid, int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)))

    def slope(self, since):
        """MiB a minute, by least squares; 0 of too little."""
        points = [(at, mib) for at, pid, mib in self.samples if at >= since and pid == self.server.pid]
        if len(points) < 5:
            return 0.0
        middle, level = (sum(each) / len(points) for each in zip(*points))
        spread = sum((at - middle) ** 2 for at, _ in points)
        return sum((at - middle) * (mib - level) for at, mib in points) / spread * 60


class Faults:
    """Each leaves the server ready again, and says how long that took."""

    def __init__(self, server, log, clock, weather, seed):
        self.server, self.log, self.clock_file, self.weather = server, log, clock, weather
        self.random, self.took = random.Random(seed), collections.defaultdict(list)

    def ready(self):
        def answers():
            with contextlib.suppress(Exception), Client(self.server.base, check=False, timeout_s=5) as client:
                return client.call("GET", "/health/ready").status == 200
            return False

        wait_for(answers, "ready", slack(60))

    def all_of(self, counts):
        kinds = [kind for kind, count in counts.items() for _ in range(count)]
        self.random.shuffle(kinds)
        for kind in kinds:
            wait_for(lambda until=time.monotonic() + self.random.uniform(0.5, 1.5): time.monotonic() > until, "a pause")
            with self.weather.bad(kind):
                began = getattr(self, kind)()
                self.ready()
                self.took[kind].append(time.monotonic() - began)

    def kill(self):
        self.server.kill()
        began = time.monotonic()
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


class Soak:
    def __init__(self, wanted, seed):
        self.plan, self.seed = wanted, seed
        self.rows, self.failures = [], []

    def row(self, what, figure, target="", met=True):
        self.rows.append((what, figure, target, "" if met else "MISSED"))

    def must(self, what, found):
        """Of a check that raises, what it said becomes a failure of the run."""
        try:
            return found()
        except AssertionError as failure:
            self.failures.append(f"{what}: {str(failure)[:600]}")
            return None

    async def run(self, server, log, clock):
        base, wanted = server.base, self.plan
        weather, loop = Weather(), asyncio.get_running_loop()
        folks = [Person(base, f"Soaker {n}", check=False, timeout_s=120) for n in range(2 * wanted.writers + 8)]
        for person in folks:
            person.close()
        admin = folks[-1]
        granted = run("admin", "grant", admin.email, data_directory=server.directory)
        assert granted.returncode == 0, granted.stderr
        admin.login()
        admin.close()
        pairs = list(zip(folks[: 2 * wanted.writers : 2], folks[1 : 2 * wanted.writers : 2]))
        pair, racing = folks[-8:-6], folks[-6:]
        rooms = make_rooms(*pair, wanted.rooms)
        devices = [Device([base], pair[n % 2], room, n, 0.3 if n < 2 else None) for room in rooms for n in range(4)]
        faults = Faults(server, log, clock, weather, self.seed)
        readers = Readers(server, [person for each in pairs for person in each], weather, wanted.rate, self.seed)
        racers = Racers(server, racing[0], admin, racing[1:5], wanted, self.seed)
        memory = Memory(server)
        baseline = server.descriptors()
        began = time.monotonic()
        async with Crowd(devices) as crowd:
            with Journal(base, pairs, self.seed) as journal:
                with memory, readers, racers:
                    await loop.run_in_executor(None, faults.all_of, wanted.faults)
                    calm = time.monotonic()
                    await loop.run_in_executor(None, faults.hold, wanted.seconds)
                    # The races that the faults left no time for.
                    await loop.run_in_executor(None, wait_for, lambda: not racers.busy() or racers.broken, "all races", 600)
                    calm_s = time.monotonic() - calm
            self.must("ready", faults.ready)
            last = await crowd.settle(server.database(), 60)
            self.must("chat", lambda: crowd.check(server.database(), last))
        self.judge(server, journal, crowd, readers, racers, faults, memory)
        self.resources(server, memory, calm + 0.25 * calm_s, calm_s, baseline)
        self.row("seconds in all", f"{time.monotonic() - began:.0f}")

    def judge(self, server, journal, crowd, readers, racers, faults, memory):
        bounds = {"kill": 2, "stop": 5, "freeze": 5, "disk": 5, "descriptors": 5, "slow": 5, "clock": 5}
        for kind, took in sorted(faults.took.items()):
            self.row(f"{kind}: ready again after, median of {len(took)}", f"{quantile(took, 0.5):.2f} s, at most {max(took):.2f} s",
                     f"< {bounds[kind]} s", quantile(took, 0.5) < bounds[kind])
        settled = self.must("journal", lambda: journal.check(server.database()))
        counts, happened = settled or (journal.counts(), "?")
        self.row("writes told ok / refused / open", f"{counts['ok']} / {counts['fail']} / {counts['info']}")
        self.row("of the open ones had happened", happened)
        lost, doubled = racers.check(server.database())
        self.row("accept races, payment races, cuts", "{accepts}, {payments}, {cuts}".format_map(racers.done),
                 f"{self.plan.races}, {self.plan.races}, {self.plan.cuts}", not racers.busy())
        self.row("lost", lost + (settled is None), "0", lost == 0)
        self.row("doubled", doubled, "0", doubled == 0)
        if lost or doubled:
            self.failures.append(f"races: lost {lost}, doubled {doubled}")
        audit = run("admin", "audit-ledger", data_directory=server.directory)
        total = server.database().sql("SELECT coalesce(sum(amount), 0) FROM ledger_entries")[0][0]
        self.row("ledger: sum, chains", f"{total}, {'whole' if audit.returncode == 0 else 'BROKEN'}", "0, whole", audit.returncode == 0)
        if audit.returncode != 0 or total != "0":
            self.failures.append(f"ledger: {total} {audit.stdout}{audit.stderr}")
        self.row("messages", crowd.figures())
        self.row("answers to the open loop", dict(sorted(readers.statuses.items(), key=str)))
        if readers.wrong:
            self.failures.append(f"{len(readers.wrong)} answers that should not be: {readers.wrong[:3]}")
        self.row("wrong answers, 5xx to bad input among them", len(readers.wrong), "0", not readers.wrong)
        calm = readers.calm or [0]
        self.row("open loop when calm", f"{len(calm)} requests, p50 {quantile(calm, 0.5) * 1e3:.1f} ms, p99 {quantile(calm, 0.99) * 1e3:.1f} ms")
        for part in (readers, racers, memory):
            self.failures += part.broken

    def resources(self, server, memory, since, calm_s, baseline):
        slope = memory.slope(since)
        self.row(f"memory when calm, over {calm_s * 0.75:.0f} s", f"{slope:+.2f} MiB a minute, {memory.samples[-1][2]:.0f} MiB", "< 0.5", slope < 0.5)
        try:
            wait_for(lambda: server.descriptors() <= baseline + POOL, "descriptors are back", 20)
        except AssertionError:
            self.failures.append(f"descriptors: {server.descriptors()} of {baseline}")
        self.row("descriptors, now and at first", f"{server.descriptors()}, {baseline}", f"+{POOL} at most", server.descriptors() <= baseline + POOL)
        if calm_s > 100 and slope >= 0.5:
            self.failures.append(f"memory grows by {slope:.2f} MiB a minute")

    def table(self):
        width = max(len(row[0]) for row in self.rows)
        lines = [f"{what:{width}}  {figure!s:<44}  {target:<12} {missed}".rstrip() for what, figure, target, missed in self.rows]
        return "\n".join([f"seed {self.seed}", *lines, *(f"FAILED {each}" for each in self.failures)])


def soak(wanted, seed):
    """The run, told at its end whether all holds."""
    with harness.scratch() as folder:
        clock = Clock(folder)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 4096),) * 2)
        wrap = [*clock.wrap(), "prlimit", f"--nofile={DESCRIPTORS}"]
        with server_on_volumes(0, 400, wrap=wrap, sockets_per_user=1000, access_token_s=21600) as (server, _, log):
            made = Soak(wanted, seed)
            asyncio.run(made.run(server, log, clock))
            return made


if __name__ == "__main__":
    finished = soak(plan(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0), int(harness.SEED))
    print(finished.table())
    sys.exit(1 if finished.failures else 0)
