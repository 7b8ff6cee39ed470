"""Writers under faults, by Jepsen's method: every operation has a key of its own and ends as ok (2xx, read whole), fail
(4xx) or info (anything else: it may or may not have happened). After healing, each info is sent again with the same
key until it is settled; then each ok must stand exactly once, each fail not at all.
"""

import collections
import itertools
import json
import random
import time
import uuid

from harness import Client, gig, server_errors
from loads import Load


class Operation:
    __slots__ = ("key", "kind", "path", "body", "token", "outcome", "status", "gig", "began", "seconds")

    def __init__(self, kind, path, body, token, gig_id=None):
        self.key = str(uuid.uuid4())
        self.kind, self.path, self.body, self.token, self.gig = kind, path, body, token, gig_id
        self.outcome, self.status = "invoke", 0
        self.began = self.seconds = 0.0


class Writer:
    """One at a time: posts a gig; now and then has its helper accept one of those that are known to stand."""

    def __init__(self, base, seeker, helper, over, seed, timeout_s=10, rest_s=0):
        self.base, self.seeker, self.helper, self.over = base, seeker, helper, over
        self.random, self.timeout_s, self.rest_s = random.Random(seed), timeout_s, rest_s
        self.journal, self.open, self.answered, self.errors = [], [], collections.Counter(), []
        self.client = None

    def run(self):
        for n in itertools.count():
            if self.over.is_set():
                break
            if self.open and self.random.random() < 0.4:
                one = self.open.pop(self.random.randrange(len(self.open)))
                operation = Operation("accept", f"/api/gigs/{one}/accept", None, self.helper.token, one)
            else:
                title = f"{self.seeker.id} {n}"
                # All over a town: at one point they would be all that a search near it ever looks at.
                place = {"latitude": 13.75 + self.random.gauss(0, 0.2), "longitude": 100.54 + self.random.gauss(0, 0.2)}
                operation = Operation("post", "/api/gigs", gig(title=title, **place), self.seeker.token)
            self.journal.append(operation)
            self.attempt(operation)
            if operation.outcome == "ok" and operation.kind == "post":
                self.open.append(operation.gig)
            elif operation.outcome == "info":
                self.over.wait(0.02)  # a server that is down refuses at once
            if self.rest_s:
                self.over.wait(self.random.uniform(0, 2 * self.rest_s))

    def attempt(self, operation):
        operation.began = time.monotonic()
        try:
            if self.client is None:
                self.client = Client(self.base, timeout_s=self.timeout_s)
            answer = self.client.call("POST", operation.path, operation.body, token=operation.token,
                                      headers={"Idempotency-Key": operation.key})
            operation.status = answer.status
            self.answered[answer.status] += 1
            if answer.status >= 500 and answer.status != 503:
                self.errors.append(f"{operation.path}: {answer}")
            in_progress = answer.status == 409 and answer.json["code"] == "idempotency_in_progress"
            if answer.status < 300:
                operation.outcome, operation.gig = "ok", answer.json["id"]
            elif answer.status < 500 and not in_progress:
                operation.outcome = "fail"
            else:
                operation.outcome = "info"
        except OSError:
            operation.outcome, operation.status = "info", 0
        except AssertionError as broken:
            operation.outcome, operation.status = "broken", str(broken)
        except Exception as cut:  # http.client's many ways to say that an answer was cut
            operation.outcome, operation.status = "info", 0
            self.client.close()
            if not isinstance(cut, (json.JSONDecodeError, EOFError)) and "http.client" not in type(cut).__module__:
                operation.outcome, operation.status = "broken", repr(cut)
        operation.seconds = time.monotonic() - operation.began


class Journal(Load):
    def __init__(self, base, pairs, seed=1, timeout_s=10, rest_s=0):
        """`pairs` of (seeker, helper): a writer each, that rests `rest_s` on average after each operation."""
        super().__init__(len(pairs))
        self.base = base
        self.writers = [Writer(base, *pair, self.over, seed + n, timeout_s, rest_s) for n, pair in enumerate(pairs)]

    def run(self, n):
        self.writers[n].run()

    def operations(self):
        return [operation for writer in self.writers for operation in writer.journal]

    def counts(self):
        return collections.Counter(operation.outcome for operation in self.operations())

    def acknowledged_since(self, moment):
        """Whether every writer has had a success that began after `moment`."""
        return all(
            any(o.outcome == "ok" and o.began >= moment for o in reversed(writer.journal[-50:])) for writer in self.writers)

    def statuses(self):
        """Of every answer, those to retries included."""
        return sum((writer.answered for writer in self.writers), collections.Counter())

    def check(self, database):
        """Settles what is open, then compares with what is stored. How many there were of each, and how many of the
        open ones had happened. Nobody may have been told a 5xx but 503 meanwhile."""
        assert not self.broken, self.broken
        counts = self.counts()
        assert not counts["broken"], [o.status for o in self.operations() if o.outcome == "broken"][:3]
        before = self.stored(database)
        happened = 0
        for writer in self.writers:
            for operation in writer.journal:
                if operation.outcome != "info":
                    continue
                times = before[operation.kind][self.mark(operation)]
                assert times <= 1, f"doubled before its retry: {operation.kind} {operation.path}"
                happened += times
                deadline = time.monotonic() + 10
                while operation.outcome == "info":
                    assert time.monotonic() < deadline, f"not settled: {operation.status}"
                    writer.attempt(operation)
                assert operation.outcome == "ok", f"a retry with its key: {operation.outcome} {operation.status}"
        after = self.stored(database)
        lost = doubled = 0
        expected = {"post": collections.Counter(), "accept": collections.Counter()}
        for operation in self.operations():
            expected[operation.kind][self.mark(operation)] += operation.outcome == "ok"
        for kind, wanted in expected.items():
            for mark, times in wanted.items():
                lost += after[kind][mark] < times
                doubled += after[kind][mark] > times
            doubled += len(set(after[kind]) - set(wanted))
        assert (lost, doubled) == (0, 0), f"lost {lost}, doubled {doubled} of {dict(counts)}"
        self.check_database(database)
        assert not server_errors(self.statuses()), (self.statuses(), [each for writer in self.writers for each in writer.errors][:3])
        return counts, happened

    def mark(self, operation):
        return operation.body["title"] if operation.kind == "post" else (operation.gig, self.helper_of(operation))

    def helper_of(self, operation):
        return next(writer.helper.id for writer in self.writers if writer.helper.token == operation.token)

    def stored(self, database):
        """How often each effect stands in the database."""
        seekers = ",".join(f"'{writer.seeker.id}'" for writer in self.writers)
        posts = database.sql(f"SELECT title FROM gigs WHERE seeker_id IN ({seekers})")
        accepts = database.sql(
            "SELECT e.gig_id, e.actor_id FROM gig_events e JOIN gigs g ON g.id = e.gig_id "
            f"WHERE e.action = 'ACCEPT' AND g.seeker_id IN ({seekers})")
        return {"post": collections.Counter(row[0] for row in posts),
                "accept": collections.Counter((row[0], row[1]) for row in accepts)}

    @staticmethod
    def check_database(database):
        """What must hold whatever happened."""
        wrong = database.sql(
            "SELECT g.id FROM gigs g LEFT JOIN LATERAL (SELECT count(*) AS n, max(version) AS top FROM gig_events e "
            "WHERE e.gig_id = g.id) e ON true LEFT JOIN LATERAL (SELECT count(*) AS n FROM gig_assignments a "
            "WHERE a.gig_id = g.id AND a.ended_at IS NULL AND a.helper_id = g.helper_id) a ON true "
            "WHERE e.n <> g.version OR e.top <> g.version OR "
            "(g.status IN ('PENDING', 'ACCEPTED') AND (g.status = 'ACCEPTED') <> (a.n = 1))")
        assert not wrong, wrong[:5]
        # In one statement, since counts are folded all the time.
        counted, pending = database.sql(
            "SELECT (SELECT coalesce(sum(count), 0) FROM gig_cells WHERE level = 0) + "
            "(SELECT coalesce(sum(change), 0) FROM gig_cell_changes), "
            "(SELECT count(*) FROM gigs WHERE status = 'PENDING')")[0]
        assert counted == pending, "the map's counts"
