"""Many at once on one server: one winner a gig, one effect a key, one successor a refresh token."""

import json
import time

from harness import Person, Raw, slack
from races import check_winners, people, post_gigs, race_for, race_with_one_key


def test_forty_helpers_one_gig(server):
    helpers = people(server.base, 40)
    (one,) = post_gigs(server.address(), Person(server.base).token, 1)
    peers = [Raw(server.address(), person.token) for person in helpers]
    winners = race_for([one], peers)
    check_winners(server.database(), [one], winners, helpers)
    for peer in peers:
        peer.close()


def test_thousand_gigs_twenty_accepts_each(server):
    """D12, M03."""
    helpers = people(server.base, 20)
    gigs = post_gigs(server.address(), Person(server.base).token, 1000)
    peers = [Raw(server.address(), person.token) for person in helpers]
    began = time.monotonic()
    winners = race_for(gigs, peers)
    assert time.monotonic() - began < slack(40)
    check_winners(server.database(), gigs, winners, helpers)
    for peer in peers:
        peer.close()
    assert len(set(winners)) > 5, "hardly a race"


def test_one_key_from_twenty_sockets(server):
    race_with_one_key([server.address()] * 20, Person(server.base).token, 30)


def test_start_against_cancel(server):
    """Of two steps that exclude each other, one happens; the history has no double step."""
    seeker, helper = people(server.base, 2)
    peers = [Raw(server.address(), seeker.token), Raw(server.address(), helper.token)]
    for each in post_gigs(server.address(), seeker.token, 100):
        assert peers[1].ask("POST", f"/api/gigs/{each}/accept")[0] == 200
        peers[0].send("PUT", f"/api/gigs/{each}/status", {"status": "CANCELLED"})
        peers[1].send("POST", f"/api/gigs/{each}/withdraw")
        statuses = [peer.read()[0] for peer in peers]
        # Cancelling a gig that was just given back is right too.
        assert statuses in ([200, 409], [200, 200], [409, 200]), statuses
        _, _, body = peers[0].ask("GET", f"/api/gigs/{each}/events")
        versions = [event["version"] for event in json.loads(body)["events"]]
        assert versions == list(range(1, len(versions) + 1)) and len(versions) == 2 + statuses.count(200)
    for peer in peers:
        peer.close()


def test_one_refresh_token_from_twenty_sockets(server):
    """A12: the parent of an unused successor gives that successor again, so all of them get the same one."""
    with Person(server.base) as person:
        peers = [Raw(server.address()) for _ in range(20)]
        for peer in peers:
            peer.send("POST", "/api/auth/refresh", {"refresh_token": person.refresh_token})
        answers = [peer.read() for peer in peers]
        assert {status for status, _, _ in answers} == {200}
        assert len({json.loads(body)["refresh_token"] for _, _, body in answers}) == 1
        for peer in peers:
            peer.close()
