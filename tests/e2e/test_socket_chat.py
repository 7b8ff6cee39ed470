"""Chat over sockets, seen from both sides of a room: contract, section 5; W07."""

import time
import uuid

import pytest
from harness import gig, slack, together, wait_for
from sockets import Meeting, Socket, several

TYPING_LASTS_S = 6


@pytest.fixture
def meeting(seeker, helper):
    return Meeting(seeker, helper)


def seqs(messages):
    return [message["seq"] for message in messages]


def received(socket):
    """The messages that came live, in the order in which they came."""
    return [frame["data"]["message"] for frame in socket.seen if frame["type"] == "receive_message"]


def reach(socket, seq):
    """Reads until the room's stream is there."""
    socket.take(lambda frame: frame["type"] == "receive_message" and frame["data"]["message"]["seq"] == seq, f"message {seq}")


# ---- messages --------------------------------------------------------------------------------------------------------


def test_a_message_is_durable_when_acknowledged(server, seeker, helper, meeting):
    with several(meeting.joined(seeker), meeting.joined(helper)) as (one, other):
        for n in range(20):
            stored = one.ask("send_message", room_id=meeting.room, content=f"message {n}")["message"]
            rows = server.database().sql(f"SELECT seq, content, sender_id FROM chat_messages WHERE id = '{stored['id']}'")
            assert rows == [[str(stored["seq"]), f"message {n}", seeker.id]]
            assert other.message(f"message {n}") == stored
            assert one.message(f"message {n}") == stored
        assert stored["seq"] == 21 and stored["type"] == "TEXT" and stored["room_id"] == meeting.room


def test_every_joined_connection_hears_each_once_and_in_order(seeker, helper, meeting):
    """Three connections each, all of them sending, by socket and by REST."""
    people = [seeker, helper] * 3
    with several(*[meeting.joined(person) for person in people]) as sockets:
        def by_socket(socket, n):
            def work():
                names = [socket.begin("send_message", room_id=meeting.room, content=f"{n} {k}") for k in range(15)]
                for name in names:
                    assert socket.answer(name, 30)["type"] == "message_ack"
            return work

        def by_rest(person):
            def work():
                with person.again() as client:
                    for k in range(10):
                        client.post(f"/api/chat/rooms/{meeting.room}/messages", {"content": f"rest {k}"}, 201)
            return work

        together(*[by_socket(socket, n) for n, socket in enumerate(sockets)], by_rest(seeker), by_rest(helper))
        for socket in sockets:
            wait_for(lambda: len(received(socket)) >= 110 or pump(socket), "all messages", slack(20))
            assert seqs(received(socket)) == list(range(2, 112))
        first = received(sockets[0])
        assert all(received(socket) == first for socket in sockets)
        for n in range(6):  # each sender's own order is kept
            assert [m["content"] for m in first if m["content"].startswith(f"{n} ")] == [f"{n} {k}" for k in range(15)]
        stored = seeker.get(f"/api/chat/rooms/{meeting.room}/messages", after_seq=1, limit=100).json["messages"]
        assert stored == first[:100]


def pump(socket):
    try:
        socket.pump(time.monotonic() + 0.05)
    except TimeoutError:
        pass


def test_an_answer_comes_before_the_message_or_after_but_is_the_same(seeker, meeting):
    with meeting.joined(seeker) as socket:
        acknowledged = socket.ask("send_message", room_id=meeting.room, content="x")["message"]
        assert socket.message() == acknowledged
        socket.send("send_message", room_id=meeting.room, content="without an id")
        assert socket.expect("message_ack")["message"] == socket.message("without an id")


def test_a_sender_need_not_have_joined(seeker, helper, meeting):
    with Socket(seeker.base, seeker.token) as outside, meeting.joined(helper) as joined:
        stored = outside.ask("send_message", room_id=meeting.room, content="from outside")["message"]
        assert joined.message() == stored
        outside.fence()
        assert not outside.left("receive_message")


def test_a_retry_is_the_same_message(server, seeker, helper, meeting):
    """By socket, by another socket, and by REST, in any order and at once."""
    with several(meeting.joined(seeker), meeting.joined(seeker), meeting.joined(helper)) as (one, two, other):
        wish = {"room_id": meeting.room, "content": "once", "client_id": str(uuid.uuid4())}
        first = one.ask("send_message", **wish)["message"]
        assert first["client_id"] == wish["client_id"]
        assert two.ask("send_message", **wish)["message"] == first
        assert meeting.say(seeker, "once", {200, 201}, client_id=wish["client_id"]) == first
        assert one.ask("send_message", **{**wish, "content": "other words"})["message"] == first

        by_rest = str(uuid.uuid4())
        stored = meeting.say(seeker, "by REST", client_id=by_rest)
        assert two.ask("send_message", room_id=meeting.room, content="by REST", client_id=by_rest.upper())["message"] == stored

        # The same id of the other person is another message.
        theirs = other.ask("send_message", **wish)["message"]
        assert theirs["id"] != first["id"] and theirs["sender_id"] == helper.id

        raced = {"room_id": meeting.room, "content": "raced", "client_id": str(uuid.uuid4())}
        with seeker.again() as client:
            def ask_rest():
                return client.post(f"/api/chat/rooms/{meeting.room}/messages", {k: raced[k] for k in ("content", "client_id")}, {200, 201}).json

            answers = together(lambda: one.ask("send_message", **raced)["message"], lambda: two.ask("send_message", **raced)["message"], ask_rest)
        assert answers[0] == answers[1] == answers[2]
        assert server.database().sql(f"SELECT count(*) FROM chat_messages WHERE room_id = '{meeting.room}'") == [["5"]]
        meeting.say(helper, "fence")
        for socket in (one, two, other):
            reach(socket, 6)
            assert seqs(received(socket)) == [2, 3, 4, 5, 6]


def test_what_the_gig_does_is_told_live(seeker, helper):
    """SYSTEM messages of withdraw, cancel and complete; a closed room takes no more."""
    def ways():
        yield "withdraw", lambda m: helper.post(f"/api/gigs/{m.gig}/withdraw", {"reason": "ill"}, 200)
        yield "cancel", lambda m: seeker.put(f"/api/gigs/{m.gig}/status", {"status": "CANCELLED"})
        yield "delete", lambda m: seeker.call("DELETE", f"/api/gigs/{m.gig}", status=204)

    for name, end in ways():
        meeting = Meeting(seeker, helper)
        with several(meeting.joined(seeker), meeting.joined(helper)) as sockets:
            end(meeting)
            for socket in sockets:
                told = socket.message()
                assert told["type"] == "SYSTEM" and told["sender_id"] is None and told["seq"] == 2, (name, told)
                socket.refused("send_message", "room_closed", room_id=meeting.room, content="x")
                assert socket.ask("join_room", room_id=meeting.room, after_seq=0)["room"]["is_active"] is False
                socket.ask("mark_read", room_id=meeting.room, seq=2)
            assert meeting.say(seeker, "x", 409)["code"] == "room_closed"

    meeting = Meeting(seeker, helper)
    with several(meeting.joined(seeker), meeting.joined(helper)) as sockets:
        for status in ("IN_PROGRESS", "COMPLETED"):
            helper.put(f"/api/gigs/{meeting.gig}/status", {"status": status})
        stored = seeker.get(f"/api/chat/rooms/{meeting.room}/messages").json["messages"]
        assert stored[-1]["type"] == "SYSTEM"
        for socket in sockets:
            reach(socket, stored[-1]["seq"])
            assert received(socket) == [message for message in stored if message["seq"] > 1]


def test_a_helper_who_comes_back_finds_the_room_and_its_sockets(seeker, helper, meeting):
    """Withdrawn and accepted again by the same helper: the same room, its numbers go on, who is joined hears it."""
    with several(meeting.joined(seeker), meeting.joined(helper)) as sockets:
        helper.post(f"/api/gigs/{meeting.gig}/withdraw", {}, 200)
        helper.post(f"/api/gigs/{meeting.gig}/accept", None, 200)
        sockets[1].ask("send_message", room_id=meeting.room, content="back again")
        for socket in sockets:
            reach(socket, 4)
            assert [each["type"] for each in received(socket)] == ["SYSTEM", "SYSTEM", "TEXT"]
            assert seqs(received(socket)) == [2, 3, 4]


# ---- joining ---------------------------------------------------------------------------------------------------------


def fill(server, room, upto, length=20):
    """Messages 2 to `upto`, without the server's doing."""
    server.database().sql(f"""
        INSERT INTO chat_messages (room_id, seq, id, sender_id, type, content, created_at)
        SELECT r.id, n, gen_random_uuid(), r.seeker_id, 'TEXT', repeat('m', {length}) || n, r.updated_at + n * interval '1 ms'
        FROM chat_rooms r, generate_series(2, {upto}) n WHERE r.id = '{room}';
        UPDATE chat_rooms SET last_seq = {upto}, updated_at = updated_at + {upto} * interval '1 ms' WHERE id = '{room}'""")


def test_joining_goes_on_where_it_was_left(server, helper, seeker, meeting):
    fill(server, meeting.room, 200)
    for after, first in ((0, 1), (1, 2), (100, 101), (199, 200), (200, None), (201, None), (10**6, None), (2**53 - 1, None)):
        with meeting.joined(helper, after_seq=after) as socket:
            joined = socket.joined
            assert joined["complete"] is True and joined["room"]["last_seq"] == 200, after
            assert seqs(joined["messages"]) == (list(range(first, 201)) if first else []), after
    with meeting.joined(helper) as socket:  # without: the newest, for a screen that has nothing yet
        assert seqs(socket.joined["messages"]) == list(range(151, 201))
        live = meeting.say(seeker, "and on")
        assert socket.message() == live and live["seq"] == 201
    assert socket.joined["messages"] == helper.get(f"/api/chat/rooms/{meeting.room}/messages", after_seq=150, limit=50).json["messages"]


@pytest.mark.parametrize("length", [20, 3000])
def test_too_much_missed_is_paged_by_rest(server, seeker, helper, meeting, length):
    """More than 1,000 messages, or than half a megabyte: the newest come with the join, the rest by REST, and together
    they are all of them."""
    fill(server, meeting.room, 1500, length)
    with meeting.joined(helper, after_seq=10) as socket:
        assert socket.joined["complete"] is False
        given = socket.joined["messages"]
        assert given[-1]["seq"] == 1500 and 100 < len(given) <= 1000
        meeting.say(seeker, "meanwhile")
        rest, after = [], 10
        while after < given[0]["seq"] - 1:
            page = helper.get(f"/api/chat/rooms/{meeting.room}/messages", after_seq=after, limit=100).json["messages"]
            assert page
            rest += [message for message in page if message["seq"] < given[0]["seq"]]
            after = page[-1]["seq"]
        live = socket.message("meanwhile")
        assert seqs(rest + given + [live]) == list(range(11, 1502))
    with meeting.joined(helper, after_seq=501 if length == 20 else 1450) as socket:
        assert socket.joined["complete"] is True


def test_joining_again_on_the_same_connection(seeker, helper, meeting):
    """A client may ask anew at any time; nothing is doubled in what comes live."""
    with meeting.joined(helper) as socket:
        for n in range(10):
            meeting.say(seeker, f"message {n}")
            assert seqs(socket.ask("join_room", room_id=meeting.room, after_seq=1)["messages"]) == list(range(2, n + 3))
        socket.ask("leave_room", room_id=meeting.room)
        meeting.say(seeker, "missed")
        assert seqs(socket.ask("join_room", room_id=meeting.room, after_seq=11)["messages"]) == [12]
        meeting.say(seeker, "live")
        reach(socket, 13)
        live = seqs(received(socket))
        assert live == sorted(set(live)) and 12 not in live


def test_joining_while_others_send(seeker, helper, meeting):
    """Each join is followed live without gap or repetition, however often it is done while messages come."""
    with several(Socket(seeker.base, seeker.token), Socket(helper.base, helper.token)) as (sender, reader):
        def send():
            for k in range(60):
                sender.ask("send_message", room_id=meeting.room, content=f"message {k}")

        def read():
            have = 1
            for _ in range(15):
                joined = reader.ask("join_room", room_id=meeting.room, after_seq=have)
                assert joined["complete"]
                for message in joined["messages"]:
                    assert message["seq"] == have + 1
                    have += 1
                for _ in range(2):
                    pump(reader)
                reader.ask("leave_room", room_id=meeting.room)
                for kind, data in reader.left("receive_message"):
                    assert data["message"]["seq"] == have + 1, (kind, have)
                    have += 1
            return have

        _, have = together(send, read)
        rest = reader.ask("join_room", room_id=meeting.room, after_seq=have)["messages"]
        assert seqs(rest) == list(range(have + 1, 62))


def test_a_left_room_is_silent(seeker, helper, meeting):
    with several(meeting.joined(helper), meeting.joined(helper)) as (gone, stays):
        assert gone.ask("leave_room", room_id=meeting.room) == {"room_id": meeting.room}
        assert gone.ask("leave_room", room_id=meeting.room) == {"room_id": meeting.room}
        meeting.say(seeker, "after")
        stays.message("after")
        meeting.say(seeker, "fence")
        stays.message("fence")
        gone.ask("send_message", room_id=meeting.room, content="still a side of it")
        gone.refused("typing", "not_joined", room_id=meeting.room, is_typing=True)
        assert not gone.left("receive_message")


def test_a_hundred_rooms_and_no_more(server, seeker, helper):
    """By SQL, since 101 gigs are slow to accept one by one."""
    meeting = Meeting(seeker, helper)
    columns = server.database().sql("""
        SELECT string_agg(column_name, ', ' ORDER BY column_name <> 'id') FROM information_schema.columns
        WHERE table_name = 'gigs' AND is_generated = 'NEVER'""")[0][0]
    rows = server.database().sql(f"""
        WITH made AS (
          INSERT INTO gigs ({columns}) SELECT {columns.replace('id', 'gen_random_uuid()', 1)}
          FROM gigs g, generate_series(1, 100) WHERE g.id = '{meeting.gig}' RETURNING id),
        rooms AS (
          INSERT INTO chat_rooms (id, gig_id, gig_title, seeker_id, helper_id, last_seq, created_at, updated_at)
          SELECT gen_random_uuid(), id, 'many', '{seeker.id}', '{helper.id}', 1, now(), now() FROM made RETURNING id),
        people AS (INSERT INTO chat_participants (room_id, user_id)
          SELECT id, u FROM rooms, (VALUES ('{seeker.id}'::uuid), ('{helper.id}')) v (u)),
        messages AS (INSERT INTO chat_messages (room_id, seq, id, type, content, created_at)
          SELECT id, 1, gen_random_uuid(), 'SYSTEM', 'open', now() FROM rooms)
        SELECT id FROM rooms""")
    rooms = [meeting.room] + [room for (room,) in rows]
    assert len(rooms) == 101
    with Socket(helper.base, helper.token) as socket:
        names = [socket.begin("join_room", room_id=room) for room in rooms[:100]]
        assert {socket.answer(name)["type"] for name in names} == {"room_joined"}
        socket.refused("join_room", "too_many_rooms", room_id=rooms[100])
        socket.ask("join_room", room_id=rooms[50])  # again is not one more
        socket.ask("leave_room", room_id=rooms[50])
        socket.ask("join_room", room_id=rooms[100])
        socket.refused("join_room", "too_many_rooms", room_id=rooms[50])
        meeting.say(seeker, "heard among a hundred")
        socket.message("heard among a hundred")
    with Socket(helper.base, helper.token) as socket:  # what is refused takes no place
        for _ in range(101):
            socket.refused("join_room", "not_found", room_id=str(uuid.uuid4()))
        socket.ask("join_room", room_id=meeting.room)


# ---- markers ---------------------------------------------------------------------------------------------------------


def receipts(socket):
    return [(frame["data"]["user_id"], frame["data"]["seq"]) for frame in socket.seen if frame["type"] == "read_receipt"]


def test_markers_move_forward_and_each_connection_hears_it_once(seeker, helper, meeting):
    for n in range(9):
        meeting.say(seeker, f"message {n}")
    with several(meeting.joined(helper), meeting.joined(helper), meeting.joined(seeker)) as sockets:
        reader, beside, other = sockets

        def mark(seq, by=reader):
            return by.ask("mark_read", room_id=meeting.room, seq=seq)["seq"]

        assert mark(3) == 3
        assert mark(2) == 3 and mark(3) == 3  # neither back nor again
        beside.expect("read_receipt", seq=3)
        assert mark(5, beside) == 5
        reader.expect("read_receipt", seq=5)
        assert mark(10**9) == 10  # at most the last
        room = helper.get(f"/api/chat/rooms/{meeting.room}").json
        assert room["unread_count"] == 0
        assert [side["last_read_seq"] for side in room["participants"] if side["user"]["id"] == helper.id] == [10]
        said = meeting.say(seeker, "one more")
        assert helper.get(f"/api/chat/rooms/{meeting.room}").json["unread_count"] == 1
        helper.put(f"/api/chat/rooms/{meeting.room}/read", {"seq": said["seq"]})
        for socket in sockets:
            socket.expect("read_receipt", user_id=helper.id, seq=11)
        meeting.say(seeker, "fence")
        for socket in sockets:
            reach(socket, 12)
        assert receipts(other) == [(helper.id, 3), (helper.id, 5), (helper.id, 10), (helper.id, 11)]
        assert receipts(beside) == [(helper.id, 3), (helper.id, 5), (helper.id, 10), (helper.id, 11)]
        # The two that did not move it are answered all the same.
        assert receipts(reader) == [(helper.id, 3)] * 3 + [(helper.id, 5), (helper.id, 10), (helper.id, 11)]


def test_sending_moves_the_senders_own_marker(seeker, helper, meeting):
    with several(meeting.joined(seeker), meeting.joined(helper)) as (one, other):
        stored = one.ask("send_message", room_id=meeting.room, content="x")["message"]
        rooms = [person.get(f"/api/chat/rooms/{meeting.room}").json for person in (seeker, helper)]
        assert [room["unread_count"] for room in rooms] == [0, 2]
        assert {side["user"]["id"]: side["last_read_seq"] for side in rooms[0]["participants"]} == {seeker.id: stored["seq"], helper.id: 0}
        other.message("x")
        assert one.ask("mark_read", room_id=meeting.room, seq=1)["seq"] == 2


# ---- typing and presence ---------------------------------------------------------------------------------------------


def test_typing_is_told_to_the_others_and_ends_by_itself(server, seeker, helper, meeting):
    with several(meeting.joined(seeker), meeting.joined(seeker), meeting.joined(helper)) as (typist, beside, other):
        began = time.monotonic()
        typist.send("typing", room_id=meeting.room, is_typing=True)
        assert other.expect("typing") == {"room_id": meeting.room, "user_id": seeker.id, "is_typing": True}
        other.expect("typing", TYPING_LASTS_S + 4, is_typing=False)
        assert TYPING_LASTS_S - 0.5 < time.monotonic() - began < slack(TYPING_LASTS_S + 3)

        typist.send("typing", room_id=meeting.room, is_typing=True)
        other.expect("typing", is_typing=True)
        typist.send("typing", room_id=meeting.room, is_typing=False)
        typist.send("typing", room_id=meeting.room, is_typing=False)
        other.expect("typing", is_typing=False)
        meeting.say(helper, "fence")
        for socket in (typist, beside, other):
            socket.message("fence")
        assert not other.left("typing")
        for socket in (typist, beside):
            assert not [frame for frame in socket.seen if frame["type"] == "typing"]
        assert server.database().sql("SELECT count(*) FROM outbox WHERE kind = 'typing'") == [["0"]]


def test_typing_goes_on_while_it_is_said_again(seeker, helper, meeting):
    with several(meeting.joined(seeker), meeting.joined(helper)) as (typist, other):
        began = time.monotonic()
        typist.send("typing", room_id=meeting.room, is_typing=True)
        other.expect("typing", is_typing=True)
        wait_for(lambda: time.monotonic() - began > 3, "half of its time")
        typist.send("typing", room_id=meeting.room, is_typing=True)
        other.expect("typing", 12, is_typing=False)
        assert time.monotonic() - began > 3 + TYPING_LASTS_S - 0.5


def test_presence_of_several_connections(seeker, helper, meeting):
    """Told on the first to come and the last to go, whichever way it goes."""
    with meeting.joined(seeker) as watcher:
        def told():
            """What was told up to now, with a message as a fence behind it."""
            return [data["online"] for kind, data in watcher.left("presence") if data["user_id"] == helper.id]

        assert told() == []
        with meeting.joined(helper) as first, meeting.joined(helper) as second:
            assert first.expect("presence") == {"room_id": meeting.room, "user_id": seeker.id, "online": True}
            assert second.expect("presence") == {"room_id": meeting.room, "user_id": seeker.id, "online": True}
            watcher.expect("presence", user_id=helper.id, online=True)
            first.ask("leave_room", room_id=meeting.room)
            meeting.say(helper, "one is left")
            watcher.message("one is left")
            second.ask("leave_room", room_id=meeting.room)
            watcher.expect("presence", user_id=helper.id, online=False)
            second.ask("join_room", room_id=meeting.room)
            second.ask("join_room", room_id=meeting.room)
            watcher.expect("presence", user_id=helper.id, online=True)
            second.close()
            watcher.expect("presence", user_id=helper.id, online=False)
            first.ask("join_room", room_id=meeting.room)
            watcher.expect("presence", user_id=helper.id, online=True)
            first.kill()
            began = time.monotonic()
            watcher.expect("presence", user_id=helper.id, online=False)
            assert time.monotonic() - began < slack(2)
        meeting.say(helper, "fence")
        watcher.message("fence")
        watcher.fence()
        assert told() == []
        assert not [frame for frame in watcher.seen if frame["type"] == "presence" and frame["data"]["user_id"] == seeker.id]
        with meeting.joined(helper) as again:  # who comes later is told who is there, and nobody who has gone
            again.expect("presence", user_id=seeker.id, online=True)
            watcher.expect("presence", user_id=helper.id, online=True)


def test_who_goes_stops_typing(seeker, helper, meeting):
    with meeting.joined(helper) as watcher:
        with meeting.joined(seeker) as typist:
            typist.send("typing", room_id=meeting.room, is_typing=True)
            watcher.expect("typing", is_typing=True)
            typist.kill()
            began = time.monotonic()
            watcher.expect("typing", is_typing=False)
            watcher.expect("presence", online=False)
            assert time.monotonic() - began < slack(3)


def test_a_gig_is_told_to_both_sides_whether_they_have_joined_or_not(seeker, helper, stranger):
    with several(*[Socket(person.base, person.token) for person in (seeker, helper, stranger)]) as (one, other, outside):
        meeting = Meeting(seeker, helper)
        assert one.expect("gig_updated", gig=one_gig(seeker, meeting.gig))["gig"]["status"] == "ACCEPTED"
        assert other.expect("gig_updated")["gig"]["helper"]["id"] == helper.id
        stranger.post("/api/gigs", gig(), 201)
        outside.expect("gig_updated")
        outside.fence()
        assert meeting.gig not in str(outside.seen)


def one_gig(person, name):
    return person.get(f"/api/gigs/{name}").json
