"""V01, Z06 and section C: requests drawn from the OpenAPI document that the server publishes, and random sequences of what
people do with a gig and its money. HOURZ_TEST_CASES says how many requests (`./dev fuzz --api`), HOURZ_TEST_SEED which."""

import itertools
import os
import time

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from api_fuzz import MAY_CHANGE, Fuzzer, People
from chatters import SECONDS
from harness import SEED, gig, run
from money_model import Gig
from psql import Digest, Psql

CASES = int(os.environ.get("HOURZ_TEST_CASES", 5000 if SECONDS > 10 else 1500))
SEQUENCES = max(20, CASES // 50)


def test_requests_from_the_document(server):
    began = time.monotonic()
    with Fuzzer(server, SEED) as fuzzer:
        fuzzer.run(CASES, os.environ.get("HOURZ_TEST_OPERATION"))
        print(f"{fuzzer.sent} requests for {len(fuzzer.operations)} operations in {time.monotonic() - began:.1f} s, seed {SEED}, "
              f"{fuzzer.busy} of them busy: "
              f"{dict(sorted(fuzzer.statuses.items()))}")
    assert fuzzer.people.server.process.poll() is None


@pytest.fixture(scope="module")
def people(server):
    made = People(server)
    yield made
    made.close()


WHO = st.sampled_from(("seeker", "helper", "stranger", "admin", "nobody"))
SIDE = st.sampled_from(("seeker", "helper"))
AMOUNTS = st.sampled_from((0, 0.01, 100, 350))


class Sequence(RuleBasedStateMachine):
    """One gig, its money, and everybody. Each answer is the model's, by its code too, and whatever it refuses changes
    nothing."""

    people = digest = None

    @initialize()
    def post(self):
        self.model, self.keys = Gig(0, "seeker", 35000), itertools.count()
        self.gig = self.call("seeker", "POST", "/api/gigs", gig()).json["id"]
        self.at, self.paid, self.key = f"/api/gigs/{self.gig}", f"/api/transactions/{self.gig}", None

    def call(self, who, method, target, body=None):
        return self.people.client(who).call(method, target, body)

    def step(self, wanted, who, method, target, body=None):
        """`wanted`: takes the model there, and gives the status and the code."""
        at = f"the gig {self.model.status} and its money {self.money()}"
        status, code = (401, "unauthenticated") if who == "nobody" else wanted()
        before = self.digest.take() if status >= 400 else {}
        answer = self.call(who, method, target, body)
        as_wanted = answer.status < 300 if status < 300 else (answer.status, answer.json["code"]) == (status, code)
        assert as_wanted, f"{method} {target} by {who}: {answer} instead of {status} {code}, with {at}"
        if status >= 400:
            changed = {name: both for name, both in self.digest.take().items() if both != before[name]}
            assert not changed, f"refused, and yet stored: {changed} {answer}"
        return answer

    def money(self):
        return self.model.payments[-1].status if self.model.payments else None

    def move(self, who, to, method, target, body=None, reason=None):
        self.step(lambda: self.model.move(who, to, reason), who, method, target, body)

    @rule(who=WHO)
    def accept(self, who):
        self.move(who, "ACCEPTED", "POST", f"{self.at}/accept")

    @rule(who=WHO)
    def withdraw(self, who):
        self.move(who, "PENDING", "POST", f"{self.at}/withdraw")

    @rule(who=WHO, status=st.sampled_from(("PENDING", "ACCEPTED", "IN_PROGRESS", "COMPLETED", "CANCELLED")),
          reason=st.sampled_from((None, "Rain")))
    def set_status(self, who, status, reason):
        self.move(who, status, "PUT", f"{self.at}/status", {"status": status, **({"reason": reason} if reason else {})}, reason)

    @rule(who=SIDE)
    def go_on(self, who):
        """Chance alone seldom gets far."""
        following = {"PENDING": "accept", "ACCEPTED": "IN_PROGRESS", "IN_PROGRESS": "COMPLETED"}.get(self.model.status)
        if following == "accept":
            self.accept("helper")
        elif following:
            self.set_status(who, following, None)

    @rule(who=WHO)
    def cancel(self, who):
        self.step(lambda: self.model.cancel(who), who, "DELETE", self.at)

    @rule(who=WHO)
    def hold(self, who):
        key = str(next(self.keys))
        answer = self.step(lambda: self.model.open(who, key) or self.model.settle(key, False), who, "POST",
                           "/api/transactions/escrow", {"gig_id": self.gig})
        if answer.status == 201:
            self.paid, self.key = f"/api/transactions/{answer.json['id']}", key

    @rule()
    def hold_when_possible(self):
        self.hold("seeker")

    def end(self, what, who, body=None, part=None):
        self.step(lambda: self.model.end(what, who, self.key, part), who, "PUT", f"{self.paid}/{what}", body)

    @rule(who=WHO)
    def release(self, who):
        self.end("release", who)

    @rule(who=WHO)
    def refund(self, who):
        self.end("refund", who)

    @rule(who=WHO)
    def dispute(self, who):
        self.end("dispute", who, {"reason": "Not done"})

    @rule(who=WHO, amount=AMOUNTS)
    def split(self, who, amount):
        self.end("split", who, {"payee_amount": amount}, round(amount * 100))

    @invariant()
    def told_as_modelled(self):
        seen = self.call("seeker", "GET", self.at)
        assert seen.json["status"] == self.model.status, (seen, self.model.status)
        if self.model.status != "CANCELLED":
            assert (seen.json["helper"] or {}).get("id") == (self.people.client(self.model.helper).id if self.model.helper else None), seen
        money = self.call("seeker", "GET", self.paid)
        assert (money.json["status"] if money.status == 200 else None) == self.money(), (money, self.money())


def test_sequences_of_gig_and_money(server, people):
    """Z06, M-rows: any actor, any step, any order."""
    with Psql(server.database()) as psql:
        Sequence.people, Sequence.digest = people, Digest(psql, MAY_CHANGE)
        settings = hypothesis.settings(max_examples=SEQUENCES, stateful_step_count=25, deadline=None, database=None,
                                       suppress_health_check=list(hypothesis.HealthCheck), print_blob=True)
        run_state_machine_as_test(hypothesis.seed(int(SEED))(Sequence), settings=settings)
        assert psql.sql("SELECT coalesce(sum(amount), 0) FROM ledger_entries") == [["0"]]
    audit = run("admin", "audit-ledger", data_directory=server.directory)
    assert audit.returncode == 0, audit.stdout + audit.stderr
