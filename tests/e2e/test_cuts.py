"""D4: connections that are cut anywhere, by an end and by a reset, before the server and between it and its database; and
links that pass on a few bytes at a time. No half answer can be taken for a whole one, a retry with its key settles what
became of a request, and nothing is left of what was cut."""

import json
import uuid

import pytest

from harness import Client, Person, Raw, Server, cluster, gig, scratch, slack, wait_for
from network import Way, tcp_states


def titles_of(person):
    return sorted(each["title"] for each in person.call(
        "GET", "/api/gigs/my-gigs", status=200, query={"as": "seeker", "limit": 100}).json["gigs"])


def attempt(way, token, title, key):
    """The status of an answer that came whole, or None."""
    peer = Raw(("127.0.0.1", way.port), token, timeout_s=slack(10))
    try:
        status, _, data = peer.ask("POST", "/api/gigs", gig(title=title), Idempotency_Key=key)
    except (EOFError, ConnectionError, AssertionError):
        return None
    finally:
        peer.close()
    assert json.loads(data)["title"] == title, data
    return status


def settled(person, title, key):
    """The gig's 201, asked for with its key until nothing else is still at work on it."""
    return wait_for(lambda: next((answer for answer in [person.post("/api/gigs", gig(title=title), Idempotency_Key=key)]
                                  if answer.status == 201), None), f"{title} is settled", slack(10))


@pytest.mark.parametrize("by_reset", [False, True], ids=["end", "reset"])
def test_answers_and_requests_cut_anywhere(server, base, by_reset):
    with Person(base) as person, Way(server.address()) as way:
        # What an exchange takes when it is not cut: the same bytes each time, but for zeros at the end of times.
        way.cut(to_front=1 << 20, to_back=1 << 20)
        assert attempt(way, person.token, "to_front 00000", str(uuid.uuid4())) == 201
        answer_bytes, request_bytes = way.passed
        assert answer_bytes > 800 and request_bytes > 300, way.passed
        wanted = ["to_front 00000"]
        for name, last, count in (("to_front", answer_bytes - 16, 25), ("to_back", request_bytes - 16, 12)):
            for limit in [*range(1, last, last // count), last]:
                title, key = f"{name:8} {limit:05}", str(uuid.uuid4())
                way.cut(**{name: limit}, by_reset=by_reset)
                assert attempt(way, person.token, title, key) is None, title
                way.cut()
                answer = settled(person, title, key)
                # What did not arrive whole had no effect; what did had it, though nobody heard.
                assert ("idempotency-replayed" in answer.headers) == (name == "to_front"), (title, answer)
                wanted.append(title)
        assert titles_of(person) == sorted(wanted)
        wait_for(lambda: not any(tcp_states(port) for port in way.back_ports), "the server keeps no connection", slack(10))


@pytest.fixture(scope="module")
def behind_a_way():
    """A server whose connections to the database, over TCP, go by a way."""
    with cluster() as database, scratch() as folder, Way(f"{database.sockets}/.s.PGSQL.5432") as way:
        base = f"host=127.0.0.1 port={way.port} dbname=hourz user="
        running = Server(f"{folder}/data", threads=1, database_url=base + "hourz_app", migration_url=base + "hourz_owner")
        try:
            yield running, way
        finally:
            running.close()


@pytest.mark.parametrize("by_reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("name,last", [("to_front", 1500), ("to_back", 1500)])
def test_the_way_to_the_database_cut_anywhere(behind_a_way, name, last, by_reset):
    """Answers are 201 or 503, and 503 says nothing of whether it happened: the key does, once."""
    server, way = behind_a_way
    with Person(server.base) as person:
        wanted, refused = [], 0
        for limit in range(1, last, 50):
            title, key = f"{name:8} {limit:05}", str(uuid.uuid4())
            way.cut(**{name: limit}, by_reset=by_reset)
            answer = person.post("/api/gigs", gig(title=title), Idempotency_Key=key)
            assert answer.status in (201, 503), answer
            refused += answer.status == 503
            way.cut()
            assert settled(person, title, key).json["title"] == title
            wanted.append(title)
        assert titles_of(person) == wanted
        assert refused > len(wanted) / 4, f"{refused} of {len(wanted)} met the cut"
        with Client(server.base) as client:
            wait_for(lambda: client.call("GET", "/health/ready").status == 200, "ready", slack(5))


def test_a_link_of_crumbs_changes_nothing():
    """Three bytes at a time, both to the database and from it: the same answers."""
    with cluster() as database, scratch() as folder, Way(f"{database.sockets}/.s.PGSQL.5432", crumbs=3) as way:
        base = f"host=127.0.0.1 port={way.port} dbname=hourz user="
        running = Server(f"{folder}/data", database_url=base + "hourz_app", migration_url=database.urls()["migration_url"])
        try:
            with Person(running.base, "ก้อง") as person:
                made = [person.post("/api/gigs", gig(title=f"งานที่ {n}"), 201).json for n in range(5)]
                assert titles_of(person) == sorted(each["title"] for each in made)
                for each in made:
                    assert person.get(f"/api/gigs/{each['id']}").json["title"] == each["title"]
        finally:
            running.close()
