"""Several servers on one database: together they are one."""

import json
import re
import time

import pytest

import harness
from harness import Client, Person, Raw, Server, gig, scratch, together, wait_for
from races import check_winners, people, post_gigs, race_for, race_with_one_key


@pytest.fixture(scope="module")
def second(server):
    """Another server on the first one's database."""
    with scratch() as folder:
        running = Server(f"{folder}/data", secret=server.secret(), **server.database().urls())
        try:
            yield running
        finally:
            running.close()


def test_races_across_servers(server, second):
    helpers = people(server.base, 20)
    gigs = post_gigs(server.address(), Person(second.base).token, 300)
    peers = [Raw((second if n % 2 else server).address(), person.token) for n, person in enumerate(helpers)]
    winners = race_for(gigs, peers)
    check_winners(server.database(), gigs, winners, helpers)
    assert {winner % 2 for winner in winners} == {0, 1}
    for peer in peers:
        peer.close()


def test_one_key_across_servers(server, second):
    race_with_one_key([server.address(), second.address()] * 6, Person(server.base).token, 20)


def test_what_one_writes_the_other_reads(server, second):
    with Person(server.base) as person, Client(second.base, person.token) as there:
        one = person.post("/api/gigs", gig(), 201)
        assert there.get(f"/api/gigs/{one.json['id']}").body == one.body
        page = person.get("/api/gigs/my-gigs", limit=1).json
        person.post("/api/gigs", gig(), 201)
        cursor = person.get("/api/gigs/my-gigs", limit=1).json["next_cursor"]
        assert there.get("/api/gigs/my-gigs", limit=1, cursor=cursor).json["gigs"] == page["gigs"]


def test_logout_reaches_the_other(server, second):
    """A13: the bound is the time for which a session is remembered."""
    with Person(server.base) as person, Client(second.base, person.token) as there:
        there.get("/api/users/me")
        person.post("/api/auth/logout", None, 204)
        person.get("/api/users/me", 401)
        wait_for(lambda: there.call("GET", "/api/users/me").status == 401, "the other server knows", 5)


def test_a_timer_fires_once(server, second):
    with Person(server.base) as person:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
        gigs = [person.post("/api/gigs", gig(expires_at=when), 201).json["id"] for _ in range(30)]
        wait_for(lambda: {person.get(f"/api/gigs/{each}").json["status"] for each in gigs} == {"CANCELLED"}, "expiry")
        for each in gigs:
            events = person.get(f"/api/gigs/{each}/events").json["events"]
            assert [event["action"] for event in events] == ["CREATE", "EXPIRE"]


def test_the_map_counts_once(server, second):
    """Both fold the counts of cells: nothing is lost, nothing counted twice."""
    with Person(server.base) as one, Person(second.base) as other:
        def open_gigs():
            return one.get("/api/gigs", include_total="true", sort="newest", limit=1, min_latitude=-40, max_latitude=-30,
                           min_longitude=140, max_longitude=150).json["total_count"]

        def counted():
            marks = one.get("/api/gigs/map", min_latitude=-40, max_latitude=-30, min_longitude=140, max_longitude=150,
                            zoom=3).json
            return sum(cluster["count"] for cluster in marks["clusters"]) + len(marks["gigs"])

        def busy(person):
            def work():
                for n in range(60):
                    made = person.post("/api/gigs", gig(latitude=-33.8 + n / 1000, longitude=145.2), 201).json["id"]
                    if n % 3 == 0:
                        person.call("DELETE", f"/api/gigs/{made}", status=204)
            return work

        together(busy(one), busy(other))
        assert open_gigs() == counted() == 80
        wait_for(lambda: server.database().sql("SELECT count(*) FROM gig_cell_changes") == [["0"]], "all is folded")
        assert counted() == 80


def test_five_servers_migrate_once():
    """X02."""
    with harness.cluster() as database, scratch() as folder:
        started = []

        def start(n):
            started.append(Server(f"{folder}/{n}", secret="r4nd0m" * 8, **database.urls()))

        try:
            together(*[lambda n=n: start(n) for n in range(5)])
            steps = [re.findall(r'"event":"schema.migrated","steps":(\d+)', each.log()) for each in started]
            assert sorted(len(each) for each in steps) == [0, 0, 0, 0, 1], steps
            for each in started:
                assert not [line for line in each.log().splitlines() if '"level":"error"' in line]
                with Person(each.base) as person:
                    person.post("/api/gigs", gig(), 201)
        finally:
            together(*[each.close for each in started])
        assert {each.process.returncode for each in started} == {0}


def test_metrics_of_both(server, second):
    for each in (server, second):
        status, _, body = Raw(each.address()).ask("GET", "/metrics")
        assert status == 200 and b"hourz_http_requests_total" in body
        assert json.loads(Raw(each.address()).ask("GET", "/health")[2])["status"] == "ok"
