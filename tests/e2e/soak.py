"""Mixed load with faults thrown in at random, and what must hold at the end: `./dev soak [MINUTES] [--table FILE]`, and in
short the suite `e2e.soak`.

Readers (loads.py) and uploaders (uploaders.py) send in an open loop: each request has its planned time, and its latency
counts from there. Beside them writers keep a journal of what they were told (journal.py), devices sit in chat rooms
(chatters.py), and racers accept one gig from many sides, release and refund one payment at once, send one key several times
over several connections, and cut connections before their answer: all of it at rates that leave the processors some rest.
Faults (faults.py) come one after the other. For the rest of the time it is calm, for the latency and the memory of a server
that works and nothing happens to; then everything open is settled and held against the database and the files.
"""

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import json
import random
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
import traceback
import types
import uuid

import harness
from chatters import Crowd, Device, make_rooms
from clocks import Clock
from faults import BOUNDS_S, DESCRIPTORS, NEED_A_MOUNT, Faults
from harness import Person, Raw, gig, quantile, run, run_as, server_errors, wait_for
from journal import Journal
from loads import Memory, Planned, Readers, Weather
from uploaders import Uploaders
from volumes import Volume, can_mount, server_on_volumes

# Connections to the database that a server opens when it is busy, and keeps: two for reads a thread and sixteen, and three
# that are nobody's request (what listens, what holds the lock of the jobs, what asks whether the database is there).
POOL = 2 * os.cpu_count() + 16 + 3
# Memory is judged where it was watched for so long: in less, one large answer is a slope.
WATCH_S, SLOPE_MIB_A_MINUTE = 600, 0.5
# Runs of this length watch memory, and fill before what is bounded and would be full in an hour.
WARM_S = 180
# How much more it may have at the end than when it was warm.
MORE_MIB = 16
LOST = (OSError, EOFError, AssertionError, ValueError)
BEGAN = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {text}", file=sys.stderr, flush=True)


@dataclasses.dataclass
class Plan:
    seconds: float  # of all that is under load
    calm: float  # seconds of it at least that are calm, after the faults
    faults: dict
    rate: int  # requests a second in the open loop
    uploads: float  # a second, and three reads of files for each
    writers: int
    rest: float  # seconds of a writer between two operations, on average
    rooms: int
    races: int
    cuts: int
    turns: float  # of racers a second: two races for each cut
    strict: bool = True  # whether a missed target fails the run


SHORT = Plan(0, 6, dict.fromkeys(BOUNDS_S, 1) | {"kill": 3}, 20, 2, 3, 0.05, 3, 20, 20, 4, strict=False)
TARGETS = {"kill": 25, "stop": 5, "freeze": 5, "disk": 3, "files": 3, "descriptors": 2, "slow": 2, "clock": 3, "pressure": 2}


def plan(minutes):
    """The targets once, whatever is left of the time calm: of 30 minutes some 27. Below five, a part of each."""
    part, seconds = min(1, minutes / 5), minutes * 60
    faults = {kind: max(1, round(count * part)) for kind, count in TARGETS.items()}
    races, cuts = round(1000 * part), round(500 * part)
    return Plan(seconds, max(10, seconds / 5), faults, 60, 2, 8, 0.2, 10, races, cuts, max(3, 1.3 * (races + cuts) / seconds))


class Racers(Planned):
    """One gig from many sides, one payment two ways, one key many times, and connections cut before the answer."""

    def __init__(self, server, seeker, admin, helpers, wanted, seed):
        super().__init__(4, wanted.turns, seed, patience_s=1)
        self.server, self.seeker, self.admin, self.helpers, self.races, self.cuts = server, seeker, admin, helpers, wanted.races, wanted.cuts
        self.seed = seed
        self.winners, self.payments, self.titles = collections.defaultdict(set), collections.defaultdict(set), {}
        self.done, self.statuses = collections.Counter(), collections.Counter()

    def busy(self):
        return self.done["accepts"] < self.races or self.done["payments"] < self.races or self.done["cuts"] < self.cuts

    def run(self, n):
        chance = random.Random(f"{self.seed} {n}")
        while not self.over.is_set():
            try:
                with contextlib.ExitStack() as stack:
                    peers = [stack.enter_context(contextlib.closing(Raw(self.server.address(), person.token, 5)))
                             for person in (self.seeker, self.admin, *self.helpers)]
                    for _, roll, _ in self.turns():
                        if roll < 2 / 3:
                            self.race(*peers)
                        else:
                            self.cut(peers, chance)
            except LOST:
                self.done["interrupted"] += 1
                self.over.wait(0.05)

    def read(self, peer):
        status, _, body = peer.read()
        self.statuses[status] += 1
        return status, body

    def ask(self, peer, *arguments, **named):
        peer.send(*arguments, **named)
        return self.read(peer)

    def until(self, peer, status, method, target, body=None, **headers):
        """Again while the answer is that it cannot be said now."""
        for _ in range(100):
            told, data = self.ask(peer, method, target, body, **headers)
            if told != 503:
                break
            self.over.wait(0.02)
        assert told in status, (told, data)
        return json.loads(data)

    def race(self, seeker, admin, *helpers):
        one = self.until(seeker, (201,), "POST", "/api/gigs", gig(title=f"Race {uuid.uuid4()}"), Idempotency_Key=str(uuid.uuid4()))["id"]
        for peer in helpers:
            peer.send("POST", f"/api/gigs/{one}/accept")
        for person, peer in zip(self.helpers, helpers):
            if self.read(peer)[0] == 200:
                self.winners[one].add(person.id)
        self.done["accepts"] += 1
        paid = self.until(seeker, (201,), "POST", "/api/transactions/escrow", {"gig_id": one}, Idempotency_Key=str(uuid.uuid4()))["id"]
        for status in ("IN_PROGRESS", "COMPLETED"):
            self.until(seeker, (200, 409), "PUT", f"/api/gigs/{one}/status", {"status": status})
        seeker.send("PUT", f"/api/transactions/{paid}/release")
        admin.send("PUT", f"/api/transactions/{paid}/refund")
        for peer in (seeker, admin):
            status, body = self.read(peer)
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
            status, body = self.ask(peer, "POST", "/api/gigs", gig(title=title), Idempotency_Key=key)
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
        if not met and self.plan.strict:
            self.failures.append(f"missed: {what}: {figure} instead of {target}")

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
        devices = [Device([base], pair[n % 2], room, n, 1 if n < 2 else None) for room in rooms for n in range(4)]
        faults = Faults(server, log, store, clock, weather, self.seed, say)
        people = [person for each in pairs for person in each]
        readers = Readers(server, people, weather, wanted.rate, self.seed)
        uploaders = Uploaders(server, people, weather, wanted.uploads, self.seed)
        racers = Racers(server, racing[0], admin, racing[1:5], wanted, self.seed)
        memory = Memory(server)
        baseline = server.descriptors()
        began = time.monotonic()
        say(f"load begins, and {sum(wanted.faults.values())} faults")
        async with Crowd(devices) as crowd:
            with Journal(base, pairs, self.seed, rest_s=wanted.rest) as journal:
                with memory, readers, racers, uploaders:
                    await loop.run_in_executor(None, faults.all_of, wanted.faults)
                    calm = time.monotonic()
                    calm_s = max(wanted.calm, wanted.seconds - (calm - began))

                    def progress():
                        say(f"calm for {time.monotonic() - calm:.0f} of {calm_s:.0f} s: {sum(readers.statuses.values())} requests, "
                            f"{sum(journal.statuses().values())} writes, {len(uploaders.kept)} pictures, {dict(racers.done)}, "
                            f"{memory.samples[-1][2] if memory.samples else 0:.0f} MiB")

                    if wanted.seconds >= WARM_S:
                        filled = await loop.run_in_executor(None, uploaders.warm)
                        say(f"the shelf of pictures is full, with {filled >> 20} MiB")
                    while (left := calm + calm_s - time.monotonic()) > 0:
                        progress()
                        await loop.run_in_executor(None, faults.hold, min(30, left))
                    # The races that the faults left no time for.
                    await loop.run_in_executor(None, wait_for, lambda: not racers.busy() or racers.broken, "all races", 600)
                    calm_s = time.monotonic() - calm
            say("load ends; what is open is settled, and all of it held against the database and the files")
            self.failures += faults.broken
            self.must("ready", faults.ready)
            last = await crowd.settle(server.database(), 60)
            self.must("chat", lambda: crowd.check(server.database(), last))
        self.judge_times(faults, readers)
        self.judge(server, journal, crowd, readers, racers)
        self.judge_files(server, uploaders, store.path)
        self.judge_answers(journal, racers, readers, uploaders)
        self.resources(server, memory, calm, calm_s, baseline)
        strays = self.must("sweeping", lambda: uploaders.swept(server, store.path))
        self.row("files without a row, after a new start", "0" if strays is not None else "SOME", "0", strays is not None)
        for part in (readers, racers, uploaders, memory):
            self.failures += part.broken
        self.row("seconds in all", f"{time.monotonic() - began:.0f}")

    def judge_times(self, faults, readers):
        for kind, count in sorted(self.plan.faults.items()):
            took = faults.took[kind] or [float("inf")]
            self.row(f"{kind}, {len(faults.took[kind])} of {count}: ready again after",
                     f"median {quantile(took, 0.5):.2f} s, most {max(took):.2f} s",
                     f"all < {BOUNDS_S[kind]} s", max(took) < BOUNDS_S[kind] and len(took) == count)
        if left_out := [kind for kind in NEED_A_MOUNT if kind not in self.plan.faults]:
            self.row("left out, since only root can mount a small file system", ", ".join(left_out))
        for kind, what in ((None, "when calm"), ("slow", "beside 1,000 slow clients"), ("files", "without room for files")):
            if times := readers.times[kind]:
                self.row(f"open loop {what}", f"{len(times)} requests, p50 {quantile(times, 0.5) * 1e3:.1f} ms, "
                         f"p99 {quantile(times, 0.99) * 1e3:.1f} ms", *(("p99 < 100 ms", quantile(times, 0.99) < 0.1) if kind == "slow" else ()))

    def judge_answers(self, journal, racers, readers, uploaders):
        """Every status that anybody was told. Of 5xx 503 alone, and 507 to an upload, whose moment is looked at there."""
        told = {"the open loop": readers.statuses, "writers": journal.statuses(), "racers": racers.statuses,
                "uploads": uploaders.statuses, "reads of files": uploaders.reads}
        for who, statuses in told.items():
            self.row(f"answers to {who}", " ".join(f"{status}:{count}" for status, count in sorted(statuses.items(), key=str)))
        wrong = {who: found for who, each in told.items() if (found := server_errors(each, (503, 507) if who == "uploads" else (503,)))}
        if odd := {status: count for status, count in racers.statuses.items() if status not in (200, 201, 409, 503)}:
            wrong["racers"] = odd
        self.row("5xx but 503 (and 507 of a full disk)", wrong or "0", "0", not wrong)
        if wrong:
            self.failures.append(f"answers that no fault excuses: {wrong}")

    def judge(self, server, journal, crowd, readers, racers):
        settled = self.must("journal", lambda: journal.check(server.database()))
        counts, happened = settled or (journal.counts(), "?")
        self.row("writes told ok / refused / open", f"{counts['ok']} / {counts['fail']} / {counts['info']}")
        if counts["fail"]:
            self.failures.append(f"{counts['fail']} writes were refused")
        self.row("of the open ones had happened", happened)
        lost, doubled = racers.check(server.database())
        self.row("accept races, payment races, cuts", "{accepts}, {payments}, {cuts}".format_map(racers.done),
                 f"{self.plan.races}, {self.plan.races}, {self.plan.cuts}", not racers.busy())
        self.row("lost", lost + (settled is None), "0", lost == 0 and settled is not None)
        self.row("doubled", doubled, "0", doubled == 0)
        if lost or doubled:
            self.failures.append(f"races: lost {lost}, doubled {doubled}")
        audit = run("admin", "audit-ledger", data_directory=server.directory)
        total = server.database().sql("SELECT coalesce(sum(amount), 0) FROM ledger_entries")[0][0]
        self.row("ledger: sum, chains", f"{total}, {'whole' if audit.returncode == 0 else 'BROKEN'}", "0, whole", audit.returncode == 0)
        if audit.returncode != 0 or total != "0":
            self.failures.append(f"ledger: {total} {audit.stdout}{audit.stderr}")
        self.row("messages", crowd.figures())
        if readers.wrong:
            self.failures.append(f"{len(readers.wrong)} answers that should not be: {readers.wrong[:3]}")
        self.row("wrong answers, 5xx to bad input among them", len(readers.wrong), "0", not readers.wrong)

    def judge_files(self, server, uploaders, folder):
        whole = self.must("files", lambda: uploaders.check(server.database(), folder))
        self.row("uploads answered 201, whole at the end", f"{len(uploaders.kept)}, {'all' if whole is not None else 'NOT ALL'}", "all", whole is not None)
        if uploaders.wrong:
            self.failures.append(f"{len(uploaders.wrong)} files or uploads answered wrongly: {uploaders.wrong[:3]}")
        self.row("wrong answers about files", len(uploaders.wrong), "0", not uploaders.wrong)

    def resources(self, server, memory, calm, calm_s, baseline):
        """Against what it had when it was warm: memory after the first quarter of the calm or three minutes of it."""
        since, until = calm + min(180, calm_s / 4), calm + calm_s
        slope, judged = memory.slope(since), until - since >= WATCH_S
        self.row(f"memory when calm, over {until - since:.0f} s", f"{slope:+.2f} MiB a minute",
                 f"< {SLOPE_MIB_A_MINUTE}" if judged else f"from {WATCH_S} s on", slope < SLOPE_MIB_A_MINUTE or not judged)
        warm, last = memory.level(since, since + 60), memory.level(until - 60, until)
        if until - since >= 180 and warm and last:
            self.row("memory when warm, and at the end", f"{warm:.0f} MiB, {last:.0f} MiB", f"+{MORE_MIB} MiB at most", last - warm <= MORE_MIB)
        self.back("descriptors, at first and now", baseline, server.descriptors, baseline + POOL)
        self.back("PostgreSQL connections", "", lambda: len(server.database().sql(
            "SELECT pid FROM pg_stat_activity WHERE usename LIKE 'hourz%'")), POOL)
        self.back("of them in a transaction", "", lambda: len(server.database().sql(
            "SELECT pid FROM pg_stat_activity WHERE usename LIKE 'hourz%' AND state <> 'idle'")), 0)

    def back(self, what, first, count, most):
        """What must come down to so many once nobody asks for anything."""
        with contextlib.suppress(AssertionError):
            wait_for(lambda: count() <= most, what, 20, 0.2)
        now = count()
        self.row(what, f"{first}, {now}" if first else now, f"{most} at most", now <= most)
        if now > most and not self.plan.strict:
            self.failures.append(f"{what}: {now}, {most} at most")

    def table(self):
        width = max((len(row[0]) for row in self.rows), default=0)
        lines = [f"{what:{width}}  {figure!s:<44}  {target:<12} {missed}".rstrip() for what, figure, target, missed in self.rows]
        return "\n".join([f"seed {self.seed}", *lines, *(f"FAILED {each}" for each in self.failures)])

    def markdown(self, command):
        """The same for people, with what it was run on."""
        def git(*arguments):
            return subprocess.run(["git", "-C", harness.ROOT, *arguments], capture_output=True, text=True, check=False).stdout.strip()

        commit = git("rev-parse", "--short=10", "HEAD") + (" with changes" if git("status", "--porcelain", "--untracked-files=no") else "")
        gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
        rows = [[str(each).replace("|", "\\|") for each in row] for row in self.rows]
        return "\n".join([
            "# The fault and abuse run", "",
            f"Made by `{command}`: {'all targets met' if not self.failures else 'FAILED'}. Commit {commit or 'unknown'}, "
            f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {os.cpu_count()} cores that the server, PostgreSQL and all clients "
            f"share, {gib:.0f} GiB of memory, seed {self.seed}. What it does is in [testing.md](testing.md).", "",
            "| what | figure | target | |", "| --- | --- | --- | --- |",
            *(f"| {' | '.join(row)} |".replace("  ", " ") for row in rows), "",
            *(f"- FAILED {each}" for each in self.failures)]).rstrip() + "\n"


@contextlib.contextmanager
def stage(folder, wanted, **settings):
    """(server, the volume of PostgreSQL's log, that of the files); without root, no volumes and a plain folder."""
    files = f"{folder}/files"
    if can_mount():
        # Room for every picture, and for as much of the log as there is between two checkpoints.
        with Volume(files, 400 + round(0.3 * wanted.uploads * wanted.seconds), run_as()) as store:
            with server_on_volumes(0, 800, files_directory=files, **settings) as (server, _, log):
                yield server, log, store
    else:
        os.mkdir(files)
        wanted.faults = {kind: count for kind, count in wanted.faults.items() if kind not in NEED_A_MOUNT}
        with harness.server(files_directory=files, **settings) as server:
            yield server, None, types.SimpleNamespace(path=files)


def soak(wanted, seed):
    """The run, told at its end whether all holds. What ends it early is a failure of it too. Of a failed one the server's log
    is kept, in build/soak.log."""
    wanted = dataclasses.replace(wanted)
    with harness.scratch() as folder:
        clock = Clock(folder)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 4096),) * 2)
        wrap = [*clock.wrap(), "prlimit", f"--nofile={DESCRIPTORS}"]
        settings = {"sockets_per_user": 1000, "access_token_s": 21600, "upload_quota_files": 100_000, "upload_quota_mb": 10_000}
        with stage(folder, wanted, wrap=wrap, **settings) as (server, log, store):
            made = Soak(wanted, seed)
            try:
                asyncio.run(made.run(server, log, store, clock))
            except Exception as failure:  # pylint: disable=broad-except
                traceback.print_exc()
                made.failures.append(f"the run ended early: {failure!r}")
            if made.failures:
                with contextlib.suppress(OSError):
                    shutil.copy(server.log_path, f"{harness.ROOT}/build/soak.log")
                say(f"FAILED; the end of the server's log, all of which is in build/soak.log:\n{server.last_words()}")
            return made


def main():
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__.partition("\n\n")[0])
    parser.add_argument("minutes", nargs="?", type=float, default=5.0)
    parser.add_argument("--table", metavar="FILE", help="write the closing table there too, as Markdown")
    asked = parser.parse_args()
    finished = soak(plan(asked.minutes), int(harness.SEED))
    print(finished.table())
    if asked.table:
        with open(asked.table, "w", encoding="utf-8") as file:
            file.write(finished.markdown(f"./dev soak {asked.minutes:g} --table {asked.table}"))
    return 1 if finished.failures else 0


if __name__ == "__main__":
    sys.exit(main())
