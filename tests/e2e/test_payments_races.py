"""M04: who ends a payment, raced by everybody who may, on two servers that share a database: release against refund,
cancelling against completing and releasing, the clock against people, all of them doubled. Each payment has one end.

1,000 races of release against refund with HOURZ_TEST_SECONDS=30, which .ci/run sets, and 250 of each other kind; 200 and 50
otherwise.
"""

import collections
import json
import os

import pytest

import harness
from harness import Person, Raw, Server, run, scratch, wait_for
from races import people, post_gigs

RACES = 1_000 if float(os.environ.get("HOURZ_TEST_SECONDS", "10")) >= 30 else 200
WIDTH = 20  # payments raced at a time
OPEN = {"payment_not_open", "gig_not_completed", "invalid_transition"}


@pytest.fixture(scope="module")
def second(server):
    """Another server on the first one's database."""
    with scratch() as folder:
        running = Server(f"{folder}/data", secret=server.secret(), **server.database().urls())
        try:
            yield running
        finally:
            running.close()


class Peers:
    """Connections that take turns between the servers; what is sent together is answered together."""

    def __init__(self, servers, count):
        self.peers = [Raw(servers[n % len(servers)].address()) for n in range(count)]

    def ask(self, requests):
        """[(token, method, path, body)] at once; (status, document) of each."""
        answers = []
        for start in range(0, len(requests), len(self.peers)):
            some = requests[start:start + len(self.peers)]
            for peer, (token, method, path, body) in zip(self.peers, some):
                peer.send(method, path, body, Authorization=f"Bearer {token}")
            for peer, _ in zip(self.peers, some):
                status, _, body = peer.read()
                answers.append((status, json.loads(body)))
        return answers

    def all(self, requests, status):
        answers = self.ask(requests)
        assert {each[0] for each in answers} == {status}, [each for each in answers if each[0] != status][:2]
        return [each[1] for each in answers]

    def close(self):
        for peer in self.peers:
            peer.close()


@pytest.fixture(scope="module")
def cast(server, second):
    """The peers, seeker, helper and administrator."""
    seeker, helper = people(server.base, 2)
    admin = Person(server.base, "Judge", check=False)
    assert run("admin", "grant", admin.email, data_directory=server.directory).returncode == 0
    admin.login()
    peers = Peers([server, second], 4 * WIDTH)
    yield peers, seeker, helper, admin
    peers.close()


def held(server, peers, seeker, helper, count, status):
    """(gig, payment) of so many held payments on gigs in this state."""
    gigs = post_gigs(server.address(), seeker.token, count)
    peers.all([(helper.token, "POST", f"/api/gigs/{gig}/accept", None) for gig in gigs], 200)
    made = peers.all([(seeker.token, "POST", "/api/transactions/escrow", {"gig_id": gig}) for gig in gigs], 201)
    for step in ("IN_PROGRESS", "COMPLETED"):
        peers.all([(helper.token, "PUT", f"/api/gigs/{gig}/status", {"status": step}) for gig in gigs], 200)
        if step == status:
            break
    return list(zip(gigs, [each["id"] for each in made]))


def ends(server, ids):
    """{payment: (status, kinds of its journals)}, and that the ledger holds."""
    rows = server.database().sql(
        "SELECT t.id, t.status, string_agg(j.kind, ' ' ORDER BY j.number) FROM transactions t "
        "JOIN ledger_journals j ON j.transaction_id = t.id GROUP BY t.id")
    audit = run("admin", "audit-ledger", data_directory=server.directory)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    stored = {row[0]: (row[1], row[2]) for row in rows}
    return {each: stored[each] for each in ids}


def raced(server, cast, count, status, requests_of, strike=False):
    """[(payment, [(what, answer)])] of races on payments of gigs in this state."""
    peers, seeker, helper, _ = cast
    told = []
    for start in range(0, count, WIDTH):
        pairs = held(server, peers, seeker, helper, min(WIDTH, count - start), status)
        requests = [(payment, what, request) for gig, payment in pairs for what, request in requests_of(gig, payment)]
        if strike:
            # The people come when the clock has begun to strike.
            server.database().sql("UPDATE timers SET due_at = now() WHERE kind = 'payment.release'")
            wait_for(lambda all_of_them=len(pairs): due(server) < all_of_them, "the clock strikes", harness.slack(20), 0.001)
        answers = peers.ask([request for _, _, request in requests])
        by_payment = collections.defaultdict(list)
        for (payment, what, _), answer in zip(requests, answers):
            by_payment[payment].append((what, answer))
        told += by_payment.items()
    return told


def due(server):
    return int(server.database().sql("SELECT count(*) FROM timers WHERE kind = 'payment.release' AND due_at <= now()")[0][0])


def act(token, what, payment, body=None):
    return what, (token, "PUT", f"/api/transactions/{payment}/{what}", body)


def test_release_against_refund(server, cast):
    """Both twice: the winner's two are one, and the other side hears that it is over."""
    _, seeker, _, admin = cast
    orders = [(0, 1, 0, 1), (1, 0, 1, 0), (0, 0, 1, 1), (1, 1, 0, 0)]

    def requests_of(_, payment):
        both = act(seeker.token, "release", payment), act(admin.token, "refund", payment)
        return [both[n] for n in orders[int(payment[-1], 16) % 4]]

    told = raced(server, cast, RACES, "COMPLETED", requests_of)
    found, winners = ends(server, [payment for payment, _ in told]), collections.Counter()
    for payment, answers in told:
        won = {what for what, (status, _) in answers if status == 200}
        assert len(won) == 1 and sum(status == 200 for _, (status, _) in answers) == 2, answers
        assert {document["code"] for _, (status, document) in answers if status != 200} == {"payment_not_open"}
        (winner,) = won
        state = {"release": "RELEASED", "refund": "REFUNDED"}[winner]
        assert found[payment] == (state, f"HOLD {winner.upper()}")
        winners[winner] += 1
    print(dict(winners))
    assert min(winners["release"], winners["refund"]) > 0


def test_cancelling_against_completing_and_releasing(server, cast):
    """The work is stopped or it is done: its money goes back, or to the helper and nowhere else."""
    _, seeker, helper, _ = cast

    def requests_of(gig, payment):
        path = f"/api/gigs/{gig}/status"
        cancel = "cancel", (seeker.token, "PUT", path, {"status": "CANCELLED", "reason": "so"})
        complete = "complete", (helper.token, "PUT", path, {"status": "COMPLETED"})
        first, then = (cancel, complete) if int(payment[-1], 16) % 2 else (complete, cancel)
        return [first, then, act(seeker.token, "release", payment), act(seeker.token, "release", payment)]

    told = raced(server, cast, RACES // 4, "IN_PROGRESS", requests_of)
    found, winners = ends(server, [payment for payment, _ in told]), collections.Counter()
    for payment, answers in told:
        done = [what for what, (status, _) in answers if status == 200]
        codes = {document["code"] for _, (status, document) in answers if status != 200}
        assert codes <= OPEN and ("cancel" in done) != ("complete" in done), answers
        wanted = ("REFUNDED", "HOLD REFUND") if "cancel" in done else \
            ("RELEASED", "HOLD RELEASE") if "release" in done else ("HELD", "HOLD")
        assert found[payment] == wanted and not ("cancel" in done and "release" in done), answers
        winners[wanted[0]] += 1
    print(dict(winners))
    assert winners["REFUNDED"]


def test_the_clock_against_people(server, cast):
    """Of the timer's release on either server, the payer's, the administrator's refund and a dispute, one happens."""
    _, seeker, helper, admin = cast

    def requests_of(_, payment):
        return [[act(seeker.token, "release", payment)] * 2, [act(admin.token, "refund", payment)] * 2,
                [act(helper.token, "dispute", payment, {"reason": "no"})]][int(payment[-1], 16) % 3]

    told = raced(server, cast, RACES // 4, "COMPLETED", requests_of, strike=True)
    wait_for(lambda: due(server) == 0, "the clock has struck for all", harness.slack(30), 0.1)
    found, winners = ends(server, [payment for payment, _ in told]), collections.Counter()
    for payment, answers in told:
        (what,) = {what for what, _ in answers}
        done = {status == 200 for _, (status, _) in answers}
        assert len(done) == 1 and {document["code"] for _, (status, document) in answers if status != 200} <= OPEN, answers
        won = what if True in done else "release"
        assert found[payment] == {"release": ("RELEASED", "HOLD RELEASE"), "refund": ("REFUNDED", "HOLD REFUND"),
                                  "dispute": ("DISPUTED", "HOLD")}[won], (payment, answers)
        winners[what, True in done] += 1
    print(dict(winners))
