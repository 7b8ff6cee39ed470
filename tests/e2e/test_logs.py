"""What the log says, and what it never says. Two servers that are led through everything that they might let slip, and
their logs, read at their end.
"""

import base64
import collections
import contextlib
import email
import email.policy
import glob
import json
import random
import re
import secrets
import uuid

import pytest

import harness
from generate import Generator
from harness import PASSWORD, Client, Person, document, gig, wait_for
from sockets import Meeting, Socket, several, upgrade
from test_mail import Mailbox, token_in
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


def tokens_in_outbox(directory):
    """Of the mails that are files."""
    for path in glob.glob(f"{directory}/outbox/*.eml"):
        with open(path, "rb") as file:
            text = email.message_from_binary_file(file, policy=email.policy.default).get_content()
        yield re.search(r"^([A-Za-z0-9_-]{54})\r?$", text, re.M)[1]


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
        tokens += *more, *wait_for(lambda: list(tokens_in_outbox(own.directory)), "mails")
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


# ---- mails, frames, notifications, and how a socket is entered ------------------------------------------------------


class RudeMailbox(Mailbox):
    """Refuses somebody at first, then what they are sent, saying in its answers all that it was told."""

    victim = None

    async def handle_RCPT(self, server, session, envelope, address, options):
        answer = await super().handle_RCPT(server, session, envelope, address, options)
        return f"450 4.2.1 {address} is not at home" if address == self.victim and self.attempts.count(address) == 1 else answer

    async def handle_DATA(self, server, session, envelope):
        await super().handle_DATA(server, session, envelope)
        mail, address = self.mails[-1][1], envelope.rcpt_tos[0]
        if address != self.victim or self.attempts.count(address) > 2:
            return "250 OK"
        self.mails.pop()
        return f"451 4.3.0 no {token_in(mail)} {base64.b64encode(mail.get_content().encode()).decode()[:200]}"


class Words:
    """By kind, what was said and must stand in no log."""

    def __init__(self):
        self.said = collections.defaultdict(set)

    def new(self, kind):
        word = f"canary-{kind}-{secrets.token_hex(8)}"
        self.said[kind].add(word)
        return word

    def add(self, kind, *words):
        self.said[kind].update(words)
        return words[0]


def forms(word):
    """As it is, and as it would stand in something that is base64, wherever it begins there."""
    yield word
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + word.encode()).decode()
        yield whole[(0, 4, 4)[before]:len(whole) - (8 if whole.endswith("=") else 4)]


def mails(words, base, mailbox, person):
    """Links that are sent, refused on the way, asked for again, mistaken, used, and used again."""
    with Client(base) as client:
        client.post("/api/auth/password-reset", {"email": person.email}, 202)
        person.post("/api/auth/verify-email/resend", None, 202)

        def arrived():
            found = mailbox.to(person.email)
            return {subject: [mail for mail in found if subject in mail["subject"]] for subject in ("Confirm", "password")}

        wait_for(lambda: len(arrived()["Confirm"]) == 2 and arrived()["password"], "mails that were refused at first", 60)
        for mail in mailbox.to(person.email):
            link = re.search(r"https://\S+", mail.get_content())[0]
            words.add("link", token_in(mail), link)
            words.add("mail", "Set a new password", "Confirm your email", "Please confirm", "Somebody asked", "ตั้งรหัสผ่าน", "ยืนยันอีเมล")
        confirm, reset = (token_in(arrived()[subject][0]) for subject in ("Confirm", "password"))
        for token in (confirm, reset, confirm[:-2] + "xx"):
            client.call("GET", f"/verify-email?token={token}", status=404)
            client.call("GET", f"/reset-password/{token}", status=404)
            client.call("GET", "/api/users/me", status=401, token=token)
            client.call("POST", f"/api/auth/verify-email?token={token}", {"token": reset})
            client.call("POST", "/api/auth/password-reset/confirm", {"token": confirm, "password": "short"}, 422)
            client.call("POST", "/api/auth/verify-email", f'{{"token": "{token}"'.encode(), 400, {"Content-Type": "application/json"})
        password = words.new("mail")
        for status in (204, 422):
            client.post("/api/auth/verify-email", {"token": confirm}, status)
            client.post("/api/auth/password-reset/confirm", {"token": reset, "password": password}, status)
    person.login(password=password)


def messages(words, meeting, seeker, helper, stranger):
    """By socket: delivered, refused, ill-formed. The socket that said it last is given back open."""
    said = words.new("chat")
    talker, listener = meeting.joined(seeker), meeting.joined(helper)
    with several(listener, Socket(stranger.base, stranger.token)) as (_, outside):
        assert talker.ask("send_message", room_id=meeting.room, content=said)["message"]["content"] == said
        listener.message(said)
        meeting.say(helper, words.new("chat"))
        outside.refused("send_message", "not_found", room_id=meeting.room, content=words.new("chat"))
        outside.refused("join_room", "not_found", room_id=str(uuid.uuid4()))
        talker.refused("send_message", "validation_failed", room_id=meeting.room, content=words.new("chat") * 400)
        talker.refused("send_message", "validation_failed", room_id=meeting.room, client_id=words.new("chat"), content="x")
        talker.refused("send_message", "validation_failed", room_id=words.new("chat"), content=words.new("chat"))
        talker.refused("typing", "validation_failed", room_id=meeting.room, is_typing=words.new("chat"))
        talker.refused(words.new("chat"), "unknown_event", content=words.new("chat"))
        talker.send("send_message", words.new("chat"), room_id=meeting.room, content=words.new("chat"), more=words.new("chat"))
        listener.send_text(words.new("chat"))
        listener.send_text('{"type": "send_message", "data": {"content": "' + words.new("chat"))
        listener.expect("error")
        listener.wire.send_close(1000, words.new("chat"))
        listener.flush()
        listener.closed(1000)
        outside.send_binary(words.new("chat").encode())
        assert outside.expect("error")["code"] == "unsupported_media_type"
    return talker


def notifications(words, meeting, seeker, helper):
    """What others did, told over a socket and shown in a list."""
    with Socket(helper.base, helper.token) as told:
        told.ask("watch_area", latitude=LATITUDE, longitude=LONGITUDE, radius_km=5, filters={"category": words.new("notification")})
        told.ask("watch_area", latitude=LATITUDE, longitude=LONGITUDE, radius_km=5)
        title, about = words.new("notification"), words.new("notification")
        seeker.post("/api/gigs", gig(title=title, description=about, latitude=LATITUDE, longitude=LONGITUDE), 201)
        assert told.expect("gig_nearby")["gig"]["title"] == title
        paid = seeker.post("/api/transactions/escrow", {"gig_id": meeting.gig}, 201).json["id"]
        for step in ("IN_PROGRESS", "COMPLETED"):
            helper.put(f"/api/gigs/{meeting.gig}/status", {"status": step})
        seeker.put(f"/api/transactions/{paid}/dispute", {"reason": words.new("notification")})
        seeker.post("/api/reviews", {"gig_id": meeting.gig, "rating": 2, "comment": words.new("notification")}, 201)
        for kind in ("payment_held", "payment_disputed", "review_received"):
            told.take(lambda frame, kind=kind: (frame["type"], frame["data"].get("kind")) == ("notification", kind), kind)
            words.add("notification", f"{kind} {meeting.gig}", f'"{kind}"')


def credentials(words, person, meeting):
    """Every way into a socket, with what is good and with what is not."""
    words.add("credential", person.token, person.token[-24:], person.refresh_token)
    for path in ("/ws", f"/ws/chat/{meeting.room}"):
        for good in (True, False):
            def bought():
                return words.add("credential", person.post("/api/ws/ticket", None, 200).json["ticket"] if good else words.new("credential"))

            token, status = person.token if good else words.new("credential"), 101 if good else 401
            ticket = bought()
            for target, headers in (
                (path, {"Authorization": f"Bearer {token}"}), (f"{path}?token={token}", {}), (f"{path}?ticket={ticket}", {}),
                (path, {"Sec_WebSocket_Protocol": f"hourz.v1, bearer.{token}"}),
            ):
                assert upgrade(person.base, target, **headers).status == status, target
            assert upgrade(person.base, f"{path}?ticket={ticket}").status == 401
            assert upgrade(person.base, path, Authorization=f"Basic {token}").status == 401
            for place in ("/ws/", "/ws/chat/", "/ws/chat/../", f"{path}/"):
                assert upgrade(person.base, place + bought()).status == 404
                assert upgrade(person.base, place + token).status == 404
            assert upgrade(person.base, f"{path}?ticket={bought()}&tocket={bought()}").status in (400, 422)
            assert upgrade(person.base, f"{path}?ticket={bought()}", Sec_WebSocket_Version="7").status == 426
            assert upgrade(person.base, f"{path}?ticket={bought()}", Origin="https://evil.example").status == 403
            with Client(person.base, token, check=False) as plain:
                for verb in ("GET", "POST"):
                    assert plain.call(verb, f"{path}?ticket={bought()}&token={token}").status in (400, 404, 405, 426)
            with Socket(person.base) as socket:
                if good:
                    assert socket.ask("authenticate", access_token=token)["connection_id"]
                else:
                    socket.refused("authenticate", "token_invalid", access_token=token)
                    socket.closed(4501)


@pytest.fixture(scope="module")
def spoken():
    """(the words by kind, the logs by whose they are, the events that the server's has)."""
    words = Words()
    mailbox = RudeMailbox(harness.free_port())
    with contextlib.ExitStack() as stack:
        mailbox.controller.start()
        stack.callback(mailbox.controller.stop)
        settings = {"smtp_url": f"smtp://127.0.0.1:{mailbox.controller.port}", "public_url": "https://app.hourz.example"}
        own = stack.enter_context(harness.server(log_level="debug", **settings))
        mailbox.victim = f"{words.new('mail')}@example.com"
        seeker = stack.enter_context(Person(own.base, words.new("mail"), email=mailbox.victim))
        helper, stranger = (stack.enter_context(Person(own.base, words.new("mail"))) for _ in range(2))
        words.add("mail", helper.email, stranger.email)
        mails(words, own.base, mailbox, seeker)
        notifications(words, Meeting(seeker, helper, title=words.new("notification")), seeker, helper)
        meeting = Meeting(seeker, helper)
        with messages(words, meeting, seeker, helper, stranger) as talker:
            credentials(words, seeker, meeting)
            credentials(words, stranger, meeting)
            # Said to a server whose database stands still.
            frozen = harness.family_of(own.postmaster())
            stack.callback(harness.signal_all, frozen, harness.signal.SIGCONT)
            harness.signal_all(frozen, harness.signal.SIGSTOP)
            name = talker.begin("send_message", room_id=meeting.room, content=words.new("chat"))
            with Socket(own.base) as late:
                late.send("authenticate", access_token=words.add("credential", helper.token))
                assert talker.answer(name, 30)["data"]["code"] in ("service_unavailable", "deadline_exceeded")
                assert upgrade(own.base, f"/ws?ticket={words.new('credential')}").status == 503
            harness.signal_all(frozen, harness.signal.SIGCONT)
            with Client(own.base) as client:
                wait_for(lambda: client.call("GET", "/health/ready").status == 200, "ready")
        assert own.stop() == 0
        with open(f"{own.directory}/postgres.log", encoding="utf-8", errors="replace") as database:
            yield words.said, {"server": own.log(), "output": "".join(own.said), "database": database.read()}


@pytest.mark.parametrize("kind", ["mail", "link", "chat", "notification", "credential"])
def test_nothing_that_was_said_is_told(spoken, kind):
    """Neither a mail nor its link, neither a message nor a notification, nor what opens a socket."""
    said, logs = spoken
    assert len(said[kind]) > 3
    for whose, text in logs.items():
        text = text.replace("\\r\\n", "")  # base64 has lines
        for word in said[kind]:
            for form in forms(word):
                assert len(form) > 5 and form not in text, f"{form} ({kind}: {word}) in the {whose}'s log"


def test_it_was_told_where_it_might_have_slipped(spoken):
    events = {json.loads(line)["event"] for line in spoken[1]["server"].splitlines()}
    assert {"mail.failed", "mail.sent", "password.reset", "socket.opened", "socket.refused", "socket.closed",
            "socket.event_failed"} <= events
