"""Alerts for a place: contract, section 5, `watch_area`. What is told live is held against what the search answers for the
same circle and filters; and it is told once, never to the seeker, never across a block, and never with the true point.
"""

import math
import random
import time

import harness
import pytest
from harness import SEED, Person, gig, wait_for
from sockets import Meeting, Socket, several

HERE = {"latitude": 13.75, "longitude": 100.54}
UTC = "%Y-%m-%dT%H:%M:%SZ"


def later(seconds):
    return time.strftime(UTC, time.gmtime(time.time() + seconds))


@pytest.fixture(scope="module")
def world():
    """A server that shows true points to everybody, so that an edge is an edge."""
    with harness.server(location_blur_m=0) as own:
        yield own


@pytest.fixture(scope="module")
def poster(world):
    with Person(world.base, "Poster") as person:
        yield person


@pytest.fixture(scope="module")
def looker(world):
    with Person(world.base, "Looker") as person:
        yield person


def watching(person, **area):
    socket = Socket(person.base, person.token)
    wish = {**HERE, "radius_km": 10, **area}
    assert socket.ask("watch_area", **wish) == {name: wish[name] for name in ("latitude", "longitude", "radius_km")}
    return socket


def posted(person, **changes):
    return person.post("/api/gigs", gig(**changes), 201).json


def cancelled(person, one):
    person.call("DELETE", f"/api/gigs/{one['id']}", status=204)


def told(*sockets):
    """Of each socket: what it was told of gigs, as (event, gig), in order."""
    every = []
    for socket in sockets:
        every.append([(kind, data["gig"]["id"] if "gig" in data else data["gig_id"])
                      for kind, data in socket.left("gig_nearby", "gig_gone", "gig_updated")])
    return every if len(sockets) > 1 else every[0]


def updated_to(socket, status):
    """The update that says so. Changes that follow each other at once may be told as one: those before it are passed over."""
    while (shown := socket.expect("gig_updated")["gig"])["status"] != status:
        pass
    return shown


def fenced(person, *sockets, **changes):
    """Posts one more gig and waits until each socket has heard of it: what came before it is there then."""
    one = posted(person, **changes)
    for socket in sockets:
        data = socket.take(lambda frame: frame["type"] == "gig_nearby" and frame["data"]["gig"]["id"] == one["id"], "the fence")["data"]
        assert data["gig"]["status"] == "PENDING"
    return one


# ---- one gig ---------------------------------------------------------------------------------------------------------


def test_a_gig_is_told_once_as_it_opens(seeker, helper):
    with watching(helper) as socket:
        one = posted(seeker, title="Assemble a shelf")
        shown = socket.expect("gig_nearby")["gig"]
        assert shown["id"] == one["id"] and shown["title"] == "Assemble a shelf" and shown["status"] == "PENDING"
        seeker.put(f"/api/gigs/{one['id']}", {"title": "Assemble two shelves"})  # it still passes: no second word of it
        fence = fenced(seeker, socket)
        assert told(socket) == []
        cancelled(seeker, one)
        cancelled(seeker, fence)
        assert socket.expect("gig_gone")["gig_id"] == one["id"]
        assert socket.expect("gig_gone")["gig_id"] == fence["id"]


def goings():
    yield "accepted", lambda seeker, helper, one: helper.post(f"/api/gigs/{one['id']}/accept", None, 200)
    yield "cancelled", lambda seeker, helper, one: cancelled(seeker, one)
    yield "too_cheap", lambda seeker, helper, one: seeker.put(f"/api/gigs/{one['id']}", {"budget": 299.99})
    yield "other_category", lambda seeker, helper, one: seeker.put(f"/api/gigs/{one['id']}", {"category": "garden"})
    yield "other_words", lambda seeker, helper, one: seeker.put(f"/api/gigs/{one['id']}", {"title": "Carry a table"})
    yield "moved_away", lambda seeker, helper, one: seeker.put(f"/api/gigs/{one['id']}", {"latitude": 18.79, "longitude": 98.98})


@pytest.mark.parametrize("how, go", goings(), ids=lambda each: each if isinstance(each, str) else "")
def test_it_is_gone_once(seeker, helper, stranger, how, go):
    filters = {"min_budget": 300, "category": "home", "q": "sofa"}
    with several(watching(helper, filters=filters), watching(stranger, filters=filters)) as sockets:
        one = posted(seeker, category="home")
        for socket in sockets:
            assert socket.expect("gig_nearby")["gig"]["id"] == one["id"]
        go(seeker, helper, one)
        for socket in sockets:
            assert socket.expect("gig_gone")["gig_id"] == one["id"]
        fenced(seeker, *sockets, category="home")
        updates = [("gig_updated", one["id"])] if how == "accepted" else []
        assert told(*sockets) == [updates, []]
        if how not in ("accepted", "cancelled"):  # and it may come back
            seeker.put(f"/api/gigs/{one['id']}", {"budget": 300, "category": "home", "title": "A sofa", **HERE})
            for socket in sockets:
                assert socket.expect("gig_nearby")["gig"]["id"] == one["id"]


def test_it_is_gone_when_its_time_is_over(seeker, helper):
    with watching(helper) as socket:
        one = posted(seeker, expires_at=later(2))
        assert socket.expect("gig_nearby")["gig"]["id"] == one["id"]
        assert socket.expect("gig_gone", 20)["gig_id"] == one["id"]
        wait_for(lambda: seeker.get(f"/api/gigs/{one['id']}").json["status"] == "CANCELLED", "the clock has cancelled it")
        fenced(seeker, socket)
        assert told(socket) == []


def test_a_withdrawn_gig_is_announced_again(seeker, helper, stranger):
    with several(watching(helper), watching(stranger)) as sockets:
        one = posted(seeker)
        for _ in range(2):
            for socket in sockets:
                assert socket.expect("gig_nearby")["gig"]["id"] == one["id"]
            helper.post(f"/api/gigs/{one['id']}/accept", None, 200)
            for socket in sockets:
                assert socket.expect("gig_gone")["gig_id"] == one["id"]
            helper.post(f"/api/gigs/{one['id']}/withdraw", {"reason": "ill"}, 200)
        for socket in sockets:
            assert socket.expect("gig_nearby")["gig"]["helper"] is None


def test_a_gig_that_was_there_before_the_watch_goes_with_a_word(seeker, helper):
    """A client knows it from the search: it is told when it goes, though it was not told when it came."""
    with watching(helper) as earlier:
        outside = posted(seeker, latitude=18.79, longitude=98.98)
        before = fenced(seeker, earlier)  # told by now: else the watch might come before it after all
    with watching(helper) as socket:
        fenced(seeker, socket)
        assert told(socket) == []
        cancelled(seeker, outside)
        cancelled(seeker, before)
        assert socket.expect("gig_gone")["gig_id"] == before["id"]


# ---- who is not told ---------------------------------------------------------------------------------------------------


def test_never_to_the_seeker(seeker, helper):
    with several(watching(seeker), watching(helper)) as (own, other):
        one = posted(seeker)
        assert other.expect("gig_nearby")["gig"]["id"] == one["id"]
        cancelled(seeker, one)
        assert other.expect("gig_gone")["gig_id"] == one["id"]
        fence = fenced(helper, own)
        assert told(own) == [("gig_updated", one["id"])] * 2
        cancelled(helper, fence)


def test_never_across_a_block(server, seeker, helper, stranger):
    def block(blocker, blocked):
        server.database().sql(f"INSERT INTO blocks (blocker_id, blocked_id) VALUES ('{blocker}', '{blocked}')")

    with Person(server.base) as third, several(watching(helper), watching(stranger), watching(third)) as sockets:
        known = posted(seeker)
        for socket in sockets:
            socket.expect("gig_nearby")
        block(seeker.id, helper.id)
        block(stranger.id, seeker.id)
        try:
            one = posted(seeker)
            assert sockets[2].expect("gig_nearby")["gig"]["id"] == one["id"]
            seeker.put(f"/api/gigs/{one['id']}", {"budget": 400})
            cancelled(seeker, one)
            assert sockets[2].expect("gig_gone")["gig_id"] == one["id"]
            # What was told before the block goes from their screens.
            cancelled(seeker, known)
            for socket in sockets:
                assert socket.expect("gig_gone")["gig_id"] == known["id"]
            fenced(third, *sockets[:2])
            fenced(helper, sockets[2])
            assert told(*sockets[:2])[1] == [] and ("gig_nearby", one["id"]) not in told(sockets[0])
        finally:
            server.database().sql("DELETE FROM blocks")


def test_strangers_are_told_the_public_point_and_no_address(seeker, helper, stranger):
    place = {"latitude": 13.7563091, "longitude": 100.5017652, "address_text": "12/3 Soi Secret, third floor"}
    with several(Socket(seeker.base, seeker.token), watching(helper), watching(stranger)) as (own, other, outside):
        one = posted(seeker, **place)
        public = stranger.get(f"/api/gigs/{one['id']}").json
        for socket in (other, outside):
            shown = socket.expect("gig_nearby")["gig"]
            assert shown == public
            assert shown["address_text"] is None and (shown["latitude"], shown["longitude"]) != (place["latitude"], place["longitude"])
        mine = own.expect("gig_updated")["gig"]
        assert mine == seeker.get(f"/api/gigs/{one['id']}").json
        assert {name: mine[name] for name in place} == place
        accepted = helper.post(f"/api/gigs/{one['id']}/accept", None, 200).json
        for socket in (own, other):
            update = socket.expect("gig_updated")["gig"]
            assert update == accepted and {name: update[name] for name in place} == place
        outside.expect("gig_gone")
        helper.put(f"/api/gigs/{one['id']}/status", {"status": "IN_PROGRESS"})
        helper.put(f"/api/gigs/{one['id']}/status", {"status": "CANCELLED", "reason": "a private matter"})
        for socket in (own, other):
            assert updated_to(socket, "CANCELLED")["cancel_reason"] == "a private matter"
        fenced(seeker, outside)
        assert told(outside) == []
        for secret in (place["address_text"], "13.7563091", "private matter"):
            assert secret not in str(outside.seen)


def test_a_helper_who_withdrew_is_a_stranger_again(seeker, helper):
    with Socket(seeker.base, seeker.token) as own:
        meeting = Meeting(seeker, helper, address_text="Soi Secret")
        updated_to(own, "ACCEPTED")
    with several(Socket(seeker.base, seeker.token), Socket(helper.base, helper.token)) as (own, other):
        helper.post(f"/api/gigs/{meeting.gig}/withdraw", {"reason": "ill"}, 200)
        updated_to(own, "PENDING")
        seeker.put(f"/api/gigs/{meeting.gig}", {"address_text": "Soi Other Secret"})
        assert own.expect("gig_updated")["gig"]["address_text"] == "Soi Other Secret"
        fence = posted(helper)
        other.take(lambda frame: frame["type"] == "gig_updated" and frame["data"]["gig"]["id"] == fence["id"], "the fence")
        assert "Secret" not in str(other.seen)


# ---- watches -----------------------------------------------------------------------------------------------------------


def test_a_watch_is_replaced_and_removed(seeker, helper):
    far = {"latitude": 18.79, "longitude": 98.98}
    with several(watching(helper), watching(helper)) as (socket, beside):
        known = fenced(seeker, socket, beside)
        socket.ask("watch_area", **far, radius_km=10)
        near, away = posted(seeker), posted(seeker, **far)
        assert beside.expect("gig_nearby")["gig"]["id"] == near["id"]
        assert socket.expect("gig_nearby")["gig"]["id"] == away["id"]
        for one in (near, known, away):
            cancelled(seeker, one)
        assert socket.expect("gig_gone")["gig_id"] == away["id"]
        assert told(socket) == []
        # The same area once more: what it knew is forgotten, and what opens is told anew.
        socket.ask("watch_area", **HERE, radius_km=10, filters={"max_budget": 100})
        cheap, dear = posted(seeker, budget=100), posted(seeker, budget=100.01)
        assert socket.expect("gig_nearby")["gig"]["id"] == cheap["id"]
        assert socket.ask("unwatch_area") == {} and socket.ask("unwatch_area") == {}
        cancelled(seeker, cheap)
        cancelled(seeker, dear)
        fenced(seeker, beside, budget=50)
        socket.fence()
        assert told(socket) == []
        # One that is refused leaves the one before in place.
        socket.ask("watch_area", **HERE, radius_km=10)
        socket.refused("watch_area", "validation_failed", **HERE, radius_km=101)
        fenced(seeker, socket)
        # No id, no answer; the watch stands all the same.
        socket.send("watch_area", **far, radius_km=10)
        socket.fence()
        fenced(seeker, socket, **far)
        assert not socket.left("area_watched")


def test_two_connections_of_one_person_watch_for_themselves(seeker, helper):
    with several(watching(helper, filters={"min_budget": 500}), watching(helper, filters={"max_budget": 499})) as (dear, cheap):
        one, other = posted(seeker, budget=500), posted(seeker, budget=499)
        assert dear.expect("gig_nearby")["gig"]["id"] == one["id"]
        assert cheap.expect("gig_nearby")["gig"]["id"] == other["id"]
        assert told(dear, cheap) == [[], []]


# ---- against the search ------------------------------------------------------------------------------------------------


def agree(poster, looker, area, filters, gigs, fence):
    """Posts the gigs; those told are those that the search answers. How many of them they are."""
    with watching(looker, **area, filters=filters) as socket:
        made = {posted(poster, **each)["id"] for each in gigs}
        closing = fenced(poster, socket, **fence)
        heard = [name for kind, name in told(socket) if kind == "gig_nearby"]
        assert len(heard) == len(set(heard))
        found, cursor = set(), {}
        while cursor is not None:
            page = looker.get("/api/gigs", **area, **(filters or {}), **cursor, limit=100).json
            found |= {one["id"] for one in page["gigs"]}
            cursor = page["next_cursor"] and {"cursor": page["next_cursor"]}
        assert set(heard) == found & made, (area, filters, set(heard) ^ (found & made))
        for name in made | {closing["id"]}:
            poster.call("DELETE", f"/api/gigs/{name}", status=204)
        for name in [*heard, closing["id"]]:
            socket.expect("gig_gone", gig_id=name)
        assert told(socket) == []
        return len(heard)


FILTERS = [
    ({"min_budget": 350}, [{"budget": 350}, {"budget": 349.99}, {"budget": 10_000}, {"budget": 1}], 2),
    ({"max_budget": 350}, [{"budget": 350}, {"budget": 350.01}, {"budget": 1}], 2),
    ({"min_budget": 100, "max_budget": 100}, [{"budget": 100}, {"budget": 99.99}, {"budget": 100.01}], 1),
    ({"max_duration": 1.5}, [{"duration_hours": 1.5}, {"duration_hours": 2}, {"duration_hours": 0.5}], 2),
    ({"category": "Garden"}, [{"category": "garden"}, {"category": "GARDEN"}, {"category": "gardening"}, {}], 2),
    ({"q": "sofa"}, [{"title": "A SOFA here"}, {"title": "sofas", "description": "no"}, {"title": "x y z", "description": "my sofa."},
                     {"title": "unsofa", "description": "no"}, {"title": "Table", "description": "chair"}], None),
    ({"q": "carry floors"}, [{}, {"title": "Carry it", "description": "one floor"}, {"title": "Floors to sweep", "description": "x"}], None),
    ({"q": "ทำความสะอาด"}, [{"title": "ทำความสะอาดห้อง"}, {"title": "ขนของ", "description": "แล้วทำความสะอาด"}, {"title": "ขนของ"}], None),
    ({"q": "a@b.c -x \"sofa"}, [{}, {"title": "a b c x sofa"}], None),
    ({"starts_after": "2031-01-02T00:00:00Z"}, [{"starts_at": "2031-01-02T00:00:00Z"}, {"starts_at": "2031-01-01T23:59:59.999999Z"}, {}], 1),
    ({"starts_before": "2031-01-02T00:00:00Z"}, [{"starts_at": "2031-01-02T00:00:00Z"}, {"starts_at": "2031-01-02T00:00:00.000001Z"}, {}], None),
    ({"starts_after": "2031-01-02T00:00:00Z", "starts_before": "2031-01-02T00:00:00Z"}, [{"starts_at": "2031-01-02T00:00:00Z"}, {}], None),
]  # fmt: skip


@pytest.mark.parametrize("filters, gigs, count", FILTERS, ids=lambda each: "-".join(each) if isinstance(each, dict) else "")
def test_filters_are_the_searchs(poster, looker, filters, gigs, count):
    passing = {"budget": 100 if "min_budget" in filters and "max_budget" in filters else 350, "category": "garden",
               "starts_at": "2031-01-02T00:00:00Z", "title": "Carry a sofa up two floors a@b.c -x", "description": "ทำความสะอาด"}
    heard = agree(poster, looker, {**HERE, "radius_km": 10}, filters, [*gigs, passing], passing)
    assert heard >= 1 and (count is None or heard - 1 == count)


CIRCLES = {
    "bangkok": (13.75, 100.54, 1),
    "smallest": (13.75, 100.54, 0.1),
    "widest": (13.75, 100.54, 100),
    "origin": (0, 0, 5),
    "antimeridian_from_the_west": (-16.8, 179.995, 30),
    "antimeridian_from_the_east": (65.0, -179.9, 100),
    "antimeridian_itself": (10, 180, 20),
    "antimeridian_by_its_other_name": (10, -180, 20),
    "north_pole": (90, 0, 50),
    "near_the_north_pole": (89.95, 135, 30),
    "south_pole": (-90, -77, 100),
    "near_the_south_pole": (-89.6, -100, 100),
    "far_north": (78.2, 15.6, 60),
}  # fmt: skip


def around(latitude, longitude, metres, bearing):
    """On a sphere, which is off by up to half a percent: near the edge, on either side of it."""
    angle, start = metres / 6_371_009, math.radians(latitude)
    sine = math.sin(start) * math.cos(angle) + math.cos(start) * math.sin(angle) * math.cos(bearing)
    end = math.asin(max(-1, min(1, sine)))
    turn = math.atan2(math.sin(bearing) * math.sin(angle) * math.cos(start), math.cos(angle) - math.sin(start) * math.sin(end))
    there = (longitude + math.degrees(turn) + 540) % 360 - 180
    return {"latitude": round(math.degrees(end), 7), "longitude": round(there, 7)}


@pytest.mark.parametrize("name", CIRCLES)
def test_circles_are_the_searchs(poster, looker, name):
    latitude, longitude, radius_km = CIRCLES[name]
    rolls = random.Random(f"{SEED} {name}")
    places = [around(latitude, longitude, radius_km * 1000 * share, rolls.uniform(0, 2 * math.pi))
              for share in (*[rolls.uniform(0.993, 1.007) for _ in range(14)], 0.5, 0.99, 1.02, 1.5)]
    if abs(longitude) == 180:
        places += [{"latitude": latitude + 0.01, "longitude": side} for side in (180, -180)]
    center = {"latitude": latitude, "longitude": longitude}
    fence = around(latitude, longitude, radius_km * 100, 1)
    heard = agree(poster, looker, {**center, "radius_km": radius_km}, None, places, fence)
    assert 2 <= heard <= len(places) - 2


def test_the_public_point_decides(seeker, helper):
    """As in the search: a circle's edge tells nothing of the true place."""
    rolls = random.Random(SEED)
    places = [around(**HERE, metres=rolls.uniform(2600, 3400), bearing=rolls.uniform(0, 2 * math.pi)) for _ in range(40)]
    heard = agree(seeker, helper, {**HERE, "radius_km": 3}, None, places, HERE)
    assert 5 <= heard <= 35


# ---- what else concerns a person -------------------------------------------------------------------------------------


def test_people_hear_of_their_payments_and_reviews(seeker, helper):
    meeting = Meeting(seeker, helper)
    stranger = Person(seeker.base)
    with Socket(seeker.base, seeker.token) as pays, Socket(helper.base, helper.token) as gets, \
            Socket(stranger.base, stranger.token) as other:
        paid = seeker.post("/api/transactions/escrow", {"gig_id": meeting.gig}, 201).json
        helper.put(f"/api/gigs/{meeting.gig}/status", {"status": "IN_PROGRESS"}, 200)
        helper.put(f"/api/gigs/{meeting.gig}/status", {"status": "COMPLETED"}, 200)
        seeker.put(f"/api/transactions/{paid['id']}/release", None, 200)
        for side in (pays, gets):
            for kind in ("payment_held", "payment_released"):
                assert side.expect("notification") == {"kind": kind, "gig_id": meeting.gig}
        helper.post("/api/reviews", {"gig_id": meeting.gig, "rating": 5}, 201)
        assert pays.expect("notification") == {"kind": "review_received", "gig_id": meeting.gig}
        for side in (gets, other):
            side.ask("unwatch_area")
            assert not side.left("notification")
    stranger.close()
