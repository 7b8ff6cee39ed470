"""Who may open a socket and how long it stays theirs: contract, section 5; W03, W04, W05, W11."""

import contextlib
import json
import secrets
import signal
import time

import harness
import pytest
from harness import PASSWORD, Client, Person, Raw, slack, wait_for
from sockets import Meeting, Socket, several, upgrade


@pytest.fixture(scope="module")
def meeting(seeker, helper):
    return Meeting(seeker, helper)


def ticket(person):
    sold = person.post("/api/ws/ticket", None, {200, 201}).json
    assert sold["expires_in"] == 30
    return sold["ticket"]


# name, a socket of a person's
WAYS = {
    "header": lambda person, target: Socket(person.base, person.token, target),
    "subprotocol": lambda person, target: Socket(person.base, None, target, subprotocols=["hourz.v1", f"bearer.{person.token}"]),
    "ticket": lambda person, target: Socket(person.base, None, f"{target}?ticket={ticket(person)}"),
    "query": lambda person, target: Socket(person.base, None, f"{target}?token={person.token}"),
    "frame": lambda person, target: authenticated(person, target),
}  # fmt: skip


def authenticated(person, target="/ws"):
    socket = Socket(person.base, None, target)
    socket.ready = socket.ask("authenticate", access_token=person.token)
    return socket


@pytest.mark.parametrize("way", WAYS)
def test_ways_in(seeker, meeting, way):
    with WAYS[way](seeker, "/ws") as socket:
        assert socket.ready["connection_id"]
        assert socket.wire.subprotocol == ("hourz.v1" if way == "subprotocol" else None)
        assert socket.ask("join_room", room_id=meeting.room)["room"]["gig_id"] == meeting.gig
        socket.close()


@pytest.mark.parametrize("way", WAYS)
def test_the_room_of_the_target_is_joined_at_once(seeker, helper, stranger, meeting, way):
    with WAYS[way](seeker, f"/ws/chat/{meeting.room}") as socket:
        assert socket.expect("room_joined")["room"]["id"] == meeting.room
        said = meeting.say(helper, f"hello {way}")
        assert socket.message()["id"] == said["id"]
        with WAYS[way](stranger, f"/ws/chat/{meeting.room}") as outside:
            assert outside.expect("error")["code"] == "not_found"
            outside.refused("typing", "not_joined", room_id=meeting.room, is_typing=True)
            meeting.say(helper, "fence")
            socket.message("fence")
            outside.fence()
            assert not outside.waiting
            assert not [frame for frame in socket.waiting if frame["data"].get("user_id") == stranger.id]


def test_a_room_that_is_none(seeker):
    for target in ("/ws/chat/nonsense", "/ws/chat/", "/ws/chat", "/ws/other", "/ws/chat/" + "0" * 32):
        assert upgrade(seeker.base, target, Authorization=f"Bearer {seeker.token}").status == 404, target
    with Socket(seeker.base, seeker.token, "/ws/chat/01890a5d-ac96-774b-bcce-b302099a8057") as socket:
        assert socket.expect("error")["code"] == "not_found"
    with Socket(seeker.base, seeker.token, "/ws/"):
        pass


def test_a_subprotocol_is_named_only_if_it_is_ours(base, seeker):
    for offered, named in ((f"bearer.{seeker.token}, hourz.v1", "hourz.v1"), (f"bearer.{seeker.token}", None),
                           (f"hourz.v2, bearer.{seeker.token}", None), (f"chat,hourz.v1 ,\tbearer.{seeker.token}", "hourz.v1")):
        answer = upgrade(base, Sec_WebSocket_Protocol=offered)
        assert answer.status == 101 and answer.headers.get("sec-websocket-protocol") == named, offered


def test_wrong_credentials_are_no_upgrade(base, seeker, meeting):
    forged = seeker.token[:-4] + ("AAAA" if seeker.token[-4:] != "AAAA" else "BBBB")
    bought = ticket(seeker)
    for wrong in ("x", forged, seeker.refresh_token, bought, "." * 40):
        for target, headers in (("/ws", {"Authorization": f"Bearer {wrong}"}), (f"/ws?token={wrong}", {}),
                                ("/ws", {"Sec_WebSocket_Protocol": f"hourz.v1, bearer.{wrong}"}),
                                (f"/ws/chat/{meeting.room}?token={wrong}", {})):
            answer = upgrade(base, target, **headers)
            assert answer.status == 401 and answer.json["code"] == "token_invalid", (target, headers, answer)
        with Socket(base) as socket:
            socket.refused("authenticate", "token_invalid", access_token=wrong)
            socket.closed(4501)
    for target, headers in (("/ws", {"Authorization": f"Basic {seeker.token}"}), ("/ws", {"Authorization": "Bearer"}),
                            ("/ws", {"Authorization": "Bearer "}), ("/ws?ticket=x", {}), (f"/ws?ticket={seeker.token}", {})):
        assert upgrade(base, target, **headers).status == 401, (target, headers)
    for target in ("/ws?token=", "/ws?ticket=", "/ws?tocken=x", f"/ws?token=x&token={seeker.token}"):
        assert upgrade(base, target).status in (400, 422), target
    # A ticket is not an access token, and was not used up by being tried as one.
    seeker.call("GET", "/api/users/me", status=401, token=bought)
    assert upgrade(base, f"/ws?ticket={bought}").status == 101


def test_a_ticket_opens_one_socket_and_in_time(server, base, seeker):
    one = ticket(seeker)
    assert upgrade(base, f"/ws?ticket={one}").status == 101
    assert upgrade(base, f"/ws?ticket={one}").status == 401
    late = ticket(seeker)
    server.database().sql("UPDATE socket_tickets SET expires_at = now() - interval '1 ms'")
    assert upgrade(base, f"/ws?ticket={late}").status == 401
    raced = ticket(seeker)
    opened = harness.together(*[lambda: upgrade(base, f"/ws?ticket={raced}").status] * 8)
    assert sorted(opened) == [101] + [401] * 7
    with Person(base) as leaving:
        held = ticket(leaving)
        leaving.post("/api/auth/logout", None, 204)
        assert upgrade(base, f"/ws?ticket={held}").status == 401


def test_the_first_credential_counts(base, seeker):
    """Header, subprotocol, ticket, token: a later one does not make up for a wrong one before it."""
    good, wrong, bought = seeker.token, "wrong", ticket(seeker)
    for status, target, headers in (
        (101, f"/ws?token={wrong}&ticket={wrong}", {"Authorization": f"Bearer {good}", "Sec_WebSocket_Protocol": f"bearer.{wrong}"}),
        (401, f"/ws?token={good}&ticket={bought}", {"Authorization": f"Bearer {wrong}", "Sec_WebSocket_Protocol": f"bearer.{good}"}),
        (101, f"/ws?token={wrong}&ticket={wrong}", {"Sec_WebSocket_Protocol": f"bearer.{good}"}),
        (401, f"/ws?token={good}&ticket={bought}", {"Sec_WebSocket_Protocol": f"bearer.{wrong}"}),
        (401, f"/ws?token={good}&ticket={wrong}", {}),
        (101, f"/ws?token={wrong}&ticket={bought}", {}),
    ):
        assert upgrade(base, target, **headers).status == status, (target, headers)


def test_nobody_gets_nothing(base, seeker, helper, meeting):
    """A socket without a caller: every frame but `authenticate` is refused, and after 5 s it ends."""
    began = time.monotonic()
    with Socket(base) as nobody, Socket(base, None, f"/ws/chat/{meeting.room}") as beside, meeting.joined(seeker) as member:
        for socket in (nobody, beside):
            socket.refused("join_room", "unauthenticated", room_id=meeting.room)
            socket.refused("watch_area", "unauthenticated", latitude=13.75, longitude=100.54, radius_km=50)
            socket.refused("send_message", "unauthenticated", room_id=meeting.room, content="x")
            socket.refused("authenticate", "validation_failed")
        meeting.say(helper, "not for everybody")
        assert member.message("not for everybody")["seq"] == member.joined["room"]["last_seq"] + 1
        helper.post("/api/gigs", harness.gig(), 201)
        for socket in (nobody, beside):
            socket.closed(4501)
            assert 5 <= time.monotonic() - began < slack(8)
            assert [frame["type"] for frame in socket.seen] == ["error"] * 4


OWN_ORIGINS = ["http://127.0.0.1:{port}", "https://127.0.0.1:{port}"]
LISTED_ORIGINS = ["https://app.hourz.test", "http://localhost:5173"]
FOREIGN_ORIGINS = [
    "https://evil.test", "null", "", "https://app.hourz.test.evil.test", "https://evilapp.hourz.test", "https://app.hourz.test:444",
    "https://app.hourz.test/", "http://app.hourz.test", "app.hourz.test", "https://app.hourz.test@evil.test", "http://localhost",
    "http://localhost:51730", "http://127.0.0.1", "http://127.0.0.1:1", "http://127.0.0.1:{port}.evil.test", "http://127.0.0.1:{port}/",
    "ws://127.0.0.1:{port}", "http://evil.test#127.0.0.1:{port}", "https://app.hourz.test, http://localhost:5173", "file://",
]  # fmt: skip


def test_origins():
    with harness.server(cors_origins=", ".join(LISTED_ORIGINS)) as own, Person(own.base) as person:
        def status(origin, **headers):
            return upgrade(own.base, Origin=origin.format(port=own.port), **headers).status

        caller = {"Authorization": f"Bearer {person.token}"}
        for origin in OWN_ORIGINS + LISTED_ORIGINS:
            assert status(origin) == status(origin, **caller) == 101, origin
        for origin in FOREIGN_ORIGINS:
            assert status(origin) == status(origin, **caller) == 403, origin
        assert upgrade(own.base, **caller).status == 101  # an app, which has none
        refused = upgrade(own.base, Origin="https://evil.test", **caller)
        assert refused.json["code"] == "foreign_origin"
        bought = ticket(person)
        assert upgrade(own.base, f"/ws?ticket={bought}", Origin="https://evil.test").status == 403
        assert upgrade(own.base, f"/ws?ticket={bought}").status == 101


def test_no_list_means_the_own_pages_alone(server, base):
    assert upgrade(base, Origin=f"http://127.0.0.1:{server.port}").status == 101
    assert upgrade(base, Origin="https://app.hourz.test").status == 403


# ---- the end of a session --------------------------------------------------------------------------------------------


def log_in_again(person):
    """Another session of the same person, on a connection of its own."""
    again = Client(person.base)
    pair = again.call("POST", "/api/auth/login", {"email": person.email, "password": PASSWORD}, 200).json
    again.token, again.refresh_token, again.id = pair["access_token"], pair["refresh_token"], person.id
    return again


def session_of(client):
    return next(one["id"] for one in client.get("/api/auth/sessions").json["sessions"] if one["is_current"])


ENDS = {
    "logout": lambda ended, kept: ended.post("/api/auth/logout", None, 204),
    "logout_by_delete": lambda ended, kept: ended.call("DELETE", "/api/auth/logout", status=204),
    "one": lambda ended, kept: kept.call("DELETE", f"/api/auth/sessions/{session_of(ended)}", status=204),
    "all_others": lambda ended, kept: kept.call("DELETE", "/api/auth/sessions", status={200, 204}),
    "password": lambda ended, kept: kept.put("/api/auth/password", {"current_password": PASSWORD, "new_password": PASSWORD + "!"}, 204),
    "theft": lambda ended, kept: steal(ended),
}  # fmt: skip


def steal(ended):
    old = ended.refresh_token
    for _ in range(2):
        fresh = ended.call("POST", "/api/auth/refresh", {"refresh_token": ended.refresh_token}, 200).json
        ended.refresh_token = fresh["refresh_token"]
    ended.call("POST", "/api/auth/refresh", {"refresh_token": fresh["refresh_token"]}, 200)
    ended.call("POST", "/api/auth/refresh", {"refresh_token": old}, 401)


@pytest.mark.parametrize("how", ENDS)
def test_an_ended_session_ends_its_sockets(base, how):
    with Person(base) as kept, log_in_again(kept) as ended, Person(base) as other:
        theirs = [Socket(base, ended.token), WAYS["ticket"](ended, "/ws"), WAYS["frame"](ended, "/ws")]
        with several(*theirs), Socket(base, kept.token) as stays, Socket(base, other.token) as unrelated:
            token = ended.token
            ENDS[how](ended, kept)
            done = time.monotonic()
            for socket in theirs:
                socket.closed(4503)
            assert time.monotonic() - done < slack(1)
            for socket in (stays, unrelated):
                socket.fence()
            assert upgrade(base, Authorization=f"Bearer {token}").status == 401
            with Socket(base) as late:
                late.refused("authenticate", "session_ended", access_token=token)
                late.closed(4501)


def test_a_socket_goes_with_the_session_of_its_last_token(base):
    with Person(base) as first, log_in_again(first) as second, Socket(base, first.token) as socket:
        assert socket.ask("authenticate", access_token=second.token)["connection_id"] == socket.ready["connection_id"]
        first.post("/api/auth/logout", None, 204)
        socket.fence()
        with Socket(base, second.token) as beside:
            second.post("/api/auth/logout", None, 204)
            beside.closed(4503)
            socket.closed(4503)


def test_somebody_elses_token_is_refused(base, seeker, stranger, meeting):
    with Socket(base, seeker.token) as socket:
        socket.refused("authenticate", "forbidden", access_token=stranger.token)
        socket.refused("authenticate", "token_invalid", access_token="x")
        socket.ask("join_room", room_id=meeting.room)


def test_a_token_that_ends_ends_its_socket(meeting):
    with harness.server(access_token_s=3) as own, Person(own.base) as person:
        began = time.monotonic()
        with several(Socket(own.base, person.token), Socket(own.base, person.token), WAYS["ticket"](person, "/ws")) as sockets:
            ending, going_on, by_ticket = sockets
            fresh = person.call("POST", "/api/auth/refresh", {"refresh_token": person.refresh_token}, 200).json
            wait_for(lambda: time.monotonic() - began > 1.5, "half of the token's time")
            fresh = person.call("POST", "/api/auth/refresh", {"refresh_token": fresh["refresh_token"]}, 200).json
            going_on.ask("authenticate", access_token=fresh["access_token"])
            for socket in (ending, by_ticket):
                socket.closed(4401)
            assert 2 < time.monotonic() - began < slack(6)
            going_on.fence()
            assert upgrade(own.base, Authorization=f"Bearer {person.token}").status == 401
            with Socket(own.base) as late:
                late.refused("authenticate", "token_expired", access_token=person.token)
                late.closed(4501)
            going_on.closed(4401)


def test_a_suspended_account_opens_none(server, base):
    with Person(base) as person:
        server.database().sql(f"UPDATE users SET suspended_at = now() WHERE id = '{person.id}'")
        caller = {"Authorization": f"Bearer {person.token}"}
        wait_for(lambda: upgrade(base, **caller).status != 101, "the server knows", 10)
        for target, headers in (("/ws", caller), (f"/ws?token={person.token}", {})):
            assert upgrade(base, target, **headers).json["code"] in ("account_suspended", "session_ended")
        with Socket(base) as socket:
            socket.send("authenticate", 1, access_token=person.token)
            assert socket.answer(1)["type"] == "error"
            socket.closed(4501)


def test_sockets_of_one_account_are_counted():
    with harness.server(sockets_per_user=2) as own, Person(own.base) as person, Person(own.base) as other:
        caller = {"Authorization": f"Bearer {person.token}"}
        with Socket(own.base, person.token) as first, authenticated(person):
            for target, headers in (("/ws", caller), (f"/ws?ticket={ticket(person)}", {}), (f"/ws?token={person.token}", {})):
                answer = upgrade(own.base, target, **headers)
                assert answer.status == 429 and answer.json["code"] == "too_many_sockets", answer
            with Socket(own.base) as third:
                third.refused("authenticate", "too_many_sockets", access_token=person.token)
                third.closed(4430)
            with Socket(own.base, other.token):
                pass
            first.ask("authenticate", access_token=person.token)  # has its place already
            first.close()

            def opens():
                with contextlib.suppress(Exception):
                    with Socket(own.base, person.token) as socket:
                        socket.fence()
                        return True

            wait_for(opens, "the place is free again")


def test_a_stop_is_told():
    with harness.server() as own, Person(own.base) as person:
        with Socket(own.base, person.token) as known, Socket(own.base) as nobody, Socket(own.base, person.token) as silent:
            own.process.send_signal(signal.SIGTERM)
            for socket in (known, nobody, silent):
                socket.closed(1001)
                assert socket.seen[-1]["type"] == "going_away" and socket.seen[-1]["data"]["resume_after_ms"] > 0
            with pytest.raises(OSError):
                Socket(own.base, person.token)
            assert own.stop() == 0


# ---- what the log keeps ----------------------------------------------------------------------------------------------


def test_no_secret_is_logged():
    with harness.server(log_level="debug") as own:
        with Person(own.base) as person:
            bought, unused = ticket(person), ticket(person)
            fake = secrets.token_hex(20)
            texts = [person.token, person.refresh_token, bought, unused, fake]
            for one in (person.token, bought, fake, person.refresh_token):
                for name in ("token", "ticket"):
                    upgrade(own.base, f"/ws?{name}={one}")
                    upgrade(own.base, f"/ws/?{name}={one}")
                    upgrade(own.base, f"/ws?{name}={one}", Origin="https://evil.test")
                    upgrade(own.base, f"/ws/chat/01890a5d-ac96-774b-bcce-b302099a8057?{name}={one}")
                    upgrade(own.base, f"/ws/nowhere?{name}={one}")
                    upgrade(own.base, f"/wsx?{name}={one}")
                    assert Raw(own.address()).ask("GET", f"/ws?{name}={one}")[0] == 400
                    Raw(own.address()).ask("GET", f"/ws?{name}={one}", Upgrade="websocket", Connection="Upgrade",
                                           Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==", Sec_WebSocket_Version="8")
                    Raw(own.address()).ask("POST", f"/ws?{name}={one}")
                upgrade(own.base, Sec_WebSocket_Protocol=f"hourz.v1, bearer.{one}")
                upgrade(own.base, Authorization=f"Bearer {one}")
                with Socket(own.base) as socket:
                    socket.send("authenticate", access_token=one)
                    socket.send_text('{"type": "authenticate", "data": {"access_token": "%s"' % one)
                    socket.send("authenticate", access_token=one, token=one)
                    socket.send("join_room", room_id=one)
                    wait_for(lambda: advance(socket, 4), "four answers")
        assert own.stop() == 0
        log = own.log()
        assert '"socket.opened"' in log and '"socket.refused"' in log
        for text in texts:
            assert text not in log
            for part in text.split("."):
                assert len(part) < 40 or part == texts[0].split(".")[0] or part not in log
        for line in log.splitlines():
            json.loads(line)


def advance(socket, count):
    """Whether so many frames have come, or the end."""
    try:
        socket.pump(time.monotonic() + 0.1)
    except TimeoutError:
        pass
    except Exception:
        return True
    return len(socket.seen) >= count
