"""What a socket's frames must be, how often they may come, and that nobody reaches a room that is not theirs: contract,
section 5; W01, W06, W09 as far as they are the events' (the frames of RFC 6455 are test_ws_frames.py's).
"""

import contextlib
import json
import re
import time

import harness
import pytest
from harness import Person, slack
from sockets import Closed, Meeting, Socket, operations, several
from websockets.connection import State

NO_ROOM = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture(scope="module")
def meeting(seeker, helper):
    return Meeting(seeker, helper)


@pytest.fixture
def socket(seeker):
    with Socket(seeker.base, seeker.token) as made:
        yield made


def is_answer(frame):
    """Not what the server tells by itself meanwhile."""
    return frame["type"] not in ("gig_updated", "presence")


def test_the_id_comes_back(socket, meeting):
    for name in ("x", "", "ก" * 40, "a" * 128, '"\\\n\u0000', 0, 1, -7, 2**53, 2**63 - 1, 2**64 - 1, -(2**63)):
        for frame in ({"type": "leave_room", "id": name, "data": {"room_id": meeting.room}}, {"type": "nothing", "id": name},
                      {"type": "leave_room", "id": name}, {"id": name}):
            socket.send_text(json.dumps(frame, ensure_ascii=False))
            answer = socket.take(is_answer, frame)
            assert answer["id"] == name and type(answer["id"]) is type(name), (frame, answer)
    # Two JSON values that are equal in Python: 1 and true, 1 and 1.0.
    for name in ("a" * 129, "ก" * 43, 1.5, 1e300, True, False, [], {}, [1]):
        socket.send_text(json.dumps({"type": "leave_room", "id": name, "data": {"room_id": meeting.room}}))
        answer = socket.take(is_answer, name)
        assert answer["type"] == "error" and "id" not in answer, (name, answer)
        assert [fault["field"] for fault in answer["data"]["errors"]] == ["id"], answer
    for frame in ({"type": "leave_room", "id": None, "data": {"room_id": meeting.room}},
                  {"type": "leave_room", "data": {"room_id": meeting.room}}):
        socket.send_text(json.dumps(frame))
        assert "id" not in socket.take(is_answer, frame)


# text of a frame, code, fields at fault
ENVELOPES = [
    ('{"type": "no_such_event", "data": {}}', "unknown_event", None),
    ('{"type": "", "data": {}}', "unknown_event", None),
    ('{"type": "JOIN_ROOM", "data": {}}', "unknown_event", None),
    ('{"type": "room_joined", "data": {}}', "unknown_event", None),
    ('{"type": "join_room\\u0000", "data": {}}', "unknown_event", None),
    ('{"type": 1}', "validation_failed", ["type"]),
    ('{"type": null, "data": {}}', "validation_failed", ["type"]),
    ('{"type": ["join_room"]}', "validation_failed", ["type"]),
    ('{}', "validation_failed", ["type"]),
    ('{"data": {}}', "validation_failed", ["type"]),
    ('{"event": "join_room", "payload": {}}', "validation_failed", ["event", "payload", "type"]),
    ('{"type": "leave_room", "data": {}, "extra": 1, "Type": 2}', "validation_failed", ["extra", "Type"]),
    ('{"type": "leave_room"}', "validation_failed", ["room_id"]),
    ('{"type": "leave_room", "data": null}', "validation_failed", ["data"]),
    ('{"type": "leave_room", "data": []}', "validation_failed", ["data"]),
    ('{"type": "leave_room", "data": "{}"}', "validation_failed", ["data"]),
    ('{"type": "leave_room", "data": {"room_id": 1, "roomid": 2}}', "validation_failed", ["room_id", "roomid"]),
    ('{"type": "leave_room", "data": {"room_id": "x"}}', "validation_failed", ["room_id"]),
    ('{"type": "join_room", "data": {"room_id": null, "after_seq": -1, "b": 1}}', "validation_failed",
     ["room_id", "after_seq", "b"]),
    ('{"type": "join_room", "data": {"room_id": "%s", "after_seq": 1.5}}' % NO_ROOM, "validation_failed", ["after_seq"]),
    ('{"type": "join_room", "data": {"room_id": "%s", "after_seq": "1"}}' % NO_ROOM, "validation_failed", ["after_seq"]),
    ('{"type": "send_message", "data": {"room_id": "%s"}}' % NO_ROOM, "validation_failed", ["content"]),
    ('{"type": "send_message", "data": {"room_id": "%s", "content": ""}}' % NO_ROOM, "validation_failed", ["content"]),
    ('{"type": "send_message", "data": {"content": 1, "client_id": "x", "type": "SYSTEM", "seq": 1}}', "validation_failed",
     ["room_id", "content", "client_id", "type", "seq"]),
    ('{"type": "send_message", "data": {"room_id": "%s", "content": "%s"}}' % (NO_ROOM, "a" * 4001), "validation_failed", ["content"]),
    ('{"type": "send_message", "data": {"room_id": "%s", "content": "x", "sender_id": null}}' % NO_ROOM, "validation_failed",
     ["sender_id"]),
    ('{"type": "mark_read", "data": {"room_id": "%s", "seq": 0}}' % NO_ROOM, "validation_failed", ["seq"]),
    ('{"type": "mark_read", "data": {}}', "validation_failed", ["room_id", "seq"]),
    ('{"type": "typing", "data": {"room_id": "%s", "is_typing": "yes"}}' % NO_ROOM, "validation_failed", ["is_typing"]),
    ('{"type": "typing", "data": {"room_id": "%s"}}' % NO_ROOM, "validation_failed", ["is_typing"]),
    ('{"type": "watch_area", "data": {"latitude": 91, "longitude": "x"}}', "validation_failed",
     ["latitude", "longitude", "radius_km"]),
    ('{"type": "watch_area", "data": {"latitude": 1, "longitude": 1, "radius_km": 0.01, "filters": {"min_budget": -1, "max": 1}}}',
     "validation_failed", ["radius_km", "filters.min_budget", "filters.max"]),
    ('{"type": "watch_area", "data": {"latitude": 1, "longitude": 1, "radius_km": 1, "filters": {"min_budget": 2, "max_budget": 1, '
     '"starts_after": "2030-01-02T00:00:00Z", "starts_before": "2030-01-01T00:00:00Z", "q": "!"}}}',
     "validation_failed", ["filters.max_budget", "filters.starts_before", "filters.q"]),
    ('{"type": "unwatch_area", "data": {"x": 1}}', "validation_failed", ["x"]),
    ('{"type": "authenticate", "data": {"token": "x"}}', "validation_failed", ["access_token", "token"]),
    ("[]", "malformed_json", None),
    ("1", "malformed_json", None),
    ('"join_room"', "malformed_json", None),
    ("null", "malformed_json", None),
]  # fmt: skip


def test_every_fault_of_a_frame_is_told(seeker, socket):
    for text, code, fields in ENVELOPES:
        socket.send_text(text)
        answer = socket.take(is_answer, text)
        assert answer["type"] == "error" and answer["data"]["code"] == code, (text, answer)
        if fields:
            assert sorted(fault["field"] for fault in answer["data"]["errors"]) == sorted(fields), (text, answer)
    socket.fence()


MALFORMED = ["{", "", "nonsense", '{"type": "a", "type": "b"}', '{"type": "unwatch_area", "data": {}} x', "{'type': 1}", '{"a": NaN}',
             "[" * 100_0, '{"type": "\\ud800"}', '{"type": "unwatch_area",}']  # fmt: skip


def test_five_malformed_frames_end_the_socket(seeker):
    for at in range(0, len(MALFORMED), 5):
        with Socket(seeker.base, seeker.token) as socket:
            for n, text in enumerate(MALFORMED[at : at + 5]):
                socket.fence()  # a good one between them does not make up for them
                socket.send_text(text)
                if n < 4:
                    assert socket.expect("error")["code"] == "malformed_json", text
            socket.closed(1007)


def test_five_binary_messages_end_the_socket(seeker):
    with Socket(seeker.base, seeker.token) as socket:
        for n in range(5):
            socket.send_binary(b'{"type": "unwatch_area", "data": {}}')
            if n < 4:
                assert socket.expect("error")["code"] == "unsupported_media_type"
        socket.closed(1003)


def test_64_kib_and_not_a_byte_more(seeker, socket):
    def padded(size):
        text = json.dumps({"type": "unwatch_area", "id": 1, "data": {}})
        return text + " " * (size - len(text))

    socket.send_text(padded(65536))
    assert socket.expect("area_unwatched") == {}
    socket.send_text(padded(65537))
    socket.closed(1009)
    with Socket(seeker.base, seeker.token) as parted:
        text = padded(65537).encode()
        parted.wire.send_text(text[:40_000], fin=False)
        parted.wire.send_continuation(text[40_000:], fin=True)
        parted.flush()
        parted.closed(1009)


# ---- how often -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limited():
    """A server with its rate limits on, and somebody on it."""
    with harness.server(rate_limit="on") as own, Person(own.base) as person:
        yield person


def frames_until_closed(socket, send, most):
    """Sends without pause; how many were sent when the server ended the socket, and with which code."""
    sent = 0
    try:
        while sent < most and socket.wire.state is State.OPEN:
            send()
            sent += 1
            if sent % 20 == 0:
                socket.flush()
                with contextlib.suppress(TimeoutError):
                    socket.pump(time.monotonic() + 0.001)
        socket.closed(4429)
    except Closed as closed:
        assert closed.code == 4429, closed
    except (BrokenPipeError, ConnectionResetError):
        assert socket.wire.close_rcvd is None or socket.wire.close_rcvd.code == 4429
    return sent


def test_a_burst_is_taken_then_warned_then_closed(limited):
    """60 at once; then errors, and the socket stays; then the end."""
    with Socket(limited.base, limited.token) as socket:
        began = time.monotonic()
        for n in range(100):
            socket.send("unwatch_area", n)
        for n in range(100):
            assert socket.answer(n)["type"] in ("area_unwatched", "error")
        taken = sum(frame["type"] == "area_unwatched" for frame in socket.seen)
        refused = [frame for frame in socket.seen if frame["type"] == "error"]
        assert 60 <= taken <= 60 + 20 * (time.monotonic() - began) + 1, taken
        assert refused and {frame["data"]["code"] for frame in refused} == {"rate_limited"}
        # It recovers with time; 20 a second are always taken.
        harness.wait_for(lambda: time.monotonic() - began > 5, "what is owed is paid back", 10)
        for n in range(20):
            socket.send("unwatch_area", f"after {n}")
        for n in range(20):
            assert socket.answer(f"after {n}")["type"] == "area_unwatched"
        socket.close()


FLOODS = {
    "frames": lambda socket: socket.wire.send_text(b'{"type":"unwatch_area","data":{}}'),
    "malformed_ids": lambda socket: socket.wire.send_text(b'{"type":"unwatch_area","id":[],"data":{}}'),
    "pings": lambda socket: socket.wire.send_ping(b"x"),
    "pongs": lambda socket: socket.wire.send_pong(b"x"),
}  # fmt: skip


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_is_ended(limited, flood):
    with Socket(limited.base, limited.token) as socket:
        sent = frames_until_closed(socket, lambda: FLOODS[flood](socket), 20_000)
        assert sent >= 100
    answers = [frame for frame in socket.seen if frame["type"] not in ("ready", "area_unwatched")]
    assert {frame["data"]["code"] for frame in answers} <= {"rate_limited", "validation_failed"}


def test_a_flood_of_empty_fragments_is_ended(limited):
    with Socket(limited.base, limited.token) as socket:
        socket.wire.send_text(b"", fin=False)
        sent = frames_until_closed(socket, lambda: socket.wire.send_continuation(b"", fin=False), 20_000)
        assert sent >= 100


def test_a_flood_is_nobody_elses(limited):
    with Socket(limited.base, limited.token) as calm, Socket(limited.base, limited.token) as loud:
        frames_until_closed(loud, lambda: FLOODS["pings"](loud), 20_000)
        began = time.monotonic()
        for _ in range(10):
            calm.fence()
        assert time.monotonic() - began < slack(2)


# ---- strangers -------------------------------------------------------------------------------------------------------

# Event: what a third person sends of a room that is not theirs, and the error; None where no room is meant.
STRANGERS = {
    "join_room": lambda room: [("not_found", {}), ("not_found", {"after_seq": 0}), ("not_found", {"after_seq": 10**6})],
    "leave_room": lambda room: [(None, {})],  # left already
    "send_message": lambda room: [("not_found", {"content": "x"}), ("not_found", {"content": "x", "client_id": NO_ROOM})],
    "mark_read": lambda room: [("not_found", {"seq": 1}), ("not_found", {"seq": 10**9})],
    "typing": lambda room: [("not_joined", {"is_typing": True}), ("not_joined", {"is_typing": False})],
    "authenticate": None,
    "watch_area": None,
    "unwatch_area": None,
}


def test_every_event_has_a_row_for_strangers(anyone):
    served = anyone.get("/asyncapi.json").json
    received = {name[len("client_"):] for name, each in served["operations"].items() if each["action"] == "receive"}
    assert received == set(STRANGERS) == set(operations("receive"))


def test_strangers_reach_nothing(server, seeker, helper, stranger, meeting):
    """What they try is refused as for a room that is none, and nobody hears of it."""
    with Person(server.base, "Ploy") as friend:
        own = Meeting(stranger, friend)  # they have a room of their own, so that they are not nobody
        with several(meeting.joined(seeker), meeting.joined(helper), own.joined(stranger)) as members:
            outside = members[2]
            for socket, other in ((members[0], helper), (members[1], seeker)):
                socket.left()
            before = server.database().sql("SELECT id, last_seq, is_active, updated_at FROM chat_rooms ORDER BY id")
            for event, rows in STRANGERS.items():
                for code, data in rows(meeting.room) if rows else []:
                    if code is None:
                        outside.ask(event, room_id=meeting.room, **data)
                    else:
                        told = outside.refused(event, code, room_id=meeting.room, **data)
                        as_of_none = outside.refused(event, code, room_id=NO_ROOM, **data)
                        assert told == as_of_none, event
            assert server.database().sql("SELECT id, last_seq, is_active, updated_at FROM chat_rooms ORDER BY id") == before
            # What the members say does not reach them either.
            members[0].ask("send_message", room_id=meeting.room, content="between us")
            members[1].message("between us")
            members[1].ask("mark_read", room_id=meeting.room, seq=10**9)
            members[0].expect("read_receipt", user_id=helper.id)
            members[1].send("typing", room_id=meeting.room, is_typing=True)
            members[0].expect("typing", user_id=helper.id, is_typing=True)
            own.say(friend, "fence")
            outside.message("fence")
            outside.fence()
            heard = [text for text in map(json.dumps, outside.seen) if meeting.room in text]
            assert all(re.search(r'"type": "room_left"', text) for text in heard), heard
            for socket in members[:2]:
                socket.fence()
                assert stranger.id not in json.dumps(socket.seen)


def test_a_side_that_left_the_gig_keeps_its_room_to_read(server, seeker, stranger):
    """Withdrawn: the room stays readable for both, and the next helper gets another."""
    with Person(server.base, "First") as first:
        before = Meeting(seeker, first)
        before.say(first, "for the two of us")
        first.post(f"/api/gigs/{before.gig}/withdraw", {}, 200)
        stranger.post(f"/api/gigs/{before.gig}/accept", None, 200)
        with Socket(server.base, stranger.token) as next_helper, Socket(server.base, first.token) as one_before:
            next_helper.refused("join_room", "not_found", room_id=before.room)
            joined = one_before.ask("join_room", room_id=before.room, after_seq=0)
            assert not joined["room"]["is_active"] and "for the two of us" in [each["content"] for each in joined["messages"]]
            one_before.refused("send_message", "room_closed", room_id=before.room, content="x")
            rooms = {room["id"]: room for room in seeker.get("/api/chat/rooms", limit=100).json["rooms"] if room["gig_id"] == before.gig}
            assert len(rooms) == 2
            after = next(room for room in rooms if room != before.room)
            one_before.refused("join_room", "not_found", room_id=after)
            assert next_helper.ask("join_room", room_id=after, after_seq=0)["messages"][0]["seq"] == 1
