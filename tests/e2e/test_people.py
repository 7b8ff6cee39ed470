"""Z08: people over open sockets: whoever is blocked hears nothing more, on whatever server they are. E06: what is left of
those who go."""

import os
import time

import pytest

from harness import PASSWORD, Client, Person, Server, gig, run, scratch, slack, wait_for
from pictures import png, upload
from sockets import Meeting, Socket, several, upgrade


@pytest.fixture(scope="module")
def second(server):
    """Another server on the first one's database and pictures."""
    with scratch() as folder:
        running = Server(f"{folder}/data", secret=server.secret(), files_directory=f"{server.directory}/files",
                         **server.database().urls())
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


# ---- suspension, deletion ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def admin(server, base):
    with Person(base, "An administrator") as person:
        server.database().sql(f"UPDATE users SET role = 'ADMIN' WHERE id = '{person.id}'")
        # What a server remembers of a session it forgets within a second.
        wait_for(lambda: person.call("GET", "/api/admin/reports").status == 200, "the server knows its administrator")
        yield person


def test_a_suspended_persons_sockets_close_on_every_server(base, second, admin):
    with Person(base, "Somchai") as somchai, Person(base, "Mali") as mali, elsewhere(somchai, second) as his_client:
        posted = somchai.post("/api/gigs", gig(title="Gone with me"), 201).json["id"]
        meeting = Meeting(mali, somchai)
        with several(Socket(base, somchai.token), meeting.joined(his_client), meeting.joined(mali)) as (here, there, hers):
            hers.expect("presence", user_id=somchai.id, online=True)
            his_client.get("/api/users/me")
            began = time.monotonic()
            admin.post(f"/api/admin/users/{somchai.id}/suspend", {"reason": "Spam"}, 200)
            somchai.get("/api/users/me", status=401)
            for socket in (here, there):
                socket.closed(4503)
            assert time.monotonic() - began < slack(2)
            hers.expect("presence", user_id=somchai.id, online=False)
            # The other server remembers a session for a second at most.
            wait_for(lambda: his_client.call("GET", "/api/users/me").status == 401, "the other server knows", 2)
            assert upgrade(base, Authorization=f"Bearer {somchai.token}").status == 401
        assert mali.get(f"/api/gigs/{posted}").json["status"] == "CANCELLED"
        assert somchai.login(403).json["code"] == "account_suspended"
        assert somchai.login(401, password="not the password").json["code"] == "invalid_credentials"
        somchai.call("POST", "/api/auth/refresh", {"refresh_token": somchai.refresh_token}, 401)
        admin.post(f"/api/admin/users/{somchai.id}/restore", {}, 200)
        somchai.login()
        with meeting.joined(somchai) as back:
            back.ask("send_message", room_id=meeting.room, content="I am back")
        actions = [entry["action"] for entry in admin.get("/api/admin/audit-log", subject_id=somchai.id).json["entries"]]
        assert actions == ["user.restore", "user.suspend"]


def test_the_command_line_makes_administrators_and_takes_it_back(server, base, second, admin):
    with Person(base, "Somchai") as somchai, elsewhere(somchai, second) as his_client:

        def told(what, *words, code=0):
            done = run("admin", what, somchai.email.upper(), data_directory=server.directory)
            assert done.returncode == code and all(word in done.stdout + done.stderr for word in words), done

        def both_know(status):
            for client in (somchai, his_client):
                wait_for(lambda: client.call("GET", "/api/admin/reports").status == status, "both servers know", slack(2))

        told("revoke", "no administrator, and was so already")
        told("grant", "is an administrator now")
        both_know(200)
        told("grant", "is an administrator, and was so already")
        server.database().sql(f"UPDATE users SET role = 'USER' WHERE id = '{admin.id}'")
        told("revoke", "is the last administrator", code=1)
        server.database().sql(f"UPDATE users SET role = 'ADMIN' WHERE id = '{admin.id}'")
        told("revoke", "is no administrator now")
        both_know(403)
        wait_for(lambda: admin.call("GET", "/api/admin/reports").status == 200, "the server knows its administrator")
        entries = admin.get("/api/admin/audit-log", subject_id=somchai.id).json["entries"]
        assert [(entry["admin_id"], entry["action"], entry["details"]["to"]) for entry in entries] == [
            (None, "role.set", "USER"), (None, "role.set", "ADMIN")]
    done = run("admin", "revoke", "nobody@example.com", data_directory=server.directory)
    assert done.returncode == 1 and "nobody has the email" in done.stderr, done


def test_a_deleted_persons_sockets_close_and_the_email_is_free(base, second):
    with Person(base, "Somchai") as somchai, Person(base, "Mali") as mali, elsewhere(somchai, second) as his_client:
        meeting = Meeting(mali, somchai)
        meeting.say(somchai, "My secret")
        somchai.call("DELETE", "/api/users/me", {"password": PASSWORD}, 409)
        for status in ("IN_PROGRESS", "COMPLETED"):
            mali.put(f"/api/gigs/{meeting.gig}/status", {"status": status})
        exported = somchai.get("/api/users/me/export").json["data"]
        assert exported["chat_messages"][0]["content"] == "My secret"
        assert exported["profile"][0]["email"] == somchai.email
        with several(Socket(base, somchai.token), meeting.joined(his_client)) as sockets:
            somchai.call("DELETE", "/api/users/me", {"password": "not the password"}, 403)
            somchai.call("DELETE", "/api/users/me", {"password": PASSWORD}, 204)
            for socket in sockets:
                socket.closed(4503)
        somchai.get("/api/users/me", status=401)
        somchai.login(401)
        said = mali.get(f"/api/chat/rooms/{meeting.room}/messages").json["messages"]
        assert "My secret" not in str(said) and "[deleted]" in str(said)
        assert mali.get(f"/api/gigs/{meeting.gig}").json["helper"]["name"] == "Deleted user"
        with Person(base, "Somchai again", email=somchai.email) as again:
            assert again.id != somchai.id


def test_a_deleted_persons_pictures_are_gone_with_the_answer(server, base, second):
    with Person(base, "Somchai") as somchai, Person(base, "Mali") as mali, elsewhere(mali, second) as her_client:
        pictures = {kind: upload(somchai, png(20, 20), category=kind).json for kind in ("profile", "gig", "chat")}
        posted = somchai.post("/api/gigs", gig(image_urls=[pictures["gig"]["url"]]), 201).json["id"]
        somchai.call("DELETE", f"/api/gigs/{posted}", status=204)
        meeting = Meeting(mali, somchai)
        somchai.post(f"/api/chat/rooms/{meeting.room}/messages", {"image_url": pictures["chat"]["url"]}, 201)
        for status in ("IN_PROGRESS", "COMPLETED"):
            mali.put(f"/api/gigs/{meeting.gig}/status", {"status": status})
        exported = somchai.get("/api/users/me/export").json["data"]["uploads"]
        assert {one["id"] for one in exported} == {made["id"] for made in pictures.values()}
        link = mali.get(f"/api/upload/{pictures['chat']['id']}/link").json["url"]
        targets = [link, *(made[name] for made in pictures.values() for name in ("url", "thumbnail_url"))]
        for target in targets:  # kept in memory by both from now on
            mali.get(target)
            her_client.get(target)
        somchai.call("DELETE", "/api/users/me", {"password": PASSWORD}, 204)
        for target in targets:
            mali.get(target, 404)
        # Whatever a server does not hear of it asks for again after five seconds.
        wait_for(lambda: all(her_client.call("GET", target).status == 404 for target in targets), "the other heard of it", slack(4))
        said = mali.get(f"/api/chat/rooms/{meeting.room}/messages").json["messages"]
        assert "/files/" not in str(said)
        ids = {made["id"] for made in pictures.values()}
        wait_for(lambda: not any(name.removesuffix(".thumb") in ids for _, _, names in os.walk(f"{server.directory}/files/objects")
                                 for name in names), "the files are gone", slack(20), 0.1)
