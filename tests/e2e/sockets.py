"""Sockets for the end-to-end tests: a synchronous client over python3-websockets, a second implementation of RFC 6455.

Every frame received is held against its message in docs/asyncapi.json, and an error that answers a frame against the
errors that its event declares. Frames wait in the order in which they came until a test asks for one of their type; what
should not come is asked for behind a fence, a frame that is certain to be sent later.
"""

import contextlib
import functools
import http.client
import itertools
import json
import socket
import struct
import time
from urllib.parse import urlsplit

import harness
import jsonschema
from harness import Answer, gig, slack
from websockets.client import ClientConnection
from websockets.frames import Opcode
from websockets.uri import parse_uri

HANDSHAKE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
             "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}


@functools.lru_cache(None)
def document():
    with open(f"{harness.ROOT}/docs/asyncapi.json", encoding="utf-8") as published:
        return json.load(published)


@functools.lru_cache(None)
def operations(action):
    """Event: (key of its message, its operation), of those that the server receives or sends."""
    found = {}
    for operation in document()["operations"].values():
        if operation["action"] == action:
            key = operation["messages"][0]["$ref"].rpartition("/")[2]
            found[document()["components"]["messages"][key]["name"]] = key, operation
    return found


@functools.lru_cache(None)
def validator(name):
    payload = document()["components"]["messages"][operations("send")[name][0]]["payload"]
    return jsonschema.Draft202012Validator(
        payload, resolver=jsonschema.RefResolver.from_schema(document()), format_checker=jsonschema.draft202012_format_checker)


@functools.lru_cache(None)
def errors_of(event):
    """What may answer this event; any event when it is None, and any frame when there is no such event."""
    lists = [operation.get("x-errors", []) for name, (_, operation) in operations("receive").items() if event in (None, name)]
    return {error["code"] for each in [document()["channels"]["socket"]["x-errors"], *lists] for error in each}


def check_frame(text, asked=None):
    """The frame, when it is one that the document knows."""
    frame = json.loads(text)
    assert frame.get("type") in operations("send"), f"undeclared event: {text[:300]}"
    faults = list(validator(frame["type"]).iter_errors(frame))
    assert not faults, f"{text[:600]}: {faults[0].message} at {list(faults[0].absolute_path)}"
    if frame["type"] == "error":
        data = frame["data"]
        assert data["code"] in errors_of(asked), f"{asked} answered by an undeclared error: {data}"
        assert ("errors" in data) == (data["code"] == "validation_failed"), data
    elif asked in operations("receive"):
        answers = [each["$ref"].rpartition("/")[2] for each in operations("receive")[asked][1]["reply"]["messages"]]
        assert frame["type"] in answers, f"{asked} answered by {frame['type']}"
    return frame


class Closed(Exception):
    """The connection has ended, with this code; None when it was cut."""

    def __init__(self, code, reason):
        super().__init__(f"closed: {code} {reason}")
        self.code, self.reason = code, reason


class Socket:
    """`token` goes into the header. A socket that opens with a caller has read `ready` when it is made."""

    def __init__(self, base, token=None, target="/ws", headers=(), origin=None, subprotocols=None, ready=None):
        parts = urlsplit(base)
        self.asked, self.numbers = {}, itertools.count(1)
        self.waiting, self.seen = [], []
        self.peer = socket.create_connection((parts.hostname, parts.port), timeout=slack(10))
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire = ClientConnection(parse_uri(f"ws://{parts.netloc}{target}"), origin=origin, subprotocols=subprotocols,
                                     max_size=4 << 20)
        request = self.wire.connect()
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        for name, value in headers:
            request.headers[name] = value
        self.wire.send_request(request)
        self.flush()
        self.response = None
        end = time.monotonic() + slack(10)
        while self.response is None:
            self.pump(end)
        if self.wire.handshake_exc is not None:
            self.peer.close()
            raise self.wire.handshake_exc
        if ready or (ready is None and (token or "token=" in target or "ticket=" in target or len(subprotocols or ()) > 1)):
            self.ready = self.expect("ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.peer.close()

    def flush(self):
        for data in self.wire.data_to_send():
            if data:
                self.peer.sendall(data)
            else:
                with contextlib.suppress(OSError):
                    self.peer.shutdown(socket.SHUT_WR)

    def pump(self, end):
        """Reads once; the frames are in `waiting` then. Closed at the connection's end."""
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.peer.settimeout(left)
        try:
            data = self.peer.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if data:
            self.wire.receive_data(data)
        else:
            self.wire.receive_eof()
        for event in self.wire.events_received():
            if self.response is None:
                self.response = event
            elif event.opcode is Opcode.TEXT:
                text = event.data.decode()
                frame = check_frame(text, self.asked.get(json.loads(text).get("id")))
                frame["at"] = time.monotonic()
                self.waiting.append(frame)
                self.seen.append(frame)
            else:
                assert event.opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE), event
        with contextlib.suppress(OSError):
            self.flush()
        if not data:
            self.peer.close()
            received = self.wire.close_rcvd
            raise Closed(received.code if received else None, received.reason if received else "")

    # ---- sending ----

    def send_text(self, text):
        self.wire.send_text(text.encode() if isinstance(text, str) else text)
        self.flush()

    def send_binary(self, data):
        self.wire.send_binary(data)
        self.flush()

    def send(self, kind, id=None, **data):
        """Without waiting for an answer."""
        frame = {"type": kind, "data": data}
        if id is not None:
            frame["id"] = id
            self.asked[id] = kind
        self.send_text(json.dumps(frame))

    def begin(self, kind, **data):
        """The id under which the answer will come."""
        name = f"{kind} {next(self.numbers)}"
        self.send(kind, name, **data)
        return name

    def answer(self, name, seconds=10):
        return self.take(lambda frame: frame.get("id") == name, f"the answer to {name}", seconds)

    def ask(self, kind, **data):
        """The answer's data; anything but an error."""
        frame = self.answer(self.begin(kind, **data))
        assert frame["type"] != "error", frame
        return frame["data"]

    def refused(self, kind, code, **data):
        """The error's data."""
        frame = self.answer(self.begin(kind, **data))
        assert frame["type"] == "error" and frame["data"]["code"] == code, frame
        return frame["data"]

    # ---- receiving ----

    def take(self, wanted, what, seconds=10):
        """The first waiting frame that is wanted, or the next to come; others stay as they are."""
        end, at = time.monotonic() + slack(seconds), 0
        while True:
            for index in range(at, len(self.waiting)):
                if wanted(self.waiting[index]):
                    return self.waiting.pop(index)
            at = len(self.waiting)
            try:
                self.pump(end)
            except TimeoutError:
                raise AssertionError(f"not within {seconds} s: {what}; waiting: {self.waiting[:10]}") from None

    def expect(self, kind, seconds=10, **match):
        """Data of the first frame of this type whose data has these members."""
        return self.take(lambda frame: frame["type"] == kind and all(frame["data"].get(k) == v for k, v in match.items()),
                         f"{kind} {match}", seconds)["data"]

    def message(self, content=None, seconds=10):
        """The next receive_message, which must be this one."""
        message = self.expect("receive_message", seconds)["message"]
        assert content is None or message["content"] == content, message
        return message

    def fence(self):
        """All that the server had queued for this socket is read."""
        self.refused("no such event", "unknown_event")

    def left(self, *kinds):
        """What waits, as (type, data), of these types or all; it does not wait any more."""
        found = [frame for frame in self.waiting if not kinds or frame["type"] in kinds]
        self.waiting = [frame for frame in self.waiting if kinds and frame["type"] not in kinds]
        return [(frame["type"], frame["data"]) for frame in found]

    def closed(self, code, seconds=10):
        """Reads to the end, which must have this code; its reason."""
        end = time.monotonic() + slack(seconds)
        try:
            while True:
                self.pump(end)
        except TimeoutError:
            raise AssertionError(f"not closed within {seconds} s") from None
        except Closed as closed:
            assert closed.code == code, (closed, self.waiting)
            return closed.reason

    def close(self):
        self.wire.send_close(1000)
        self.flush()
        self.closed(1000)

    def kill(self):
        """Without a word: the peer gets a reset."""
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()


def upgrade(base, target="/ws", **headers):
    """The answer to a handshake, as HTTP sees it. One that is no 101 is held against the form of problems."""
    parts = urlsplit(base)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=slack(10))
    try:
        connection.request("GET", target, headers={**HANDSHAKE, **{k.replace("_", "-"): v for k, v in headers.items()}})
        response = connection.getresponse()
        answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()},
                        b"" if response.status == 101 else response.read())
    finally:
        connection.close()
    if answer.status != 101:
        check_problem(answer)
    return answer


def check_problem(answer):
    assert answer.headers["content-type"].startswith("application/problem+json"), answer
    problem = answer.json
    assert problem["status"] == answer.status and problem["message"] == problem["detail"], answer
    assert problem["request_id"] == answer.headers["x-request-id"], answer
    assert not list(harness.validator("components", "schemas", "Problem").iter_errors(problem)), answer
    if answer.status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer "), answer
    if answer.status in (429, 503):
        assert int(answer.headers["retry-after"]) >= 0, answer


class Meeting:
    """A gig that a helper has accepted, and its room."""

    def __init__(self, seeker, helper, **changes):
        self.seeker, self.helper = seeker, helper
        self.gig = seeker.post("/api/gigs", gig(**changes), 201).json["id"]
        helper.post(f"/api/gigs/{self.gig}/accept", None, 200)
        rooms = seeker.get("/api/chat/rooms", limit=100).json["rooms"]
        self.room = next(room["id"] for room in rooms if room["gig_id"] == self.gig)

    def joined(self, person, **wish):
        """A socket of this person's, in the room."""
        socket = Socket(person.base, person.token)
        socket.joined = socket.ask("join_room", room_id=self.room, **wish)
        return socket

    def say(self, person, content, status=201, **draft):
        """By REST."""
        return person.post(f"/api/chat/rooms/{self.room}/messages", {"content": content, **draft}, status).json


@contextlib.contextmanager
def several(*sockets):
    """Closes them all."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket) for socket in sockets]
