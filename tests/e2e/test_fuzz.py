"""V01: for every operation of the document, requests that fit it and requests that break it in one place. Whatever comes,
the answer is declared, fits its schema and is no 5xx; what breaks the schema is refused, what fits is not."""

import collections
import json
import os
import random
import uuid
from urllib.parse import quote, urlencode

import pytest

from generate import Generator
from harness import LONG, SEED, Client, Person, document, gig, validator

CASES = int(os.environ.get("HOURZ_TEST_CASES", 400 if LONG else 50))
# Faults that a schema cannot tell of: they depend on the world, or on two fields together.
BEYOND_SCHEMA = {"in_the_past", "not_your_upload", "conflict", "no_words", "not_a_phone_number", "needs_a_point",
                 "too_common", "not_in_list"}
TWO_FIELDS = {("max_latitude", "out_of_range"), ("max_budget", "out_of_range"), ("starts_before", "out_of_range"),
              ("reason", "required"), ("content", "required"), ("content", "empty")}
CORNERS = {"latitude", "longitude", "min_latitude", "min_longitude", "max_latitude", "max_longitude"}


def is_beyond_schema(fault):
    together = fault["code"] == "required" and fault["field"] in CORNERS
    return fault["code"] in BEYOND_SCHEMA or together or (fault["field"], fault["code"]) in TWO_FIELDS


def operations():
    for path, verbs in document()["paths"].items():
        for verb, operation in verbs.items():
            if verb in ("get", "post", "put", "patch", "delete"):
                yield pytest.param(path, verb, id=operation["operationId"])


def schema_of_body(operation):
    contents = operation.get("requestBody", {}).get("content", {})
    return contents.get("application/json", {}).get("schema")


class Caller:
    """Somebody with a gig of their own; logs in again when an operation has ended the session."""

    def __init__(self, base):
        self.base = base
        self.person = Person(base)
        self.other = Person(base)
        self.renew()

    def renew(self):
        if self.person.call("GET", "/api/users/me").status == 401:
            self.person = Person(self.base)
        self.mine = self.person.post("/api/gigs", gig(), 201).json["id"]
        self.theirs = self.other.post("/api/gigs", gig(), 201).json["id"]

    def call(self, verb, target, body, headers):
        answer = self.person.call(verb.upper(), target, body, headers=headers)
        if answer.status == 401 and answer.json["code"] == "session_ended":
            self.person = Person(self.base)
            answer = self.person.call(verb.upper(), target, body, headers=headers)
        return answer


@pytest.fixture(scope="module")
def caller(base):
    return Caller(base)


def fits(schema):
    check = validator(*schema["$ref"][2:].split("/"))
    return lambda value: not list(check.iter_errors(value))


def parameters_of(operation):
    generator = Generator(document(), random)
    return [generator.resolve(each) for each in operation.get("parameters", [])]


def as_text(value):
    return {True: "true", False: "false"}.get(value) if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("path,verb", operations())
def test_operation(caller, path, verb):
    operation = document()["paths"][path][verb]
    chance = random.Random(f"{SEED} {operation['operationId']}")
    generator = Generator(document(), chance)
    body_schema = schema_of_body(operation)
    parameters = parameters_of(operation)
    queries = [each for each in parameters if each["in"] == "query"]
    seen = collections.Counter()
    caller.renew()
    simple = not body_schema and not queries and "{" not in path
    for n in range(3 if simple else CASES):
        broken = n % 2 == 1
        where = [place for place, there in (("body", body_schema), ("query", queries), ("path", "{" in path)) if there]
        fault = chance.choice(where) if broken and where else None
        target = path
        for each in parameters:
            if each["in"] == "path":
                value = chance.choice([caller.mine, caller.theirs, str(uuid.uuid4())])
                if fault == "path":
                    value = chance.choice(["x", "1", "%00", "' OR 1", caller.mine[:-1], caller.mine + "0", "%ff%fe", "..", "{id}", "%F0%9F%98%80",
                                           "0" * 300])
                target = target.replace("{" + each["name"] + "}", value if "%" in value else quote(value))
        query = []
        for each in queries:
            if each.get("required") or chance.random() < 0.2:
                query.append((each["name"], as_text(generator.fitting(each["schema"]))))
        query = [(name, value) for name, value in query if name != "cursor"]
        if fault == "query":
            each = chance.choice(queries)
            name = each["name"]
            action = chance.randrange(5)
            query = [pair for pair in query if pair[0] != name]
            if action == 0:
                query.append(("no_such_parameter", "1"))
            elif action == 1:
                query += [(name, as_text(generator.fitting(each["schema"])))] * 2
            else:
                kind = each["schema"].get("type")
                odd = ["NaN", "Infinity", "1e400", "", "0x1p3", "1,5", "--1", "1e", " 1"] if kind in ("number", "integer") else [
                    "\0", "\ud800".encode("utf-8", "surrogatepass"), "\x1b[0m", "y" * 5000]
                query.append((name, chance.choice(odd)))
        if query:
            target += "?" + urlencode(query)
        body, headers = None, {}
        if body_schema:
            value = generator.breaking(body_schema, fits(body_schema)) if fault == "body" else generator.fitting(body_schema)
            if value is None and fault == "body":
                continue
            body = json.dumps(value).encode()
            headers["Content-Type"] = "application/json"
        at = f"{verb} {target} {body[:300] if body else ''}"
        answer = caller.call(verb, target, body, headers)
        seen[answer.status] += 1
        assert answer.status < 500, f"{at}: {answer}"
        if fault:
            assert answer.status >= 400, f"accepted though {fault} is broken: {at}"
        elif answer.status in (400, 422):
            faults = answer.json.get("errors", [])
            assert faults and all(map(is_beyond_schema, faults)), f"refused though it fits: {at}: {answer}"
    print(dict(seen))


def test_operations_need_a_token(base):
    """All that the document does not call open."""
    with Client(base) as client:
        for path, verbs in document()["paths"].items():
            for verb, operation in verbs.items():
                if verb in ("get", "post", "put", "patch", "delete") and operation.get("security"):
                    answer = client.call(verb.upper(), path.replace("{id}", str(uuid.uuid4())))
                    assert answer.status == 401, f"{verb} {path}: {answer}"
