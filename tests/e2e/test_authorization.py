"""Z01 to Z04: the table of authorization.py against the running server, every operation and every event, everybody. What is
walked is what the server publishes, so that something new without a row fails here. That a bad token is one, in all ways
in which it can be bad, and that nothing in C++ is missing from the document, tests/contract_test.cpp shows."""

import uuid

import pytest

from api_fuzz import VERBS, kind_of
from authorization import (EVENTS, GUARDED, OPEN, OPEN_ANSWERS, OPERATIONS, PICTURE, PICTURE_FIELDS, QUERIES,
                           ROLES)
from harness import PASSWORD, Client, Person, gig, run, wait_for
from pictures import png, upload
from psql import Digest, Psql
from sockets import Socket, operations, upgrade


class World:
    def __init__(self, server):
        self.server, self.base = server, server.base
        self.people = {role: self.person(role) for role in (*ROLES, "suspended", "ended")}
        self.people["nobody"] = Client(self.base)
        granted = run("admin", "grant", self.people["admin"].email, data_directory=server.directory)
        assert granted.returncode == 0, granted.stderr
        self.people["admin"].login()
        self.people["ended"].post("/api/auth/logout", None, 204)
        suspended = self.people["suspended"]
        server.database().sql(f"UPDATE users SET suspended_at = now() WHERE id = '{suspended.id}'")
        # Done behind the server's back, which remembers for a moment who was let in.
        wait_for(lambda: suspended.call("GET", "/api/users/me").status == 403, "the server knows", 10)
        self.ids = {}

    def person(self, role):
        person = Person(self.base, role.capitalize())
        person.put("/api/users/location", {"latitude": 13.7, "longitude": 100.5})
        return person

    def fresh(self, role):
        """Another of that kind, when what is asked for ends the session or the account's way in."""
        if role in GUARDED:
            return self.people[role]
        return self.person(role)

    def make(self, state):
        """What the row needs, new: the ids by their kind."""
        seeker, helper = self.people["seeker"], self.people["helper"]
        ids = {"users": seeker.id, "helper": helper.id, "password": PASSWORD, "fresh": str(uuid.uuid4())}
        if state == "session":
            with Client(self.base) as again:
                again.post("/api/auth/login", {"email": seeker.email, "password": PASSWORD}, 200)
            ids["sessions"] = next(each["id"] for each in seeker.get("/api/auth/sessions").json["sessions"] if not each["is_current"])
        elif state == "buddy":
            seeker.call("DELETE", f"/api/buddies/{helper.id}", status={204, 404})
            for role in ("stranger", "admin"):
                self.people[role].call("DELETE", f"/api/buddies/{helper.id}", status={204, 404})
            seeker.post("/api/buddies", {"buddy_id": helper.id}, 201)
            ids["users"] = helper.id
        elif state in ("another", "report"):
            with Person(self.base) as another:
                ids["users"] = another.id
            if state == "report":
                ids["reports"] = seeker.post("/api/reports", {"user_id": another.id, "reason": "Spam"}, 201).json["id"]
        elif state == "upload":
            made = seeker.call("POST", "/api/upload/chat", PICTURE, 201, PICTURE_FIELDS)
            ids["upload"] = made.json["id"]
        elif state not in (None, "set_up"):
            self.make_gig(state, ids)
        return ids

    def make_gig(self, state, ids):
        seeker, helper = self.people["seeker"], self.people["helper"]
        one = ids["gig"] = ids["gigs"] = seeker.post("/api/gigs", gig(), 201).json["id"]
        if state == "pending":
            return
        helper.post(f"/api/gigs/{one}/accept", None, 200)
        ids["room"] = ids["rooms"] = next(room["id"] for room in seeker.get("/api/chat/rooms").json["rooms"] if room["gig_id"] == one)
        if state in ("held", "disputed", "paid_work"):
            paid = ids["transactions"] = seeker.post("/api/transactions/escrow", {"gig_id": one}, 201).json["id"]
            if state == "disputed":
                helper.put(f"/api/transactions/{paid}/dispute", {"reason": "Not done"})
        if state in ("completed", "review", "paid_work"):
            for status in ("IN_PROGRESS", "COMPLETED"):
                seeker.put(f"/api/gigs/{one}/status", {"status": status})
        if state == "review":
            ids["reviews"] = seeker.post("/api/reviews", {"gig_id": one, "rating": 4}, 201).json["id"]


def filled(value, ids):
    if isinstance(value, dict):
        return {name: filled(each, ids) for name, each in value.items()}
    if isinstance(value, str):
        for name, each in ids.items():
            value = value.replace("{" + name + "}", each)
    return value


@pytest.fixture(scope="module")
def world(server):
    return World(server)


@pytest.fixture(scope="module")
def digest(server):
    with Psql(server.database()) as psql:
        yield Digest(psql, ("sessions", "idempotency_keys", "gig_cells", "gig_cell_changes", "timers", "outbox", "socket_tickets", "mails",
                            "removed_files"))


@pytest.fixture(scope="module")
def published(base):
    with Client(base) as anyone:
        return anyone.get("/openapi.json").json


def all_operations(document):
    return [(path, verb, operation["operationId"], bool(operation.get("security")) and {} not in operation["security"])
            for path, verbs in document["paths"].items() for verb, operation in verbs.items() if verb in VERBS]


def target_of(path, ids):
    for part in path.split("/"):
        if part.startswith("{"):
            path = path.replace(part, ids.get(kind_of(path, part[1:-1]), str(uuid.uuid4())))
    return path


def test_every_operation_has_a_row(published):
    names = {name.removesuffix("_patch") for _, _, name, guarded in all_operations(published) if guarded}
    assert names == set(OPERATIONS), f"no row: {names - set(OPERATIONS)}; no operation: {set(OPERATIONS) - names}"
    assert {name for _, _, name, guarded in all_operations(published) if not guarded} == OPEN


def ends_the_session(name):
    return name.startswith(("auth.logout", "auth.change_password", "auth.end_other", "account.delete"))


def outcomes(world, digest, path, verb, name):
    """What each got who is in the table, and whether it left something behind."""
    row = OPERATIONS[name.removesuffix("_patch")]
    expected = {**GUARDED, **row.statuses}
    wrong, ids = [], None
    for role, wanted in expected.items():
        person = world.fresh(role) if ends_the_session(name) or row.state == "set_up" else world.people[role]
        if row.state == "set_up" and role in ROLES:
            person.put("/api/auth/profile-setup", {"name": "First"})
        if ids is None or (row.state and verb != "get"):
            ids = world.make(row.state)
        before = digest.take()
        target = target_of(path, ids) + (f"?{QUERIES[name]}" if name in QUERIES else "")
        fields = PICTURE_FIELDS if row.body is PICTURE else None
        answer = person.call(verb.upper(), target, filled(row.body, ids), headers=fields)
        if answer.status != wanted:
            wrong.append(f"{verb} {path} as {role}: {answer.status} instead of {wanted}: {answer.text[:200]}")
        if answer.status >= 400:
            changed = {table for table, state in digest.take().items() if state != before[table]}
            if changed:
                wrong.append(f"{verb} {path} as {role}: refused, and yet changed {changed}")
            wrong += not_there(person, verb, path, row, ids, answer, role) if answer.status == 404 else []
    return wrong


def not_there(person, verb, path, row, ids, refused, role):
    """Z02: what is not yours looks as what is not there, to the byte, but for what names the request."""
    nothing = {name: value if name in ("password", "fresh") else str(uuid.uuid4()) for name, value in ids.items()}
    absent = person.call(verb.upper(), target_of(path, nothing), filled(row.body, nothing))

    def plain(answer):
        text = answer.text.replace(answer.headers["x-request-id"], "")
        kept = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "date", "content-length")}
        return answer.status, text, kept

    return [] if plain(absent) == plain(refused) else [f"{verb} {path} as {role}: {refused} is not as {absent}"]


def test_operations(world, digest, published):
    """Z01, Z02: every operation, everybody."""
    wrong, asked = [], 0
    for path, verb, name, guarded in all_operations(published):
        if guarded:
            wrong += outcomes(world, digest, path, verb, name)
            asked += len(GUARDED) + len(ROLES)
            continue
        body, wanted = OPEN_ANSWERS.get(name, (None, 200))
        for role in (*GUARDED, *ROLES):
            answer = world.people[role].call(verb.upper(), path.replace("{file}", "nothing.js").replace("{id}", str(uuid.uuid4())), body)
            asked += 1
            if answer.status != wanted:
                wrong.append(f"{verb} {path} as {role}: {answer.status} instead of {wanted}")
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong)
    print(f"{asked} requests as the table says")


SPELLINGS = {
    "capitals": lambda path: path.upper(), "a slash more": lambda path: "/" + path, "a slash doubled": lambda path: path.replace("/api/", "/api//"),
    "a dot": lambda path: path.replace("/api/", "/api/./"), "an escape": lambda path: path.replace("/api/", "/%61pi/"),
    "a parameter": lambda path: path + ";x=1", "a NUL": lambda path: path + "%00", "an escaped slash": lambda path: path.replace("/api/", "/api%2f"),
    "a way back": lambda path: path.replace("/api/", "/api/gigs/../"), "a format": lambda path: path + ".json", "a slash at the end": lambda path: path + "/",
}


def test_spellings_and_methods_do_not_help(world, digest, published):
    """Z03: for what a stranger may not do, no other spelling of the path and no header that names another method lets them."""
    stranger, asked = world.people["stranger"], 0
    ids = world.make("held")
    before = digest.take()
    for path, verb, name, guarded in all_operations(published):
        row = OPERATIONS.get(name.removesuffix("_patch"))
        if not guarded or row.statuses["stranger"] not in (403, 404):
            continue
        target, body = target_of(path, ids), filled(row.body, ids)
        for spelling, change in SPELLINGS.items():
            answer = Client(world.base, stranger.token, check=False).call(verb.upper(), change(target), body)
            assert 400 <= answer.status < 500, f"{verb} {change(target)} ({spelling}): {answer}"
            asked += 1
        for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            # A method that is refused stays refused, whatever it says it was.
            answer = Client(world.base, stranger.token, check=False).call(verb.upper(), target, body, headers={header: "GET"})
            assert answer.status in (403, 404, 412), f"{verb} {target} {header}: {answer}"
            asked += 1
        for header, value in (("X-Original-URL", "/api/users/me"), ("X-Rewrite-URL", "/api/users/me"), ("X-User-Id", ids["users"]),
                              ("X-Forwarded-User", ids["users"]), ("X-Role", "ADMIN")):
            answer = Client(world.base, stranger.token, check=False).call(verb.upper(), target, body, headers={header: value})
            assert answer.status in (403, 404), f"{verb} {target} {header}: {answer}"
            asked += 1
    assert digest.take() == before
    print(f"{asked} requests refused")


def test_foreign_ids_in_bodies(world, digest):
    """Z01, Z07: an id of others in a body is worth no more than in a path."""
    ids = world.make("held")
    done = world.make("completed")
    stranger, helper = world.people["stranger"], world.people["helper"]
    before = digest.take()
    stranger.post("/api/transactions/escrow", {"gig_id": ids["gig"]}, 403)
    helper.post("/api/transactions/escrow", {"gig_id": ids["gig"]}, 403)
    stranger.post("/api/reviews", {"gig_id": done["gig"], "rating": 1}, 403)
    # Of the other side, whoever is named.
    helper.post("/api/reviews", {"gig_id": done["gig"], "rating": 1, "reviewee_id": stranger.id}, {403, 409, 422})
    helper.post("/api/reviews", {"gig_id": done["gig"], "rating": 5, "reviewee_id": helper.id}, {403, 409, 422})
    assert digest.take() == before


def test_foreign_pictures(world, digest):
    """Z07: an upload of others shows in nothing of one's own, by whatever way it is named, and is not theirs any less."""
    ids = world.make("accepted")
    seeker, helper, stranger = (world.people[role] for role in ("seeker", "helper", "stranger"))
    own = stranger.post("/api/gigs", gig(), 201).json["id"]
    of = {category: upload(seeker, png(8, 8), category=category).json for category in ("gig", "chat")}
    before = digest.take()
    refused = [(method, path, gig(image_urls=[each["url"]]))
               for each in of.values() for method, path in (("POST", "/api/gigs"), ("PUT", f"/api/gigs/{own}"))]
    url = of["gig"]["url"]
    refused += [("POST", "/api/gigs", gig(image_urls=[spelling]))
                for spelling in (f"{url}/thumb", world.base + url, url + "?", url.upper())]
    for method, path, body in refused:
        answer = stranger.call(method, path, body, 422)
        assert [(fault["field"], fault["code"]) for fault in answer.json["errors"]] == [("image_urls[0]", "not_your_upload")], answer
    # In a message of the room that the two share.
    for each in of.values():
        answer = helper.post(f"/api/chat/rooms/{ids['rooms']}/messages", {"image_url": each["url"]}, 422)
        assert answer.json["errors"][0]["code"] == "not_your_upload", answer
        with Socket(world.base, helper.token) as socket:
            number = socket.begin("send_message", room_id=ids["rooms"], image_url=each["url"])
            assert socket.answer(number)["data"]["errors"][0]["code"] == "not_your_upload"
    # A profile takes no address of a picture at all.
    faults = stranger.put("/api/users/me", {"photo_url": url}, 422).json["errors"]
    assert [(fault["field"], fault["code"]) for fault in faults] == [("photo_url", "unknown_field")]
    for path in (f"/api/upload/{of['chat']['id']}/link", of["chat"]["url"], of["chat"]["thumbnail_url"]):
        stranger.get(path, 404)
    stranger.call("DELETE", f"/api/upload/{of['gig']['id']}", status=404)
    assert digest.take() == before


# ---- events ----------------------------------------------------------------------------------------------------------


def test_every_event_has_a_row():
    assert set(operations("receive")) == set(EVENTS)


def answer_of(socket, event, body):
    number = socket.begin(event, **body)
    frame = socket.answer(number)
    return frame["data"]["code"] if frame["type"] == "error" else frame["type"].upper()


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_event(world, event):
    """Every event, everybody: on a socket of one's own, and on one without a caller."""
    row = EVENTS[event]
    for role, wanted in row.statuses.items():
        person = world.people[role]
        ids = {**world.make(row.state), "token": person.token}
        with Socket(world.base, person.token) as socket:
            assert answer_of(socket, event, filled(row.body, ids)) == wanted, role
    ids = {**world.make(row.state), "token": "x"}
    with Socket(world.base) as nobody:
        wanted = "token_invalid" if event == "authenticate" else "unauthenticated"
        assert answer_of(nobody, event, filled(row.body, ids)) == wanted


def test_sockets_of_those_who_have_no_way_in(world):
    for role, status, code in (("suspended", 403, "account_suspended"), ("ended", 401, "session_ended")):
        token = world.people[role].token
        refused = upgrade(world.base, Authorization=f"Bearer {token}")
        assert refused.status == status and refused.json["code"] == code, refused
        with Socket(world.base) as socket:
            socket.refused("authenticate", code, access_token=token)
            socket.closed(4501)


def test_one_token_does_not_make_another_of_a_socket(world):
    """An open socket stays its owner's: whoever authenticates on it as somebody else is refused."""
    with Socket(world.base, world.people["seeker"].token) as socket:
        assert answer_of(socket, "authenticate", {"access_token": world.people["stranger"].token}) == "forbidden"
