"""M08, M10: eight clients pay, cancel, release, dispute and split at random, many of them at once and twice, while the server
is killed and PostgreSQL is stopped. Every answer must be one that the reference model gives (money_model.py), and at the
end every gig, payment, account and chain must be as the model has it, with nothing stuck.

10,000 steps with HOURZ_TEST_SECONDS=30, which .ci/run sets; 1,200 otherwise. HOURZ_TEST_SEED makes another history.
"""

import collections
import json
import os
import random
import signal
import threading
import time
import uuid

import harness
import money_model
from harness import Person, Raw, run, sanitized, together, wait_for
from money_model import ACCEPTED, CANCELLED, COMPLETED, DISPUTED, IN_PROGRESS, PENDING

SECONDS = float(os.environ.get("HOURZ_TEST_SECONDS", "10"))
STEPS = 10_000 if SECONDS >= 30 else 600 if sanitized() else 1_200
FAULTS = 15 if SECONDS >= 30 else 3
CLIENTS = 8
PAYMENT = "(SELECT id FROM transactions WHERE request_key = 'key {}' AND status <> 'FAILED')"


class Operation:
    """One request, as it goes over the wire and as the model takes it."""

    def __init__(self, person, method, path, body=None, *steps, twice=False):
        self.person, self.method, self.path, self.body, self.steps = person, method, path, body, list(steps)
        self.key = str(uuid.uuid4())
        self.twice, self.lost, self.answers = twice, False, []

    def forms(self):
        """One whose answer was lost may have happened before; one with a key happens once."""
        if self.steps[0][0] == "open":
            return [self.steps, [self.steps[0], *self.steps]]
        once = self.method == "POST" or not self.lost
        return [self.steps] if once else [self.steps, self.steps * 2]


class Lane:
    """A connection that is made anew when it broke."""

    def __init__(self, address):
        self.address, self.peer = address, None

    def send(self, operation):
        try:
            if self.peer is None:
                self.peer = Raw(self.address)
            named = {"Authorization": f"Bearer {operation.person.token}"}
            if operation.method == "POST":
                named["Idempotency_Key"] = operation.key
            self.peer.send(operation.method, operation.path, operation.body, **named)
        except OSError:
            self.close()

    def read(self):
        """(status, document), or (0, None) when none came."""
        try:
            if self.peer is not None:
                status, _, body = self.peer.read()
                return status, json.loads(body) if body else None
        except (OSError, EOFError, AssertionError):
            self.close()
        return 0, None

    def close(self):
        if self.peer is not None:
            self.peer.close()
        self.peer = None


def settled(status, document):
    return 0 < status < 500 and not (status == 409 and document["code"] == "idempotency_in_progress")


class Client:
    """Has gigs of its own, which it moves with everybody's tokens; the accounts of people are everybody's."""

    def __init__(self, server, number, people, admin, seed):
        self.server, self.people, self.admin = server, people, admin
        self.by_id = {**{person.id: person for person in people}, "admin": admin}
        self.seeker = people[number]
        self.random = random.Random(seed)
        self.lanes = [Lane(server.address()) for _ in range(6)]
        self.gigs, self.open, self.steps, self.pause = [], [], 0, threading.Event()
        self.seen, self.last = collections.Counter(), set()

    # ---- asking ----------------------------------------------------------------------------------------------------

    def ask(self, operations):
        """All at once; then each again, with its key, until its answer is settled."""
        waiting = [each for each in operations for _ in range(1 + each.twice)]
        deadline = time.monotonic() + harness.slack(60)
        while waiting:
            for lane, operation in zip(self.lanes, waiting):
                lane.send(operation)
            unsettled, self.last = [], set()
            for lane, operation in zip(self.lanes, waiting):
                status, document = lane.read()
                self.seen[status] += 1
                self.last.add(status)
                if settled(status, document):
                    operation.answers.append((status, document))
                else:
                    operation.lost = True
                    unsettled.append(operation)
            waiting = unsettled
            assert not waiting or time.monotonic() < deadline, f"not settled: {waiting[0].path} {self.seen}"
            if waiting:
                self.pause.wait(0.1 if 0 in self.last else 0.02)

    def read(self, path):
        one = Operation(self.seeker, "GET", path)
        self.ask([one])
        return one.answers[0]

    # ---- a step ----------------------------------------------------------------------------------------------------

    def step(self):
        while len(self.open) < 6:
            self.post_gig()
        place = self.random.randrange(len(self.open))
        gig = self.open[place]
        operations = [self.choose(gig) for _ in range(self.random.choice([1, 1, 1, 2, 2, 3]))]
        paid = next((each for each in reversed(gig.payments) if each.armed), None)
        clock = paid and self.random.random() < 0.04
        if clock:
            self.strike(paid)
        self.ask(operations)
        forms = [each.forms() for each in operations]
        if clock:
            self.wait_for_clock(paid)
            forms.append([[("clock", paid.key)]])
        told = [self.told(each) for each in operations] + [None] * bool(clock)
        possible = [after for after, answers in money_model.outcomes(gig, forms) if answers == told]
        assert possible, self.words(gig, operations, told)
        if len(possible) > 1:
            possible = self.look(gig, possible)
        self.open[place] = self.gigs[gig.number] = possible[0]
        for each in operations:
            self.learn(possible[0], each)
        if possible[0].status in (COMPLETED, CANCELLED) and not possible[0].live() and self.random.random() < 0.6:
            self.open.pop(place)
        self.steps += len(operations) + bool(clock)

    def told(self, operation):
        """What the model must say: every answer to one operation is the same one. A 403 is not kept for its key, and so
        says nothing of what the next one with it hears."""
        kinds = {(status, document["code"] if status >= 400 else None) for status, document in operation.answers}
        if len(kinds) > 1:
            kinds.discard((403, "forbidden"))
        ids = {document["id"] for status, document in operation.answers if status < 300}
        assert len(kinds) == 1 and len(ids) <= 1, f"{operation.path} answers {operation.answers}"
        return kinds.pop()

    def words(self, gig, operations, told):
        lines = [f"no order of these gives these answers, from {gig.id} {gig.facts()}:"]
        lines += [f"  {each.steps}{' twice' * each.twice}{' lost' * each.lost} -> {answer}"
                  for each, answer in zip(operations, told)]
        lines += [f"  could be {answers}" for _, answers in money_model.outcomes(gig, [each.forms() for each in operations])]
        return "\n".join(lines + [str(self.read(f"/api/gigs/{gig.id}")), str(self.read(f"/api/transactions/gig/{gig.id}"))])

    def look(self, gig, possible):
        """Which of several it was."""
        now = self.read(f"/api/gigs/{gig.id}")[1]
        shown = {row[0]: row[1:] for row in self.sql(
            "SELECT substr(request_key, 5), status, payee_id, coalesce(payee_amount::text, '') FROM transactions "
            f"WHERE gig_id = '{gig.id}' AND status <> 'FAILED'")}
        helper = (now["helper"] or {}).get("id")
        fitting = [each for each in possible if (each.status, each.helper) == (now["status"], helper) and shown == {
            paid.key: [paid.status, paid.payee, "" if paid.part is None else str(paid.part)]
            for paid in each.payments if paid.status != "FAILED"}]
        assert len(fitting) == 1, f"{now} {shown} is not one of {[each.facts() for each in possible]}"
        return fitting

    def learn(self, gig, operation):
        for status, document in operation.answers:
            if operation.steps[0][0] == "open" and status == 201:
                gig.by_key(operation.key).id = document["id"]

    # ---- what to do ------------------------------------------------------------------------------------------------

    def post_gig(self):
        budget = self.random.choice([1, 10, 99, 35_050, self.random.randrange(1, 5_000_000)])
        one = Operation(self.seeker, "POST", "/api/gigs", harness.gig(budget=budget / 100))
        self.ask([one])
        assert one.answers[0][0] == 201, one.answers
        gig = money_model.Gig(len(self.gigs), self.seeker.id, budget)
        gig.id = one.answers[0][1]["id"]
        self.gigs.append(gig)
        self.open.append(gig)

    def choose(self, gig):
        """What makes sense in this state most of the time, and now and then anything."""
        anybody, chance = self.random.choice(self.people), self.random.random()
        side = self.by_id[gig.helper] if gig.helper and self.random.random() < 0.5 else self.seeker
        known, paid = [each for each in gig.payments if each.id], gig.live()
        if chance < 0.06:
            return self.move(gig, anybody, self.random.choice([ACCEPTED, PENDING, IN_PROGRESS, COMPLETED, CANCELLED]))
        if chance < 0.12:
            return self.hold(gig, anybody if chance < 0.08 else self.seeker)
        if chance < 0.22 and known:
            return self.end(gig, self.random.choice(known), anybody if chance < 0.15 else side)
        if gig.status == PENDING:
            return self.move(gig, anybody, ACCEPTED) if chance < 0.96 else self.move(gig, self.seeker, CANCELLED)
        if not paid and gig.status in (ACCEPTED, IN_PROGRESS) and chance < 0.75:
            return self.hold(gig, self.seeker)
        if gig.status == ACCEPTED:
            to = self.random.choices([IN_PROGRESS, PENDING, CANCELLED], [70, 20, 10])[0]
            return self.move(gig, self.by_id[gig.helper] if to == PENDING else self.seeker if to == CANCELLED else side, to)
        if gig.status == IN_PROGRESS and chance < 0.9:
            return self.move(gig, side, COMPLETED if self.random.random() < 0.85 else CANCELLED)
        return self.end(gig, paid if paid and paid.id else known[-1], side) if known else self.hold(gig, self.seeker)

    def move(self, gig, who, to):
        twice, step = self.random.random() < 0.3, ("move", who.id, to)
        if to == ACCEPTED:
            return Operation(who, "POST", f"/api/gigs/{gig.id}/accept", None, step, twice=twice)
        if to == PENDING:
            return Operation(who, "POST", f"/api/gigs/{gig.id}/withdraw", None, step, twice=twice)
        return Operation(who, "PUT", f"/api/gigs/{gig.id}/status", {"status": to, "reason": "so"}, step)

    def hold(self, gig, who):
        method = self.random.choices(["mock_card", "mock_declined", "mock_timeout", "mock_slow"], [75, 10, 14, 1])[0]
        one = Operation(who, "POST", "/api/transactions/escrow", {"gig_id": gig.id, "payment_method": method},
                        twice=self.random.random() < 0.3)
        one.steps = [("open", who.id, one.key), ("settle", one.key, method == "mock_declined")]
        return one

    def end(self, gig, paid, who):
        weights = [1, 1, 1, 6] if paid.status == DISPUTED else [6, 1, 2, 1] if gig.status == COMPLETED else [1, 1, 2, 1]
        what = self.random.choices(["release", "refund", "dispute", "split"], weights)[0]
        if what == "release" and self.random.random() < 0.8:
            who = self.seeker
        if what in ("refund", "split") and self.random.random() < 0.9:
            who = self.admin
        body, part = {"reason": "no"} if what == "dispute" else None, None
        if what == "split":
            part = self.random.choice([0, paid.amount, self.random.randint(0, paid.amount)])
            body = {"payee_amount": part / 100}
        name = "admin" if who is self.admin else who.id
        return Operation(who, "PUT", f"/api/transactions/{paid.id}/{what}", body, ("end", what, name, paid.key, part))

    # ---- the clock -------------------------------------------------------------------------------------------------

    def sql(self, statement):
        """As soon as there is a database to ask."""
        def attempt():
            try:
                return [self.server.database().sql(statement)]
            except (AssertionError, OSError, IndexError):
                return None
        return wait_for(attempt, "the database answers", 30)[0]

    def strike(self, paid):
        self.sql(f"UPDATE timers SET due_at = now() WHERE kind = 'payment.release' AND subject_id = {PAYMENT.format(paid.key)}")

    def wait_for_clock(self, paid):
        wait_for(lambda: self.sql("SELECT count(*) FROM timers WHERE kind = 'payment.release' AND subject_id = "
                                  + PAYMENT.format(paid.key)) == [["0"]], "the clock strikes", harness.slack(30), 0.1)


def disturb(server, clients, finished):
    """Kills, stops, and both, each after so many steps; a count of each."""
    done = collections.Counter()
    for n in range(FAULTS):
        at = STEPS * (n + 1) / (FAULTS + 1)
        while sum(each.steps for each in clients) < at:
            if finished.wait(0.01):
                return done
        if n % 3 != 1:
            server.kill()
            server.start()
            done["kill -9"] += 1
        if n % 3 != 0:
            postmaster = server.postmaster()
            if postmaster:
                harness.signal_all([postmaster], signal.SIGQUIT)
                wait_for(lambda old=postmaster: server.postmaster() not in (0, old), "a new postmaster", 20)
                done["PostgreSQL stopped"] += 1
    return done


def test_money_ends_as_the_model_says():
    with harness.server() as server:
        people = [Person(server.base, f"Person {n}", check=False) for n in range(CLIENTS + 2)]
        admin = Person(server.base, "Judge", check=False)
        assert run("admin", "grant", admin.email, data_directory=server.directory).returncode == 0
        admin.login()
        seed = int(harness.SEED) * 1000
        clients = [Client(server, n, people, admin, seed + n) for n in range(CLIENTS)]
        finished, stop = threading.Event(), threading.Event()

        def work(client):
            def body():
                try:
                    while client.steps < STEPS / CLIENTS and not stop.is_set():
                        client.step()
                except BaseException:
                    stop.set()
                    finished.set()
                    raise
            return body

        def faults():
            return disturb(server, clients, finished)

        def all_clients():
            try:
                together(*[work(client) for client in clients])
            finally:
                finished.set()

        began = time.monotonic()
        _, done = together(all_clients, faults)
        seconds = time.monotonic() - began
        check(server, clients, people)
        seen = sum((client.seen for client in clients), collections.Counter())
        paid = collections.Counter(p.status for c in clients for g in c.gigs for p in g.payments)
        print(f"{sum(c.steps for c in clients)} steps in {seconds:.0f} s with {dict(done)}; answers {dict(seen)}; {dict(paid)}")
        assert not harness.server_errors(seen), seen
        assert paid["RELEASED"] and paid["REFUNDED"] and sum(done.values()) >= FAULTS


def check(server, clients, people):
    """The server's state against the model's."""
    client, gigs = clients[0], [gig for client in clients for gig in client.gigs]
    # What is open with the provider is asked again after a while that grows; here at once.
    def nothing_open():
        client.sql("UPDATE transactions SET settle_at = now() WHERE settle_at > now()")
        return client.sql("SELECT count(*) FROM transactions WHERE settle_at IS NOT NULL") == [["0"]]

    wait_for(nothing_open, "nothing is open with the provider", harness.slack(30), 0.2)
    assert client.sql("SELECT count(*) FROM transactions WHERE status = 'PENDING' OR pay_back > 0") == [["0"]]
    stored = {row[0]: row[1:] for row in client.sql("SELECT id, status, coalesce(helper_id::text, '') FROM gigs")}
    assert stored == {gig.id: [gig.status, gig.helper or ""] for gig in gigs}
    rows = client.sql("SELECT substr(request_key, 5), gig_id, status, payer_id, payee_id, amount, coalesce(payee_amount, -1) "
                      "FROM transactions WHERE status <> 'FAILED'")
    assert sorted(rows) == sorted(
        [paid.key, gig.id, paid.status, paid.payer, paid.payee, str(paid.amount), str(-1 if paid.part is None else paid.part)]
        for gig in gigs for paid in gig.payments if paid.status != "FAILED")
    # One hold each, and one end of those that have ended; nothing of those that failed.
    assert not client.sql(
        "SELECT t.id, t.status, j.kinds FROM transactions t LEFT JOIN LATERAL (SELECT string_agg(kind, ' ' ORDER BY number) "
        "AS kinds FROM ledger_journals WHERE transaction_id = t.id) j ON true WHERE coalesce(j.kinds, '') <> CASE "
        "WHEN t.status = 'FAILED' THEN '' WHEN t.status IN ('HELD', 'DISPUTED') THEN 'HOLD' "
        "WHEN t.payee_amount IS NOT NULL THEN 'HOLD SPLIT' WHEN t.status = 'RELEASED' THEN 'HOLD RELEASE' ELSE 'HOLD REFUND' END")
    accounts = client.sql("SELECT kind, CASE WHEN kind IN ('BANK', 'FEES') THEN '' ELSE owner END AS who, sum(balance) "
                          "FROM ledger_accounts GROUP BY 1, 2 HAVING sum(balance) <> 0")
    expected = money_model.balances(gigs)
    assert {(row[0], row[1]): int(row[2]) for row in accounts} == expected
    assert client.sql("SELECT sum(amount) FROM ledger_entries") == [["0"]]
    for person in people:
        wallet = person.get("/api/wallet").json
        assert [round(wallet[name] * 100) for name in ("balance", "held")] == [
            expected.get((kind, person.id), 0) for kind in ("WALLET", "ESCROW")]
    audit = run("admin", "audit-ledger", data_directory=server.directory)
    assert audit.returncode == 0, audit.stdout + audit.stderr
