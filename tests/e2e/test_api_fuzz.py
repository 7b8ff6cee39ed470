"""V01, Z06 and section C: requests drawn from the OpenAPI document that the server publishes, and random sequences of what
people do with a gig and its money. HOURZ_TEST_CASES says how many requests (`./dev fuzz --api`), HOURZ_TEST_SEED which."""

import os
import time

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from api_fuzz import MAY_CHANGE, Fuzzer, People
from chatters import SECONDS
from harness import SEED, gig, run
from life import Life
from psql import Digest, Psql

CASES = int(os.environ.get("HOURZ_TEST_CASES", 5000 if SECONDS > 10 else 1500))
SEQUENCES = max(20, CASES // 50)


def test_requests_from_the_document(server):
    began = time.monotonic()
    with Fuzzer(server, SEED) as fuzzer:
        fuzzer.run(CASES, os.environ.get("HOURZ_TEST_OPERATION"))
        print(f"{fuzzer.sent} requests for {len(fuzzer.operations)} operations in {time.monotonic() - began:.1f} s, seed {SEED}: "
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
    """One gig, its money, and everybody. Whatever the model forbids is refused, and changes nothing."""

    people = digest = None

    @initialize()
    def post(self):
        self.life = Life()
        self.gig = self.call("seeker", "POST", "/api/gigs", gig()).json["id"]
        self.at, self.paid = f"/api/gigs/{self.gig}", f"/api/transactions/{self.gig}"

    def call(self, who, method, target, body=None):
        return self.people.client(who).call(method, target, body)

    def expect(self, legal, answer):
        at = f"{answer}, with the gig {self.life.gig} and its money {self.life.money}"
        assert answer.status < 300 if legal else 401 <= answer.status <= 422, at

    def step(self, name, who, method, target, body, *details):
        before = self.digest.take()
        legal = getattr(self.life, name)(who, *details)
        answer = self.call(who, method, target, body)
        self.expect(legal, answer)
        if not legal:
            changed = {name: both for name, both in self.digest.take().items() if both != before[name]}
            assert not changed, f"refused, and yet stored: {changed} {answer}"
        return answer

    @rule(who=WHO)
    def accept(self, who):
        self.step("accept", who, "POST", f"{self.at}/accept", None)

    @rule(who=WHO)
    def withdraw(self, who):
        self.step("withdraw", who, "POST", f"{self.at}/withdraw", None)

    @rule(who=WHO, status=st.sampled_from(("PENDING", "ACCEPTED", "IN_PROGRESS", "COMPLETED", "CANCELLED")),
          reason=st.sampled_from((None, "Rain")))
    def set_status(self, who, status, reason):
        self.step("set_status", who, "PUT", f"{self.at}/status", {"status": status, **({"reason": reason} if reason else {})}, status, reason)

    @rule(who=SIDE)
    def go_on(self, who):
        """Chance alone seldom gets far."""
        following = {"PENDING": "accept", "ACCEPTED": "IN_PROGRESS", "IN_PROGRESS": "COMPLETED"}.get(self.life.gig)
        if following == "accept":
            self.accept("helper")
        elif following:
            self.set_status(who, following, None)

    @rule(who=WHO)
    def cancel(self, who):
        self.step("cancel", who, "DELETE", self.at, None)

    @rule(who=WHO)
    def hold(self, who):
        answer = self.step("hold", who, "POST", "/api/transactions/escrow", {"gig_id": self.gig})
        if answer.status == 201:
            self.paid = f"/api/transactions/{answer.json['id']}"

    @rule()
    def hold_when_possible(self):
        self.hold("seeker")

    @rule(who=WHO)
    def release(self, who):
        self.step("release", who, "PUT", f"{self.paid}/release", None)

    @rule(who=WHO)
    def refund(self, who):
        self.step("refund", who, "PUT", f"{self.paid}/refund", None)

    @rule(who=WHO)
    def dispute(self, who):
        self.step("dispute", who, "PUT", f"{self.paid}/dispute", {"reason": "Not done"})

    @rule(who=WHO, amount=AMOUNTS)
    def split(self, who, amount):
        self.step("split", who, "PUT", f"{self.paid}/split", {"payee_amount": amount}, amount)

    @invariant()
    def told_as_modelled(self):
        seen = self.call("seeker", "GET", self.at)
        assert seen.json["status"] == self.life.gig, (seen, self.life.gig)
        if self.life.gig != "CANCELLED":
            assert (seen.json["helper"] or {}).get("id") == (self.people.client(self.life.helper).id if self.life.helper else None), seen
        money = self.call("seeker", "GET", self.paid)
        assert (money.json["status"] if money.status == 200 else None) == self.life.money, (money, self.life.money)


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
