"""The main job over HTTP, from registration to a completed gig, and what a client of the contract's first section sees."""

import uuid

import pytest

from harness import PASSWORD, Person, document, gig


def test_from_registration_to_completion(base):
    with Person(base, "Mali") as seeker, Person(base, "Somchai") as helper:
        assert seeker.user["reputation_score"] == 5 and not seeker.user["has_location"]
        refused = helper.put("/api/users/availability", {"is_available": True}, 409)
        assert refused.json["code"] == "location_required"
        helper.put("/api/users/location", {"latitude": 13.7456, "longitude": 100.5341, "district": "Pathum Wan"})
        assert helper.put("/api/users/availability", {"is_available": True}).json["is_available"]
        nearby = seeker.get("/api/users/nearby", latitude=13.75, longitude=100.54).json["users"]
        assert helper.id in [user["id"] for user in nearby]

        posted = seeker.post("/api/gigs", gig(), 201)
        one = posted.json
        assert posted.headers["location"] == f"/api/gigs/{one['id']}"
        assert (one["status"], one["version"], one["helper"]) == ("PENDING", 1, None)
        found = helper.get("/api/gigs", latitude=13.7456, longitude=100.5341, radius_km=2).json["gigs"]
        (seen,) = [each for each in found if each["id"] == one["id"]]
        assert 0.4 < seen["distance_km"] < 1.2  # 0.8 km, and the public point is off by up to 200 m

        accepted = helper.post(f"/api/gigs/{one['id']}/accept", None, 200).json
        assert accepted["status"] == "ACCEPTED" and accepted["helper"]["id"] == helper.id
        assert accepted["latitude"] == 13.75  # a side sees the true place
        started = helper.put(f"/api/gigs/{one['id']}/status", {"status": "in_progress"}).json
        assert started["status"] == "IN_PROGRESS" and started["started_at"]
        done = seeker.put(f"/api/gigs/{one['id']}/status", {"status": "COMPLETED"}).json
        assert done["status"] == "COMPLETED" and done["completed_at"] and done["version"] == 4
        events = seeker.get(f"/api/gigs/{one['id']}/events").json["events"]
        assert [event["action"] for event in events] == ["CREATE", "ACCEPT", "START", "COMPLETE"]
        assert helper.get("/api/users/me").json["completed_gigs"] == 1


def test_what_goes_wrong(base, seeker, helper, stranger):
    one = seeker.post("/api/gigs", gig(), 201).json
    assert seeker.post(f"/api/gigs/{one['id']}/accept", None, 409).json["code"] == "own_gig"
    helper.post(f"/api/gigs/{one['id']}/accept", None, 200)
    assert stranger.post(f"/api/gigs/{one['id']}/accept", None, 409).json["code"] == "gig_already_taken"
    wrong = seeker.put(f"/api/gigs/{one['id']}/status", {"status": "COMPLETED"}, 409).json
    assert wrong["code"] == "invalid_transition" and wrong["current_status"] == "ACCEPTED"
    assert set(wrong["allowed"]) == {"IN_PROGRESS", "CANCELLED"}
    assert seeker.put(f"/api/gigs/{one['id']}", {"title": "Another title"}, 409).json["code"] == "gig_not_editable"
    stranger.get(f"/api/gigs/{one['id']}/events", 403)
    stranger.get(f"/api/gigs/{uuid.uuid4()}", 404)


def test_all_faults_at_once(seeker):
    wrong = {"title": "x", "description": "", "duration_hours": 0.7, "budget": 0.001, "latitude": 91, "longitude": "far",
             "status": "COMPLETED"}
    faults = seeker.post("/api/gigs", wrong, 422).json["errors"]
    assert {fault["field"] for fault in faults} == {*wrong}


def test_withdraw_gives_the_gig_back(seeker, helper, stranger):
    one = seeker.post("/api/gigs", gig(), 201).json
    helper.post(f"/api/gigs/{one['id']}/accept", None, 200)
    assert helper.post(f"/api/gigs/{one['id']}/withdraw", {"reason": "Ill"}, 200).json["status"] == "PENDING"
    assert stranger.post(f"/api/gigs/{one['id']}/accept", None, 200).json["helper"]["id"] == stranger.id


def test_delete_cancels_and_erases_nothing(seeker):
    one = seeker.post("/api/gigs", gig(), 201).json
    seeker.call("DELETE", f"/api/gigs/{one['id']}", status=204)
    assert seeker.get(f"/api/gigs/{one['id']}").json["status"] == "CANCELLED"


def test_idempotency_key(base, seeker, stranger):
    key = str(uuid.uuid4())
    first = seeker.post("/api/gigs", gig(), 201, Idempotency_Key=key)
    again = seeker.post("/api/gigs", gig(), 201, Idempotency_Key=key)
    assert again.body == first.body and again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
    other = seeker.post("/api/gigs", gig(budget=1), 422, Idempotency_Key=key)
    assert other.json["code"] == "idempotency_key_reused"
    assert stranger.post("/api/gigs", gig(), 201, Idempotency_Key=key).json["id"] != first.json["id"]
    for bad in ("a b", "x" * 256, ""):
        assert seeker.post("/api/gigs", gig(), 400, Idempotency_Key=bad).json["code"] == "invalid_idempotency_key"


def test_etags(seeker):
    one = seeker.post("/api/gigs", gig(), 201)
    at = f"/api/gigs/{one.json['id']}"
    etag = seeker.get(at).headers["etag"]
    assert seeker.call("GET", at, headers={"If-None-Match": etag}).status == 304
    assert seeker.put(at, {"budget": 400}, 412, If_Match='"0"').json["code"] == "precondition_failed"
    changed = seeker.put(at, {"budget": 400}, If_Match=etag)
    assert changed.json["budget"] == 400 and changed.headers["etag"] != etag
    seeker.put(at, {"budget": 500}, 412, If_Match=etag)
    assert seeker.call("GET", at, headers={"If-None-Match": etag}).status == 200


def test_paging_neither_repeats_nor_skips(base, stranger):
    with Person(base) as poster:
        before = {poster.post("/api/gigs", gig(budget=n), 201).json["id"] for n in range(1, 25)}
        seen, cursor = [], None
        while True:
            query = {"as": "seeker", "limit": 7, **({"cursor": cursor} if cursor else {})}
            page = poster.get("/api/gigs/my-gigs", **query).json
            seen += [each["id"] for each in page["gigs"]]
            poster.post("/api/gigs", gig(), 201)
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) and before == set(seen) & before
        page = poster.get("/api/gigs/my-gigs", limit=2).json
        edited = page["next_cursor"][:-2] + ("A" if page["next_cursor"][-2] != "A" else "B") + page["next_cursor"][-1]
        assert poster.get("/api/gigs/my-gigs", 400, cursor=edited).json["code"] == "invalid_cursor"
        stranger.get("/api/gigs/my-gigs", 400, cursor=page["next_cursor"])


def test_forms_and_slashes(base, anyone):
    with Person(base) as person:
        form = f"username={person.email.replace('@', '%40')}&password={PASSWORD.replace(' ', '+')}&grant_type=password".encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        assert anyone.call("POST", "/api/auth/login/", form, 200, headers).json["token_type"] == "bearer"
        assert person.get("/api/users/me/").json == person.get("/api/auth/me").json
        assert person.call("HEAD", "/api/users/me", status=200).headers["content-length"] != "0"
        assert "GET" in person.call("OPTIONS", "/api/users/me", status=204).headers["allow"]


def test_request_ids(anyone):
    assert anyone.call("GET", "/health/live", headers={"X-Request-Id": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    for odd in ("a b", "x" * 65, 'a"b', "\xe9"):
        given = anyone.call("GET", "/health/live", headers={"X-Request-Id": odd.encode("latin-1")})
        assert uuid.UUID(given.headers["x-request-id"])


@pytest.mark.parametrize("target", ["/openapi.json", "/docs", "/health", "/health/ready", "/health/live", "/metrics"])
def test_open_to_anybody(anyone, target):
    anyone.get(target)


def test_published_document_is_the_committed_one(anyone):
    assert anyone.get("/openapi.json").json == document()
