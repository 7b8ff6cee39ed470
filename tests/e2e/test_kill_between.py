"""The server is killed between an effect and its answer; a retry with the same key finds exactly one effect."""

import random
import time
import uuid

from harness import Client, Raw, gig
from races import people


def warm(peer):
    """This connection's part of the server has a database connection with the statements prepared."""
    assert peer.ask("POST", "/api/gigs", gig(), Idempotency_Key=str(uuid.uuid4()))[0] == 201


def usual_time(server, seeker):
    """The median time of posting a gig with a key."""
    times = []
    for _ in range(15):
        peer = Raw(server.address(), seeker.token)
        warm(peer)
        began = time.perf_counter()
        assert peer.ask("POST", "/api/gigs", gig(), Idempotency_Key=str(uuid.uuid4()))[0] == 201
        times.append(time.perf_counter() - began)
        peer.close()
    return sorted(times)[len(times) // 2]


def test_kill_between_effect_and_answer(server):
    """M06, D03: a request with a key is sent, the server dies at some moment around its commit, the retry settles it."""
    rounds = 50
    (seeker,) = people(server.base, 1)
    chance = random.Random(11)
    unanswered = stood = 0
    # The moment follows what was seen, up and down: it stays around the commit however fast or busy the machine is.
    wait_s = usual_time(server, seeker)
    for n in range(rounds):
        key, title = str(uuid.uuid4()), f"Around the commit {n}"
        peer = Raw(server.address(), seeker.token)
        warm(peer)
        peer.send("POST", "/api/gigs", gig(title=title), Idempotency_Key=key)
        # Busy waiting is finer than any timer.
        until = time.perf_counter() + chance.uniform(0.5, 1.5) * wait_s
        while time.perf_counter() < until:
            pass
        server.kill()
        try:
            answered = peer.read()[0]
        except (EOFError, OSError, AssertionError):
            answered = None
        unanswered += answered is None
        wait_s *= 1.25 if answered is None else 0.8
        peer.close()
        server.start()
        titles = f"SELECT count(*) FROM gigs WHERE title = '{title}'"
        before = int(server.database().sql(titles)[0][0])
        stood += answered is None and before == 1
        assert before == 1 if answered == 201 else before <= 1
        with Client(server.base, seeker.token) as client:
            again = client.post("/api/gigs", gig(title=title), 201, Idempotency_Key=key)
            assert (again.headers.get("idempotency-replayed") == "true") == (before == 1)
        assert server.database().sql(titles) == [["1"]]
    print(f"killed about {wait_s * 1000:.1f} ms after sending; {unanswered} of {rounds} unanswered, {stood} of them had happened")
    assert 5 <= unanswered <= rounds - 5
