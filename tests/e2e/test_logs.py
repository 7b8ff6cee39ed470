"""What the log says, and what it never says. One server, and a log that is read at its end."""

import json
import random
import re
import secrets
import uuid

import pytest

import harness
from generate import Generator
from harness import PASSWORD, Client, Person, document, gig
from wire import connect, get, post, read_all_after_shutdown, send

CANARY_PASSWORD = "canary " + secrets.token_hex(12)
CANARY_EMAIL = f"canary{secrets.token_hex(6)}@example.com"
PHONE = "0812345678"
WORDS = "canary-words-" + secrets.token_hex(8)
LATITUDE, LONGITUDE = 13.7234567, 100.5987654
FORGED = '{"level":"fatal","event":"forged"}'


def words_for(name, schema, value):
    """The canary where a text may say anything; else what was made up."""
    low, high = schema.get("minLength", 0), schema.get("maxLength", 4000)
    if not isinstance(value, str) or "format" in schema or "enum" in schema or "pattern" in schema:
        return value
    if "password" in name:
        return CANARY_PASSWORD
    return WORDS if low <= len(WORDS) <= high else value


def walk(base):
    """Every operation of the document, with and without a token: canaries in its path, its query and its body, in
    fields that it has and in some that it has not. How many there were, and the tokens that were about."""
    with Person(base, WORDS, check=False) as person, Client(base, check=False) as nobody:
        tokens = [person.token, person.refresh_token]
        generator, paths = Generator(document(), random.Random(5)), document()["paths"]
        # What ends the session comes last.
        operations = sorted(((path, verb, operation) for path, verbs in paths.items() for verb, operation in verbs.items()
                             if verb != "parameters"), key=lambda each: ("auth" in each[0], each[1] == "delete"))
        for path, verb, operation in operations:
            ids = [re.sub(r"\{\w+\}", each, path) for each in (str(uuid.uuid4()), person.id, WORDS, person.token)]
            for target in ids if "{" in path else [path]:
                body, headers = None, {}
                content = operation.get("requestBody", {}).get("content", {})
                if "application/json" in content:
                    schema = generator.resolve(content["application/json"]["schema"])
                    body = {name: words_for(name, generator.resolve(schema.get("properties", {}).get(name, {})), value)
                            for name, value in generator.fitting(schema).items()}
                for change in ({}, {"password": CANARY_PASSWORD, "token": person.token, "comment": WORDS, WORDS: WORDS}):
                    if body is None and content and not change:
                        body, headers = (WORDS + person.token).encode(), {"Content-Type": next(iter(content))}
                    sent = {**body, **change} if isinstance(body, dict) else body
                    query = f"?q={WORDS}&access_token={person.token}&password={secrets.token_hex(2)}" if change else ""
                    for client in (person, nobody):
                        answer = client.call(verb.upper(), target + query, sent, headers={"Idempotency-Key": WORDS, "X-Canary": WORDS, **headers})
                        assert answer.status < 500, (verb, target, answer)
            if person.call("GET", "/api/users/me").status == 401:
                for password in (PASSWORD, CANARY_PASSWORD):
                    if person.login((200, 401), password).status == 200:
                        tokens += [person.token, person.refresh_token]
    # PATCH beside PUT is the same endpoint under two verbs.
    return {operation["operationId"].removesuffix("_patch").removesuffix("_by_delete") for _, _, operation in operations}, tokens


@pytest.fixture(scope="module")
def log():
    """A server is led through everything that it might let slip, stopped, and its log read."""
    with harness.server(log_level="debug") as own:
        with Person(own.base, WORDS, email=CANARY_EMAIL) as person:
            person.put("/api/auth/password", {"current_password": PASSWORD, "new_password": CANARY_PASSWORD}, 204)
            person.login(401)
            person.login(401, password=CANARY_PASSWORD + "?")
            person.login(200, CANARY_PASSWORD)
            person.put("/api/users/location", {"latitude": LATITUDE, "longitude": LONGITUDE, "address_text": WORDS})
            person.put("/api/users/me", {"bio": WORDS, "contact_info": {"phone_number": PHONE, "line_id": WORDS}})
            person.put("/api/users/me", {"bio": WORDS, "contact_info": {"phone_number": PHONE + "x"}}, 422)
            one = person.post("/api/gigs", gig(title=WORDS, latitude=LATITUDE, longitude=LONGITUDE), 201, Idempotency_Key=WORDS).json["id"]
            person.post("/api/gigs", gig(title=WORDS), 422, Idempotency_Key=WORDS)
            person.get("/api/gigs", latitude=LATITUDE, longitude=LONGITUDE, q=WORDS)
            person.get("/api/users/nearby", latitude=LATITUDE, longitude=LONGITUDE)
            person.get("/api/gigs", 400, cursor=person.token)
            person.call("GET", f"/api/users/me?access_token={person.token}")
            person.call("GET", f"/api/nowhere/{person.token}")
            person.call("POST", "/api/auth/login", f'{{"password": "{CANARY_PASSWORD}", '.encode(), 400, {"Content-Type": "application/json"})
            person.call("POST", "/api/auth/register", {"email": CANARY_EMAIL, "password": CANARY_PASSWORD}, 409)
            person.call("POST", "/api/auth/refresh", {"refresh_token": person.refresh_token}, 200)
            person.call("DELETE", f"/api/gigs/{one}", status=204)
            for secret in (person.token, person.refresh_token, CANARY_PASSWORD):
                with Client(own.base) as client:
                    client.call("GET", "/api/users/me", headers={"Authorization": f"Bearer {secret}"})
                    client.call("GET", "/api/users/me", headers={"Authorization": f"Basic {secret}"})
            tokens = person.token, person.refresh_token
        operations, more = walk(own.base)
        tokens += *more,
        # Lines that want to be lines of the log.
        for data in (
            get("/x%0d%0a" + FORGED.replace('"', "%22")), get("/x%1b[31m"), get("/" + FORGED.replace('"', "%22").replace(" ", "")),
            get("/health/live", "User-Agent: \x1b[31mred\x1b[0m " + FORGED), get("/nowhere", "X-Request-Id: " + FORGED),
            post("Content-Length: 2", "User-Agent: " + FORGED, body=b"{}"), get("/api/gigs", 'Authorization: Bearer "' + FORGED),
            get("/health/live", "User-Agent: a\r" + FORGED), b"GET /\n" + FORGED.encode() + b"\n HTTP/1.1\r\n\r\n",
            get(method="X" + FORGED.replace('"', "").replace("{", "").replace("}", "").replace(":", "").replace(",", "")),
            get("/nowhere?" + FORGED.replace('"', "%22")), get("/nowhere", "Origin: " + FORGED),
        ):
            with connect(own.address()) as peer:
                send(peer, data)
                read_all_after_shutdown(peer)
        harness.signal_all([own.postmaster()], harness.signal.SIGQUIT)
        with Client(own.base) as client:
            client.call("POST", "/api/auth/login", {"email": CANARY_EMAIL, "password": CANARY_PASSWORD})
            harness.wait_for(lambda: client.call("GET", "/health/ready").status == 200, "ready")
            named = str(uuid.uuid4())
            client.call("POST", "/api/auth/login", {"email": "a@b.example", "password": "no one's"}, 401, {"X-Request-Id": named})
        assert own.stop() == 0
        with open(f"{own.directory}/postgres.log", encoding="utf-8", errors="replace") as database:
            yield {"lines": own.log().splitlines(), "text": own.log(), "database": database.read(), "tokens": tokens, "named": named,
                   "operations": operations}


def test_every_line_is_one_event(log):
    """E04."""
    assert len(log["lines"]) > 40
    for line in log["lines"]:
        event = json.loads(line)
        assert {"time", "level", "event"} <= set(event) and event["level"] in ("debug", "info", "warn", "error"), line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", event["time"]), line
        assert event["event"] != "forged" and not re.search(r"[\x00-\x1f\x7f]", line), line


def test_no_secret_is_told(log):
    """E03, A14."""
    for text in (log["text"], log["database"]):
        for secret in (CANARY_PASSWORD, PASSWORD, *log["tokens"], "eyJ", "hzr1.", "$argon2"):
            assert secret not in text, secret


def test_nothing_personal_is_told(log):
    for text in (log["text"], log["database"]):
        for word in (CANARY_EMAIL, CANARY_EMAIL.partition("@")[0], WORDS, PHONE, PHONE[1:], "13.7234", "100.5987"):
            assert word not in text, word


def test_requests_can_be_traced(log):
    """E05."""
    events = [json.loads(line) for line in log["lines"]]
    mine = [event for event in events if event.get("request_id") == log["named"]]
    assert {"login.failed", "request"} <= {event["event"] for event in mine}
    assert all(event["ip"] == "127.0.0.1" for event in mine)
    (request,) = [event for event in mine if event["event"] == "request"]
    assert request["endpoint"] == "auth.login" and request["status"] == 401 and request["duration_us"] > 0
    assert any(event["event"] == "request" and event.get("user_id") for event in events)
    # Every operation of the document was walked through, and the lines say by which.
    assert log["operations"] <= {event["endpoint"] for event in events if event["event"] == "request"}
    assert {"server.started", "server.ready", "server.draining", "server.stopped"} <= {event["event"] for event in events}
