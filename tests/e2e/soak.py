"""Mixed load with faults thrown in at random, and what must hold at the end: `./dev soak [MINUTES]`, and in short the suite
`e2e.soak`.

Readers (loads.py) and uploaders (uploaders.py) send in an open loop: each request has its planned time, and its latency
counts from there. Beside them writers keep a journal of what they were told (journal.py), devices sit in chat rooms
(chatters.py), and racers accept one gig from many sides, release and refund one payment at once, send one key several times
over several connections, and cut connections before their answer. Faults (faults.py) come one after the other. Then it is
calm, for the latency and the memory of a server that nothing happens to; then everything open is settled and held against
the database and the files.
"""

import asyncio
import collections
import contextlib
import dataclasses
import json
import random
import resource
import socket
import sys
import time
import uuid

import harness
from chatters import Crowd, Device, make_rooms
from clocks import Clock
from faults import BOUNDS_S, DESCRIPTORS, Faults
from harness import Person, Raw, gig, quantile, run, run_as, wait_for
from journal import Journal
from loads import Load, Memory, Readers, Weather
from uploaders import Uploaders
from volumes import Volume, server_on_volumes

# Connections to the database that a server opens when it is busy, and keeps.
POOL = 16 + 4
LOST = (OSError, EOFError, AssertionError, ValueError)


@dataclasses.dataclass
class Plan:
    seconds: float  # of calm, after the faults
    faults: dict
    rate: int  # requests a second in the open loop
    uploads: float  # a second, and three reads of files for each
    writers: int
    rooms: int
    races: int
    cuts: int


SHORT = Plan(6, dict.fromkeys(BOUNDS_S, 1) | {"kill": 3}, 20, 4, 3, 3, 20, 20)
TARGETS = {"kill": 25, "stop": 5, "freeze": 5, "disk": 3, "files": 3, "descriptors": 2, "slow": 2, "clock": 3, "pressure": 2}


def plan(minutes):
    """All of the targets within five minutes; longer runs are longer in both halves."""
    part = minutes / 5
    faults = {kind: max(1, round(count * part)) for kind, count in TARGETS.items()}
    return Plan(max(10, minutes * 60 * 0.4), faults, 60, 3, 8, 10, round(1000 * part), round(500 * part))


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

    async def run(self, server, log, store, clock):
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
        faults = Faults(server, log, store, clock, weather, self.seed)
        people = [person for each in pairs for person in each]
        readers = Readers(server, people, weather, wanted.rate, self.seed)
        uploaders = Uploaders(server, people, weather, wanted.uploads, self.seed)
        racers = Racers(server, racing[0], admin, racing[1:5], wanted, self.seed)
        memory = Memory(server)
        baseline = server.descriptors()
        began = time.monotonic()
        async with Crowd(devices) as crowd:
            with Journal(base, pairs, self.seed) as journal:
                with memory, readers, racers, uploaders:
                    await loop.run_in_executor(None, faults.all_of, wanted.faults)
                    calm = time.monotonic()
                    await loop.run_in_executor(None, faults.hold, wanted.seconds)
                    # The races that the faults left no time for.
                    await loop.run_in_executor(None, wait_for, lambda: not racers.busy() or racers.broken, "all races", 600)
                    calm_s = time.monotonic() - calm
            self.must("ready", faults.ready)
            last = await crowd.settle(server.database(), 60)
            self.must("chat", lambda: crowd.check(server.database(), last))
        self.judge(server, journal, crowd, readers, racers, faults)
        self.judge_files(server, uploaders, store.path)
        self.resources(server, memory, calm + 0.25 * calm_s, calm_s, baseline)
        strays = self.must("sweeping", lambda: uploaders.swept(server, store.path))
        self.row("files without a row, after a new start", "0" if strays is not None else "SOME", "0", strays is not None)
        for part in (readers, racers, uploaders, memory):
            self.failures += part.broken
        self.row("seconds in all", f"{time.monotonic() - began:.0f}")

    def judge(self, server, journal, crowd, readers, racers, faults):
        for kind, took in sorted(faults.took.items()):
            self.row(f"{kind}: ready again after, median of {len(took)}", f"{quantile(took, 0.5):.2f} s, at most {max(took):.2f} s",
                     f"< {BOUNDS_S[kind]} s", quantile(took, 0.5) < BOUNDS_S[kind])
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
        for kind, what in ((None, "when calm"), ("slow", "beside 1,000 slow clients"), ("files", "without room for files")):
            times = readers.times[kind] or [0]
            self.row(f"open loop {what}", f"{len(times)} requests, p50 {quantile(times, 0.5) * 1e3:.1f} ms, "
                     f"p99 {quantile(times, 0.99) * 1e3:.1f} ms", *(("p99 < 100 ms", quantile(times, 0.99) < 0.1) if kind == "slow" else ()))

    def judge_files(self, server, uploaders, folder):
        self.row("uploads", dict(sorted(uploaders.statuses.items(), key=str)))
        self.row("reads of files", dict(sorted(uploaders.reads.items(), key=str)))
        whole = self.must("files", lambda: uploaders.check(server.database(), folder))
        self.row("uploads answered 201, whole at the end", f"{len(uploaders.kept)}, {'all' if whole is not None else 'NOT ALL'}", "all", whole is not None)
        if uploaders.wrong:
            self.failures.append(f"{len(uploaders.wrong)} files or uploads answered wrongly: {uploaders.wrong[:3]}")
        self.row("wrong answers about files", len(uploaders.wrong), "0", not uploaders.wrong)

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
        settings = {"sockets_per_user": 1000, "access_token_s": 21600, "upload_quota_files": 100_000, "upload_quota_mb": 10_000,
                    "files_directory": f"{folder}/files"}
        with Volume(f"{folder}/files", 400, run_as()) as store:
            with server_on_volumes(0, 400, wrap=wrap, **settings) as (server, _, log):
                made = Soak(wanted, seed)
                asyncio.run(made.run(server, log, store, clock))
                return made


if __name__ == "__main__":
    finished = soak(plan(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0), int(harness.SEED))
    print(finished.table())
    sys.exit(1 if finished.failures else 0)
