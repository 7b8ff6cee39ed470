"""Limits as a client meets them: who is counted, that what is said of a quota is true, one count for two servers by a
Redis that dies, and what an answer carries when there was no request to speak of.
"""

import contextlib
import re
import shutil
import signal
import time
import uuid

import pytest

import harness
from harness import Client, Person, Raw, Server, scratch, slack, wait_for
from redis_server import Redis
from sockets import Socket, several
from wire import converse, connect, read_all, send, split_answers

LISTED = "https://app.hourz.test"


def log_in(client, forwarded=None, email=None, **headers):
    if forwarded:
        headers["X-Forwarded-For"] = forwarded
    body = {"email": email or f"{time.monotonic_ns()}@example.com", "password": "a guess"}
    return client.call("POST", "/api/auth/login", body, headers=headers).status


def test_addresses_are_believed_from_proxies_alone():
    """R02, A11."""
    with harness.server(rate_limit="on", trusted_proxies="127.0.0.0/8, 10.0.0.0/8") as own, Client(own.base) as client:
        for first, other, same in [("9.9.9.1", "9.9.9.2", "6.6.6.6, 9.9.9.1, 10.1.2.3"),
                                   ("2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:1:2:ffff::9")]:
            assert [log_in(client, first) for _ in range(6)] == [401] * 5 + [429]
            assert log_in(client, same) == 429 and log_in(client, other) == 401
        assert '"ip":"9.9.9.1"' in own.log() and '"ip":"2001:db8:1:2:ffff::9"' in own.log()
    with harness.server(rate_limit="on", trusted_proxies="10.0.0.0/8") as own, Client(own.base) as client:
        assert [log_in(client, f"9.9.9.{n}") for n in range(6)] == [401] * 5 + [429]
        assert "9.9.9." not in own.log()


def test_one_account_is_tried_a_hundred_times_an_hour_at_most():
    """A11: from any number of addresses; and its owner gets in once there is room."""
    with harness.server(rate_limit="on", trusted_proxies="127.0.0.1", rate_auth="1000", rate_account="20/100") as own:
        with Person(own.base) as owner, Client(own.base) as client:
            began = time.monotonic()
            statuses = [log_in(client, f"9.9.{n}.1", owner.email) for n in range(40)]
            came_back = (time.monotonic() - began) // 5 + 1
            assert statuses[:19] == [401] * 19 and statuses.count(401) <= 20 + came_back
            assert statuses.count(429) == 40 - statuses.count(401)
            body = {"email": owner.email, "password": harness.PASSWORD}
            wait_for(lambda: client.call("POST", "/api/auth/login", body).status == 200, "the owner logs in", slack(10), 0.2)


def test_what_is_said_of_a_quota_is_true():
    """R01."""
    with harness.server(rate_limit="on", rate_standard="4/8") as own, Person(own.base) as person:
        answers = [person.call("GET", "/api/users/me") for _ in range(6)]
        left = [answer.headers["ratelimit"] for answer in answers]
        assert all(answer.headers["ratelimit-policy"] == '"standard";q=4;w=8' for answer in answers)
        allowed = [answer for answer in answers if answer.status == 200]
        assert [f'r={len(allowed) - 1 - n};' in one.headers["ratelimit"] for n, one in enumerate(allowed)], left
        refused = answers[-1]
        wait_s = int(refused.headers["retry-after"])
        assert refused.status == 429 and refused.headers["ratelimit"] == f'"standard";r=0;t={wait_s}' and 1 <= wait_s <= 2
        began = time.monotonic()
        wait_for(lambda: person.call("GET", "/api/users/me").status == 200, "allowed again", 10, 0.05)
        assert time.monotonic() - began < wait_s + slack(0.3)


def test_joins_are_counted_by_the_account():
    """Each may read a thousand messages: more sockets are not more of them."""
    with harness.server(rate_limit="on", rate_standard="10/36000") as own, Person(own.base) as person:
        with several(Socket(own.base, person.token), Socket(own.base, person.token)) as (one, other):
            for n in range(8):
                (one, other)[n % 2].refused("join_room", "not_found", room_id=str(uuid.uuid4()))
            for socket in (one, other):
                socket.refused("join_room", "rate_limited", room_id=str(uuid.uuid4()))
                assert socket.ask("unwatch_area") is not None  # what costs little goes on
        with Person(own.base) as stranger, Socket(own.base, stranger.token) as socket:
            socket.refused("join_room", "not_found", room_id=str(uuid.uuid4()))


def test_broken_requests_are_dressed_too():
    """C02, C03, C05: what net refuses itself, and what is refused before an endpoint is known."""
    origin = f"Origin: {LISTED}\r\n".encode()
    with harness.server(cors_origins=LISTED, hsts_s=600, header_timeout_ms=500, max_connections=50) as own:
        def ask(data):
            return split_answers(read_all_of(own.address(), data))[0]

        def read_all_of(address, data):
            with connect(address) as peer:
                send(peer, data)
                return read_all(peer)

        cases = {400: b"GET / HTTP/1.1\r\n" + origin + b"\r\n", 414: b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n" + origin,
                 431: b"GET / HTTP/1.1\r\nHost: x\r\n" + origin + b"X: y\r\n" * 2000,
                 408: b"GET / HTTP/1.1\r\nHost: x\r\n" + origin,
                 411: b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + origin + b"\r\n",
                 417: b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: more\r\n" + origin + b"\r\n",
                 426: b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
                      b"Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" + origin + b"\r\n"}
        for status, data in cases.items():
            answer = ask(data)
            assert answer.status == status, (status, answer.status)
            fields = answer.headers
            assert fields["access-control-allow-origin"] == LISTED, status
            for name in ("x-content-type-options", "content-security-policy", "x-frame-options", "referrer-policy", "cache-control",
                         "cross-origin-resource-policy", "strict-transport-security", "permissions-policy"):
                assert name in fields, (status, name)
            assert "Origin" in fields["vary"] and "server" not in fields, status


def test_one_connection_too_many_is_told_so():
    with harness.server(max_connections=20) as own:
        with contextlib.ExitStack() as open_peers:
            for _ in range(20):
                peer = open_peers.enter_context(contextlib.closing(Raw(own.address())))
                assert peer.ask("GET", "/health/live")[0] == 200
            for _ in range(3):
                with connect(own.address()) as peer:
                    answer = split_answers(read_all(peer))[0]
                assert answer.status == 503 and answer.closes and int(answer.headers["retry-after"]) >= 1
                assert b'"code":"overloaded"' in answer.body
        wait_for(lambda: converse(own.address(), b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")[0].status == 200, "room again")


def test_a_server_that_counts_alone_says_so():
    for settings, says in (({"rate_limit": "on"}, 1), ({"rate_limit": "off"}, 0)):
        with harness.server(**settings) as own:
            assert own.stop() == 0
            assert own.log().count('"event":"rate_limit.alone"') == says, own.log()
            assert own.log().count("HOURZ_REDIS_URL is not set") == says


@contextlib.contextmanager
def two_servers_and_redis(**settings):
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with scratch() as folder:
        redis = Redis(folder)
        try:
            settings = {"redis_url": redis.url, "rate_limit": "on", **settings}
            with harness.server(**settings) as one:
                two = Server(f"{folder}/data", secret=one.secret(), **one.database().urls(), **settings)
                try:
                    for server in (one, two):
                        wait_for(lambda: '"event":"rate_limit.shared"' in server.log(), "the count is shared")
                    yield one, two, redis
                finally:
                    two.close()
        finally:
            redis.process.send_signal(signal.SIGCONT)
            redis.kill()


def test_two_servers_share_one_count():
    """A Redis that is dead, full or frozen is told of once, and nobody waits for it; nor has it to be started anew."""
    with two_servers_and_redis(rate_standard="40/4000", rate_auth="1000") as (one, two, redis):
        @contextlib.contextmanager
        def somebody():
            """Asks the servers by turns: every answer, and the longest time that one took."""
            with Person(one.base) as person, Client(one.base, person.token) as here, Client(two.base, person.token) as there:
                def ask(times, newly=False):
                    """`newly`: over new connections, so that every thread of the servers is asked."""
                    answers, longest_s = [], 0
                    for n in range(times):
                        client = (here, there)[n % 2]
                        if newly:
                            client.close()
                        began = time.monotonic()
                        answers.append(client.call("GET", "/api/users/me"))
                        longest_s = max(longest_s, time.monotonic() - began)
                    return answers, longest_s

                yield ask

        def said(event, times):
            for server in (one, two):
                wait_for(lambda: server.log().count(f'"event":"rate_limit.{event}"') == times, f"{event} for the time {times}")

        def alone(server):
            with Client(server.base) as client:
                shown = client.get("/metrics").text
            return [float(re.search(rf"^hourz_rate_limit_{name} (\S+)$", shown, re.M)[1]) for name in ("shared", "alone_total")]

        with somebody() as ask:
            answers, _ = ask(60)
            statuses = [answer.status for answer in answers]
            spent = 40 - statuses.count(200)  # by what made the person
            assert statuses == [200] * (40 - spent) + [429] * (20 + spent) and spent < 10
            left = [int(answer.headers["ratelimit"].split(";r=")[1].split(";")[0]) for answer in answers]
            assert left[: 40 - spent] == list(range(39 - spent, -1, -1))
            assert all(answer.headers["ratelimit-policy"] == '"standard";q=40;w=4000' for answer in answers)
            waits = {int(answer.headers["retry-after"]) for answer in answers[40 - spent :]}
            assert max(waits) <= 100 and min(waits) > 100 - slack(20), "one in a hundred seconds"
            assert alone(one)[0] >= 1 and alone(one)[1] == 0
        with somebody() as ask:
            redis.kill()
            said("alone", 1)
            assert alone(two)[0] == 0
            answers, longest_s = ask(60)
            assert [answer.status for answer in answers].count(200) >= 60 - 10, "each counts for itself"
            assert longest_s < slack(1) and alone(one)[1] >= 30
            redis.start()
            said("shared", 2)
            said("alone", 1)
            assert alone(one)[0] >= 1
        with somebody() as ask:
            assert redis.tell("CONFIG SET maxmemory 1")
            answers, longest_s = ask(16, newly=True)
            assert all(answer.status == 200 for answer in answers) and longest_s < slack(1)
            said("alone", 2)
            assert redis.tell("CONFIG SET maxmemory 0")
            said("shared", 3)
        with somebody() as ask:
            redis.process.send_signal(signal.SIGSTOP)
            answers, longest_s = ask(20)  # 50 ms the first, the others nothing
            assert all(answer.status == 200 for answer in answers) and longest_s < slack(1)
            assert alone(one)[1] > 30
            said("alone", 3)
            redis.process.send_signal(signal.SIGCONT)
            said("shared", 4)
            assert ask(2)[0][-1].status == 200


def test_many_at_once_over_two_servers_are_one_quota():
    with two_servers_and_redis(rate_standard="50/5000", rate_auth="1000") as (one, two, _):
        with Person(one.base) as person:
            def burst(base):
                with Client(base, person.token) as client:
                    return [client.call("GET", "/api/users/me").status for _ in range(20)]

            found = harness.together(*[lambda base=base: burst(base) for base in [one.base, two.base] * 4])
            allowed = sum(statuses.count(200) for statuses in found)
            assert 40 <= allowed <= 50, allowed
