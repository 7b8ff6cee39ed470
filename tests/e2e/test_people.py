"""People over open sockets: whoever is blocked hears nothing more, on whatever server they are."""

import pytest

from harness import Client, Person, Server, scratch
from sockets import Meeting, several


@pytest.fixture(scope="module")
def second(server):
    """Another server on the first one's database."""
    with scratch() as folder:
        running = Server(f"{folder}/data", secret=server.secret(), **server.database().urls())
        try:
            yield running
        finally:
            running.close()


def elsewhere(person, server):
    """The same person at another server."""
    return Client(server.base, person.token)


def block(one, other):
    one.post(f"/api/users/{other.id}/block", None, 204)


def unblock(one, other):
    one.call("DELETE", f"/api/users/{other.id}/block", status=204)


def quiet(socket, *kinds):
    """Nothing of these kinds has come until now."""
    socket.fence()
    assert not socket.left(*kinds), socket.seen[-5:]


def test_a_blocked_person_hears_nothing_over_an_open_socket(base):
    with Person(base, "Mali") as mali, Person(base, "Somchai") as somchai:
        meeting = Meeting(mali, somchai)
        with several(meeting.joined(mali), meeting.joined(somchai)) as (hers, his):
            hers.expect("presence", user_id=somchai.id, online=True)
            his.expect("presence", user_id=mali.id, online=True)
            his.send("typing", room_id=meeting.room, is_typing=True)
            hers.expect("typing", user_id=somchai.id, is_typing=True)
            block(mali, somchai)
            # Each sees the other go; what was being typed ends.
            hers.expect("typing", user_id=somchai.id, is_typing=False)
            hers.expect("presence", user_id=somchai.id, online=False)
            his.expect("presence", user_id=mali.id, online=False)
            for mine, theirs in ((hers, his), (his, hers)):
                mine.refused("send_message", "room_closed", room_id=meeting.room, content="Hello?")
                mine.send("typing", room_id=meeting.room, is_typing=True)
                mine.ask("mark_read", room_id=meeting.room, seq=1)
                mine.fence()
                quiet(theirs, "typing", "receive_message", "read_receipt", "presence")
            # Coming and going is not told either, nor by joining again.
            with meeting.joined(somchai) as again:
                assert not again.joined["room"]["is_active"]
                quiet(again, "presence")
            his.ask("leave_room", room_id=meeting.room)
            his.ask("join_room", room_id=meeting.room)
            quiet(his, "presence")
            quiet(hers, "presence")
            unblock(mali, somchai)
            hers.expect("presence", user_id=somchai.id, online=True)
            his.expect("presence", user_id=mali.id, online=True)
            his.ask("send_message", room_id=meeting.room, content="Again")
            hers.message("Again")
            his.send("typing", room_id=meeting.room, is_typing=True)
            hers.expect("typing", user_id=somchai.id, is_typing=True)


def test_the_gig_of_a_blocked_pair_still_tells_what_becomes_of_it(base):
    with Person(base, "Mali") as mali, Person(base, "Somchai") as somchai:
        meeting = Meeting(mali, somchai)
        with meeting.joined(mali) as hers:
            block(mali, somchai)
            somchai.put(f"/api/gigs/{meeting.gig}/status", {"status": "IN_PROGRESS"})
            assert hers.message()["type"] == "SYSTEM"
            hers.expect("gig_updated")


def test_a_block_made_at_one_server_holds_at_the_other(server, base, second):
    with Person(base, "Mali") as mali, Person(base, "Somchai") as somchai, elsewhere(somchai, second) as his_client:
        meeting = Meeting(mali, somchai)
        with several(meeting.joined(mali), meeting.joined(his_client)) as (hers, his):
            hers.expect("presence", user_id=somchai.id, online=True)
            his.expect("presence", user_id=mali.id, online=True)
            block(mali, somchai)
            his.expect("presence", user_id=mali.id, online=False)
            hers.expect("presence", user_id=somchai.id, online=False)
            his.refused("send_message", "room_closed", room_id=meeting.room, content="Hello?")
            his.send("typing", room_id=meeting.room, is_typing=True)
            quiet(his)
            quiet(hers, "typing", "receive_message")
            his_client.get(f"/api/users/{mali.id}", status=404)
