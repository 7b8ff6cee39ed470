"""Requests made from the OpenAPI document of a running server, and what must hold of every answer.

A request is drawn for an operation and for somebody out of a small world (nobody, the two sides of gigs, a stranger, an
administrator), with ids of things that are there. Every other one breaks the document in exactly one place. `Fuzzer.judge`
holds the answer against the document: no 5xx, declared, fitting, refused where it is broken, not refused where it fits, 401
without a token, and nothing stored after a refusal. The same seed draws the same requests; a finding comes with the
curl line that sends its request again.
"""

import collections
import json
import random
import re
import shlex
import uuid
from urllib.parse import quote, urlencode

import jsonschema

from generate import Generator
from harness import Client, Person, gig, run
from psql import Digest, Psql

VERBS = ("get", "post", "put", "patch", "delete")
# Faults that a schema cannot tell of: they depend on the world, or on two fields together.
BEYOND_SCHEMA = {"in_the_past", "not_your_upload", "conflict", "no_words", "not_a_phone_number", "needs_a_point",
                 "too_common", "not_in_list", "not_the_other_side", "not_one"}
TWO_FIELDS = {("max_latitude", "out_of_range"), ("max_budget", "out_of_range"), ("starts_before", "out_of_range"),
              ("reason", "required"), ("score", "required"), ("content", "required"), ("content", "empty"),
              ("payee_amount", "out_of_range"), ("token", "invalid")}
CORNERS = {"latitude", "longitude", "min_latitude", "min_longitude", "max_latitude", "max_longitude"}
# What a refused request may leave all the same: that somebody was there, and the answer to a key; and what jobs of the
# server's own do in between.
MAY_CHANGE = ("sessions", "idempotency_keys", "gig_cells", "gig_cell_changes", "timers", "outbox", "socket_tickets",
              "mails", "removed_files")
# An operation that hashes a password takes as long as a hundred others.
COSTLY = {"/api/auth/login", "/api/auth/register", "/api/auth/password"}
# Where a fault is surely one; a header may be odd and yet allowed.
BREAKING = ("body", "query", "path")
# So many answers of 503 a run may have.
BUSY = 5
# A name of a parameter or field, and what it is the id of.
KINDS = {"user": "users", "buddy": "users", "reviewee": "users", "reviewer": "users", "gig": "gigs", "room": "rooms",
         "transaction": "transactions", "review": "reviews", "session": "sessions", "message": "messages"}
ODD_IDS = ["x", "1", "%00", "' OR 1", "%ff%fe", "..", "{id}", "%F0%9F%98%80", "0" * 300, "null", "-1", "%2e%2e%2f", ";x=1"]
ODD_NUMBERS = ["NaN", "Infinity", "1e400", "", "0x1p3", "1,5", "--1", "1e", " 1", "１"]
ODD_TEXTS = ["\0", "\x1b[0m", "y" * 5000]
ODD_JSON = [b"", b"{", b"[1,2", b"{\"a\":1,}", b"\xff\xfe", b"\xef\xbb\xbf{}", b"{\"a\":1}{\"b\":2}", b"nul", b"[" * 5000,
            b"{'a':1}", b"\"" + b"a" * 3000, b"{\"title\":\"a\",\"title\":\"b\"}", b"{\"a\":NaN}", b"{\"\\ud800\":1}"]
PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301"
                    "01003b9c2f900000000049454e44ae426082")


class Finding(AssertionError):
    pass


class Call:
    """One request, and what is wrong with it."""

    def __init__(self, role, verb, path, target, body, headers, fault):
        self.role, self.verb, self.path, self.target = role, verb, path, target
        self.body, self.headers, self.fault = body, headers, fault

    def curl(self, base):
        words = ["curl", "-isS", "-X", self.verb.upper()]
        for name, value in self.headers.items():
            words += ["-H", f"{name}: {value}"]
        if self.role != "nobody":
            words += ["-H", "Authorization: Bearer $TOKEN"]
        line = " ".join(shlex.quote(word).replace("'Authorization: Bearer $TOKEN'", '"Authorization: Bearer $TOKEN"') for word in words)
        if self.body is not None:
            line = f"printf %s {self.body.hex()} | xxd -r -p | {line} --data-binary @-"
        return f"{line} {shlex.quote(base + self.target)}"


class People:
    """Who calls. Somebody whose session an operation has ended, or who is no longer let in, is replaced."""

    roles = ("nobody", "seeker", "helper", "stranger", "admin")

    def __init__(self, server):
        self.server, self.known = server, {}
        for role in self.roles:
            self.client(role)

    def client(self, role):
        if role not in self.known:
            self.known[role] = Client(self.server.base, check=False) if role == "nobody" else self.register(role)
        return self.known[role]

    def register(self, role):
        person = Person(self.server.base, role.capitalize(), check=False)
        person.put("/api/users/location", {"latitude": 13.7456, "longitude": 100.5341})
        if role == "admin":
            granted = run("admin", "grant", person.email, data_directory=self.server.directory)
            assert granted.returncode == 0, granted.stderr
            person.login()
        return person

    def renew(self, role):
        """True when it was needed."""
        if role == "nobody" or self.client(role).call("GET", "/api/users/me").status == 200:
            return False
        self.known.pop(role).close()
        self.client(role)
        return True

    def close(self):
        for client in self.known.values():
            client.close()


class Things:
    """Ids of what there is, by kind: made at first, and taken from answers later."""

    def __init__(self, people):
        self.people = people
        self.ids = collections.defaultdict(lambda: collections.deque(maxlen=24))

    def stock(self):
        """One of each, in each state that others start from."""
        for role in People.roles:
            self.people.renew(role)
        # Who has blocked whom by now has no gigs together.
        self.people.server.database().sql("DELETE FROM blocks")
        seeker, helper, stranger = (self.people.client(role) for role in ("seeker", "helper", "stranger"))
        self.ids["users"].extend([seeker.id, helper.id, stranger.id])
        for steps in ([], ["accept"], ["accept", "escrow"], ["accept", "escrow", "IN_PROGRESS"],
                      ["accept", "escrow", "IN_PROGRESS", "COMPLETED"], ["accept", "IN_PROGRESS", "COMPLETED"]):
            one = seeker.post("/api/gigs", gig(), 201).json["id"]
            self.ids["gigs"].append(one)
            for step in steps:
                if step == "accept":
                    helper.post(f"/api/gigs/{one}/accept", None, 200)
                elif step == "escrow":
                    self.ids["transactions"].append(seeker.post("/api/transactions/escrow", {"gig_id": one}, 201).json["id"])
                else:
                    seeker.put(f"/api/gigs/{one}/status", {"status": step})
        self.ids["reviews"].append(helper.post("/api/reviews", {"gig_id": one, "rating": 4}, 201).json["id"])
        rooms = seeker.get("/api/chat/rooms").json["rooms"]
        self.ids["rooms"].extend(room["id"] for room in rooms)
        open_one = next(room["id"] for room in rooms if room["is_active"])
        self.ids["messages"].append(helper.post(f"/api/chat/rooms/{open_one}/messages", {"content": "Hello"}, 201).json["id"])
        seeker.call("POST", "/api/buddies", {"buddy_id": helper.id})

    def keep(self, path, answer):
        """What a request has made."""
        with_id = answer.status == 201 and answer.body[:1] == b"{" and answer.json.get("id")
        if with_id:
            kind = "messages" if path.endswith("/messages") else path.split("/")[2]
            self.ids[kind].append(answer.json["id"])

    def one(self, kind, chance):
        known = self.ids.get(kind) or [each for ids in self.ids.values() for each in ids]
        return chance.choice(known)


def kind_of(path, name):
    """What the id of this name is one of, in this path or body."""
    if name != "id":
        return KINDS.get(name.removesuffix("_id"), "")
    before = path.partition("{id}")[0].rstrip("/").rpartition("/")[2]
    return KINDS.get(before, before)


class Bodies(Generator):
    """Values from the schemas, with ids of things that are there."""

    def __init__(self, document, chance, things):
        super().__init__(document, chance)
        self.things, self.name = things, ""

    def fitting_object(self, schema):
        required, made = schema.get("required", []), {}
        for name, each in schema.get("properties", {}).items():
            if name in required or self.random.random() < 0.5:
                self.name = name
                made[name] = self.fitting(each)
        return made

    def fitting_string(self, schema):
        if schema.get("format") == "uuid" and self.name.endswith("_id") and self.name != "client_id" and self.random.random() < 0.8:
            return self.things.one(kind_of("", self.name), self.random)
        return super().fitting_string(schema)


def as_text(value):
    return {True: "true", False: "false"}.get(value) if isinstance(value, bool) else str(value)


class Fuzzer:
    def __init__(self, server, seed):
        self.server, self.seed = server, seed
        self.chance = random.Random(f"{seed}")
        self.people = People(server)
        self.document = self.people.client("nobody").get("/openapi.json").json
        self.things = Things(self.people)
        self.bodies = Bodies(self.document, self.chance, self.things)
        self.operations = [(path, verb, operation) for path, verbs in sorted(self.document["paths"].items())
                           for verb, operation in sorted(verbs.items()) if verb in VERBS]
        self.statuses, self.validators = collections.Counter(), {}
        self.psql = Psql(server.database())
        self.digest = Digest(self.psql, MAY_CHANGE)
        self.things.stock()
        self.stored = self.digest.take()
        self.sent = self.busy = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.people.close()
        self.psql.__exit__()

    # ---- drawing ---------------------------------------------------------------------------------------------------

    def weights(self):
        """Often where there is much to get wrong; seldom where one costs much or nothing can differ."""
        return [0.2 if path in COSTLY else 0.3 if not (operation.get("requestBody") or operation.get("parameters")) else
                1.5 if "{" in path else 1 for path, _, operation in self.operations]

    def parameters(self, operation, place):
        return [each for each in map(self.bodies.resolve, operation.get("parameters", [])) if each["in"] == place]

    def draw(self, path, verb, operation):
        chance = self.chance
        contents = operation.get("requestBody", {}).get("content", {})
        media = chance.choice(sorted(contents)) if contents else None
        queries = self.parameters(operation, "query")
        places = [place for place, there in (("body", contents), ("query", queries), ("path", "{" in path)) if there]
        fault = (chance.choice(places) if places and chance.random() < 0.85 else "header") if chance.random() < 0.45 else None
        role = chance.choice(("nobody", "seeker", "seeker", "seeker", "helper", "helper", "helper", "stranger", "admin", "admin"))
        target = self.path(path, operation, fault)
        query = self.query(queries, fault)
        if query:
            target += "?" + urlencode(query)
        headers = self.headers(operation, fault)
        body = None
        if contents:
            body, headers["Content-Type"] = self.body(contents[media].get("schema", {}), media, fault)
            if body is None:
                fault = None
                body, headers["Content-Type"] = self.body(contents[media].get("schema", {}), media, None)
        return Call(role, verb, path, target, body, headers, fault)

    def path(self, path, operation, fault):
        for each in self.parameters(operation, "path"):
            if fault == "path":
                value = self.chance.choice(ODD_IDS)
            elif each["schema"].get("format") == "uuid" or each["name"].endswith("id"):
                value = self.things.one(kind_of(path, each["name"]), self.chance)
                roll = self.chance.random()
                value = value.upper() if roll < 0.05 else str(uuid.UUID(int=self.chance.getrandbits(128), version=4)) if roll < 0.15 else value
            else:
                value = as_text(self.bodies.fitting(each["schema"]))
            path = path.replace("{" + each["name"] + "}", value if "%" in value and fault == "path" else quote(value, safe=""))
        return path

    def query(self, queries, fault):
        chance = self.chance
        query = [(each["name"], as_text(self.bodies.fitting(each["schema"]))) for each in queries
                 if (each.get("required") or chance.random() < 0.2) and each["name"] != "cursor"]
        if fault != "query":
            return query
        each = chance.choice(queries)
        name, kind = each["name"], each["schema"].get("type")
        query = [pair for pair in query if pair[0] != name]
        action = chance.randrange(5)
        if action == 0:
            query.append((chance.choice(["no_such_parameter", "access_token", "Limit", ""]), "1"))
        elif action == 1:
            query += [(name, as_text(self.bodies.fitting(each["schema"])))] * 2
        else:
            query.append((name, chance.choice(ODD_NUMBERS if kind in ("number", "integer") else ODD_TEXTS)))
        return query

    def headers(self, operation, fault):
        chance, known = self.chance, {each["name"] for each in self.parameters(operation, "header")}
        headers = {}
        if "Idempotency-Key" in known and chance.random() < 0.3:
            headers["Idempotency-Key"] = f"{self.seed}-{self.sent}".ljust(chance.choice([1, 36, 255]), "k")
        if fault == "header":
            odd = [("Accept-Encoding", "\x01"), ("X-Request-Id", "y" * 300), ("Expect", "200-maybe")]
            if "Idempotency-Key" in known:
                odd += [("Idempotency-Key", "k" * 256), ("Idempotency-Key", "a b")] * 2
            if "If-Match" in known:
                odd += [("If-Match", '"0"'), ("If-Match", "not quoted")] * 2
            headers.update([chance.choice(odd)])
        return headers

    def body(self, schema, media, fault):
        """(bytes, content type); (None, _) when nothing broken came to mind."""
        chance = self.chance
        if fault == "body" and chance.random() < 0.1:
            return b"<a/>", chance.choice(["text/xml", "", "application/jsonx", "application/json; charset=latin-1", "image/svg+xml"])
        if fault == "body" and "json" in media and chance.random() < 0.2:
            # Where nothing is required, an empty body is none, and fits.
            return chance.choice(ODD_JSON if self.bodies.resolve(schema).get("required") else ODD_JSON[1:]), media
        if media.startswith("multipart/"):
            return self.multipart(schema, fault)
        if "json" not in media and not media.endswith("urlencoded"):
            return chance.choice([b"", b"\0" * 3000, PNG[:20]] if fault else [PNG]), media
        if fault == "body":
            value = self.bodies.breaking(schema, lambda made: self.fits(schema, made))
            if value is None or (media.endswith("urlencoded") and not self.breaks_a_form(schema, value)):
                return None, media
        else:
            value = self.bodies.fitting(schema)
        if "json" in media:
            return json.dumps(value).encode(), media
        # In a form everything is text, and what is empty is not there.
        return urlencode({name: as_text(each) for name, each in value.items() if each is not None}).encode(), media

    def breaks_a_form(self, schema, value):
        required = set(self.bodies.resolve(schema).get("required", []))
        known = set(self.bodies.resolve(schema).get("properties", {}))
        return isinstance(value, dict) and "\ud800" not in str(value) and bool(required - set(value) or set(value) - known)

    def multipart(self, schema, fault):
        chance, boundary = self.chance, "----hourz-fuzz"
        parts = []
        for name, each in self.bodies.resolve(schema).get("properties", {}).items():
            each = self.bodies.resolve(each)
            if each.get("format") == "binary" or "contentMediaType" in each or "contentEncoding" in each or not each.get("type"):
                parts.append((f'name="{name}"; filename="picture.png"\r\nContent-Type: image/png', PNG))
            elif name in self.bodies.resolve(schema).get("required", []) or chance.random() < 0.5:
                parts.append((f'name="{name}"', as_text(self.bodies.fitting(each)).encode()))
        ending = f"--{boundary}--\r\n".encode()
        if fault == "body":
            action = chance.randrange(6)
            if action == 0:
                parts = []
            elif action == 1:
                ending = b""
            elif action == 2:
                parts = [(head.replace("picture.png", "../../../etc/passwd"), b"#!/bin/sh\n") for head, _ in parts]
            elif action == 3:
                parts = [(head, b"<svg onload=alert(1)>") for head, _ in parts]
            elif action == 4:
                parts = [(f'name="no_such_part_{n}"', b"x") for n in range(300)]
            else:
                boundary = "x" * 200
        data = b"".join(f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
                        for head, content in parts)
        return data + ending, "multipart/form-data; boundary=----hourz-fuzz"

    # ---- judging ---------------------------------------------------------------------------------------------------

    def validator(self, schema):
        key = json.dumps(schema, sort_keys=True)
        if key not in self.validators:
            self.validators[key] = jsonschema.Draft202012Validator(
                schema, resolver=jsonschema.RefResolver.from_schema(self.document), format_checker=jsonschema.draft202012_format_checker)
        return self.validators[key]

    def fits(self, schema, value):
        return next(self.validator(schema).iter_errors(value), None) is None

    def demand(self, holds, what, call, answer):
        if not holds:
            said = [line for line in self.server.log().splitlines() if '"level":"error"' in line][-1:] if answer.status >= 500 else []
            raise Finding(f"{what} {' '.join(said)}\n  {call.verb.upper()} {call.target} as {call.role}, broken: {call.fault}\n  {answer}\n"
                          f"  request {self.sent} of seed {self.seed}; with $TOKEN of such a person:\n  {call.curl(self.server.base)}")

    def send(self, call):
        self.sent += 1
        answer = self.ask(call)
        if call.role != "nobody" and answer.status in (401, 403) and self.people.renew(call.role):
            self.stored = self.digest.take()
            answer = self.ask(call)
        self.statuses[answer.status] += 1
        return answer

    def ask(self, call):
        """A machine that is busy with other things may make us wait for the database too long, but not thrice, not often,
        and not to be told that a request is broken."""
        for _ in range(3):
            answer = self.people.client(call.role).call(call.verb.upper(), call.target, call.body, headers=call.headers)
            if answer.status != 503:
                break
            self.busy += 1
            self.demand(call.fault not in BREAKING, "a 503 to what is broken", call, answer)
            self.demand(self.busy <= BUSY, f"the 503 number {self.busy}", call, answer)
        return answer

    def judge(self, call, operation, answer):
        def demand(holds, what):
            self.demand(holds, what, call, answer)

        demand(answer.status < 500, "a 5xx")
        demand(answer.headers.get("x-request-id"), "no request id")
        known_by_transport = {408, 411, 414, 417, 421, 431}
        # An odd id may make another path of it, of which there is no operation.
        elsewhere = call.fault == "path" and answer.status in (400, 404, 405)
        media = answer.headers.get("content-type", "").partition(";")[0].strip()
        if answer.status not in known_by_transport and not elsewhere:
            declared = operation["responses"].get(str(answer.status))
            demand(declared is not None, "an undeclared status")
            contents = declared.get("content", {})
            if answer.status == 304 or not contents:
                demand(not answer.body, "a body where there is none")
            elif "*/*" not in contents:
                demand(media in contents, f"an undeclared media type: {media}")
                if "json" in media and "schema" in contents[media]:
                    fault = next(self.validator(contents[media]["schema"]).iter_errors(answer.json), None)
                    demand(fault is None, f"a body that does not fit: {fault and fault.message[:200]}")
        if answer.status >= 400:
            demand(media == "application/problem+json", "an error that is no problem document")
            demand(answer.json["status"] == answer.status, "a problem with another status than its answer")
            demand(not re.search(r"SQLSTATE|pq:|boost|std::|ERROR:|/src/rooms/|0x[0-9a-f]{8}", answer.text), "something internal")
        # With {} among them a token is taken, and not needed.
        needs_token = operation.get("security") and {} not in operation["security"]
        if call.role == "nobody" and needs_token and not call.fault:
            demand(answer.status == 401, "let in without a token")
        if call.fault in BREAKING:
            demand(answer.status >= 400, f"accepted though its {call.fault} is broken")
        elif not call.fault and answer.status in (400, 415, 422) and self.is_plain(call):
            faults = answer.json.get("errors", [])
            # A 422 under a word of its own is a rule of the operation's, as that nobody is their own buddy.
            of_its_own = answer.status == 422 and answer.json["code"] != "validation_failed"
            demand(of_its_own or (faults and all(map(is_beyond_schema, faults))), "refused though it fits")

    @staticmethod
    def is_plain(call):
        """Whether the document says all that there is to say of such a body: of a picture it does not."""
        return call.body is None or "json" in call.headers.get("Content-Type", "")

    def check_stored(self, call, answer):
        """After a refusal everything is as it was."""
        if call.verb == "get" and answer.status < 400:
            return
        stored = self.digest.take()
        if answer.status >= 400:
            changed = sorted(name for name in stored if stored[name] != self.stored.get(name))
            self.demand(not changed, f"refused, and yet changed: {changed}", call, answer)
        self.stored = stored

    def run(self, count, among=None):
        operations = [each for each in self.operations if among is None or among in each[2]["operationId"]]
        weights = [weight for each, weight in zip(self.operations, self.weights()) if each in operations]
        # Each once, whatever chance says of the rest.
        order = operations + self.chance.choices(operations, weights, k=max(0, count - len(operations)))
        for n, (path, verb, operation) in enumerate(order):
            if n % 400 == 399:
                self.things.stock()
                self.stored = self.digest.take()
            call = self.draw(path, verb, operation)
            answer = self.send(call)
            self.judge(call, operation, answer)
            self.check_stored(call, answer)
            self.things.keep(path, answer)


def is_beyond_schema(fault):
    together = fault["code"] == "required" and fault["field"] in CORNERS
    return fault["code"] in BEYOND_SCHEMA or together or (fault["field"], fault["code"]) in TWO_FIELDS
