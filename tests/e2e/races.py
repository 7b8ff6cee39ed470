"""Races over real sockets, on one server or several that share a database: everybody writes before anybody is read."""

import collections
import json
import uuid

from harness import Person, Raw, gig


def people(base, count):
    made = []
    for n in range(count):
        person = Person(base, f"Person {n}", check=False)
        person.close()
        made.append(person)
    return made


def post_gigs(address, token, count, width=16):
    """Ids of `count` new gigs, posted `width` at a time."""
    peers = [Raw(address, token) for _ in range(width)]
    ids = []
    for start in range(0, count, width):
        busy = peers[: min(width, count - start)]
        for n, peer in enumerate(busy):
            peer.send("POST", "/api/gigs", gig(title=f"Gig {start + n}", budget=100 + (start + n) % 900))
        for peer in busy:
            status, _, body = peer.read()
            assert status == 201, body
            ids.append(json.loads(body)["id"])
    for peer in peers:
        peer.close()
    return ids


def race_for(gigs, peers):
    """All peers accept each gig at once. The winner's place for each gig; exactly one 200, the others 409."""
    winners = []
    for each in gigs:
        for peer in peers:
            peer.send("POST", f"/api/gigs/{each}/accept")
        won = []
        for place, peer in enumerate(peers):
            status, _, body = peer.read()
            if status == 200:
                won.append(place)
            else:
                assert status == 409 and json.loads(body)["code"] == "gig_already_taken", body
        assert len(won) == 1, f"gig {each}: {won} won"
        winners.append(won[0])
    return winners


def check_winners(database, gigs, winners, helpers):
    """The database tells the same story: one assignment and one ACCEPT each, of the helper who was told so."""
    rows = database.sql(
        "SELECT g.id, g.helper_id, count(DISTINCT a.*) FILTER (WHERE a.ended_at IS NULL), count(DISTINCT e.version) "
        "FROM gigs g LEFT JOIN gig_assignments a ON a.gig_id = g.id "
        "LEFT JOIN gig_events e ON e.gig_id = g.id AND e.action = 'ACCEPT' GROUP BY g.id")
    stored = {row[0]: row[1:] for row in rows}
    for each, winner in zip(gigs, winners):
        assert stored[each] == [helpers[winner].id, "1", "1"], (each, stored[each])


def race_with_one_key(addresses, token, rounds):
    """The same POST with the same key from everybody at once: one gig each, and every 201 the same bytes."""
    peers = [Raw(address, token) for address in addresses]
    for _ in range(rounds):
        key, title = str(uuid.uuid4()), f"Only once {uuid.uuid4()}"
        unanswered, bodies, rest = list(peers), set(), collections.Counter()
        for peer in peers:
            peer.send("POST", "/api/gigs", gig(title=title), Idempotency_Key=key)
        for _ in range(200):
            again = []
            for peer in unanswered:
                status, _, body = peer.read()
                if status == 201:
                    bodies.add(body)
                else:
                    assert status == 409 and json.loads(body)["code"] == "idempotency_in_progress", body
                    rest[status] += 1
                    again.append(peer)
            unanswered = again
            for peer in unanswered:
                peer.send("POST", "/api/gigs", gig(title=title), Idempotency_Key=key)
            if not unanswered:
                break
        assert not unanswered and len(bodies) == 1
    status, _, body = peers[0].ask("GET", "/api/gigs/my-gigs?as=seeker&limit=100")
    assert status == 200
    titles = [each["title"] for each in json.loads(body)["gigs"]]
    assert len(set(titles)) == len(titles)
    for peer in peers:
        peer.close()
