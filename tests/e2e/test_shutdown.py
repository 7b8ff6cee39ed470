"""The end of a server: what is in flight is answered, nothing holds it up for long, and its port and data are free."""

import collections
import contextlib
import json
import os
import resource
import signal
import socket
import struct
import threading
import time

import pytest

import harness
from harness import Client, Person, Raw, Server, family_of, gig, is_running, scratch, signal_all, slack, wait_for
from wire import Barrier, connect, post, send
from ws_wire import Socket, close


@pytest.fixture
def own():
    with harness.server() as running:
        yield running


@pytest.fixture
def own_folder():
    with scratch() as folder:
        yield folder


def stop_in_background(server, number=signal.SIGTERM):
    server.process.send_signal(number)
    return time.monotonic()


def port_is_free(port):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
    return True


def is_settled(server):
    """All that it started has ended."""
    return not is_running(server.pid) and server.postmaster() == 0


def test_terminated_under_load(own):
    """S01: every answer is whole, every acknowledged gig is there, exit 0."""
    with Person(own.base) as seeker:
        token = seeker.token
    warm, cut, odd, acknowledged, ends = threading.Barrier(9), [], [], [], []

    def write():
        peer = Raw(own.address(), token)
        count = 0
        try:
            while True:
                status, head, body = peer.ask("POST", "/api/gigs", gig(title=f"Under load {count}"))
                count += 1
                if status == 201:
                    acknowledged.append(body)
                elif status != 503:
                    odd.append((status, body))
                if count == 30:
                    warm.wait()
                if b"\r\nConnection: close" in head:
                    ends.append("told")
                    return
        except AssertionError as half:
            cut.append(half)
        except (EOFError, ConnectionError):
            ends.append("closed")  # between two answers, or before our request was read
        finally:
            peer.close()

    writers = [threading.Thread(target=write) for _ in range(8)]
    for thread in writers:
        thread.start()
    warm.wait(timeout=30)
    postmaster = own.postmaster()
    began = stop_in_background(own)
    for thread in writers:
        thread.join()
    assert own.stop() == 0 and time.monotonic() - began < slack(10)
    assert not cut and not odd, (cut, odd)
    assert len(ends) == 8 and port_is_free(own.port)
    assert not is_running(postmaster)
    own.start()
    stored = int(own.database().sql("SELECT count(*) FROM gigs WHERE title LIKE 'Under load %'")[0][0])
    assert len(acknowledged) <= stored <= len(acknowledged) + 8
    print(f"{len(acknowledged)} acknowledged, {stored} stored; ends: {ends}")


def test_not_ready_while_draining(own):
    """A request in flight holds the drain open; meanwhile nothing new is taken."""
    idle = Raw(own.address())
    assert idle.ask("GET", "/health/live")[0] == 200
    busy = connect(own.address())
    send(busy, post("Content-Length: 60", body=b"{"))
    wait_for(lambda: Raw(own.address()).ask("GET", "/health/live")[0] == 200, "its head was read")
    began = stop_in_background(own)
    with pytest.raises((EOFError, ConnectionError)):
        while True:
            idle.ask("GET", "/health/live")
    with pytest.raises(ConnectionError):
        while True:
            connect(own.address()).close()
    assert is_running(own.pid), "still waits for the request in flight"
    send(busy, b'"email": "a@example.com", "password": "no such person"'.ljust(58) + b"}")
    status, head, _ = Raw.read(holding(busy))
    assert status in (401, 422) and b"\r\nConnection: close" in head
    assert own.stop() == 0 and time.monotonic() - began < slack(10)


def holding(peer):
    """A connection that was opened in another way, read as a Raw."""
    raw = Raw.__new__(Raw)
    raw.peer, raw.rest = peer, b""
    return raw


def test_a_thousand_sockets_are_told():
    """S02: each hears `going_away` and 1001 within 5 s, and when to come back: not all at once."""
    count, people = (200, 4) if harness.sanitized() else (1000, 10)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))  # the server inherits it
    with harness.server(sockets_per_user=count // people) as own, contextlib.ExitStack() as stack:
        tokens = [stack.enter_context(Person(own.base)).token for _ in range(people)]
        peers = [stack.enter_context(Socket(own.address(), "/ws", f"Authorization: Bearer {tokens[n % people]}"))
                 for n in range(count)]
        for peer in peers:
            assert json.loads(peer.expect("text"))["type"] == "ready"
        began = stop_in_background(own)
        told, pauses_ms = collections.Counter(), []
        for peer in peers:
            heard = []
            while not heard or isinstance(heard[-1], str):
                kind, payload = peer.read()
                if kind == "text":
                    frame = json.loads(payload)
                    heard.append(frame["type"])
                    pauses_ms.append(frame["data"]["resume_after_ms"])
                elif kind == "close":
                    heard.append(struct.unpack(">H", payload[:2])[0])
            told[tuple(heard)] += 1
            with contextlib.suppress(ConnectionError):  # it need not wait for the last of us to have read it
                peer.peer.sendall(close(1001))
        seconds = time.monotonic() - began
        print(f"{count} sockets were told within {seconds:.2f} s; to come back after {min(pauses_ms)} to {max(pauses_ms)} ms")
        assert told == {("going_away", 1001): count}
        assert seconds < slack(5)
        assert len(set(pauses_ms)) > count / 10, "they would all come at once"
        assert own.stop() == 0 and time.monotonic() - began < slack(10)


def test_second_signal_ends_at_once(own):
    stalled = [connect(own.address()) for _ in range(5)]
    for peer in stalled:
        send(peer, post("Content-Length: 60", body=b"{"))
    wait_for(lambda: Raw(own.address()).ask("GET", "/health/live")[0] == 200, "they are connected")
    own.process.send_signal(signal.SIGTERM)
    wait_for(lambda: '"event":"server.draining"' in own.log(), "draining", 5)
    began = time.monotonic()
    own.process.send_signal(signal.SIGTERM)
    assert own.process.wait(10) == 0 and time.monotonic() - began < slack(3)
    assert is_settled(own) and port_is_free(own.port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_server_ends_quickly(own, number):
    began = stop_in_background(own, number)
    assert own.process.wait(10) == 0 and time.monotonic() - began < slack(4)
    assert is_settled(own)


def test_stuck_database_and_stalled_peers_do_not_hold_it_up(own):
    """S03: PostgreSQL is frozen, and 200 peers stall in the middle of a request."""
    with Person(own.base) as person:
        token = person.token
    postmaster = own.postmaster()
    signal_all(family_of(postmaster), signal.SIGSTOP)
    peers = [connect(own.address()) for _ in range(200)]
    for n, peer in enumerate(peers):
        send(peer, (b"GET /health", post("Content-Length: 60", body=b"{"))[n % 2])
    waiting = [Raw(own.address(), token).send("GET", "/api/users/me") for _ in range(20)]
    with Barrier(own.address()) as barrier:
        barrier.pass_through()
    began = stop_in_background(own)
    assert own.process.wait(15) == 0
    seconds = time.monotonic() - began
    print(f"ended after {seconds:.2f} s")
    assert seconds < slack(10)
    assert is_settled(own) and port_is_free(own.port) and not is_running(postmaster)
    for peer in waiting:
        assert peer.read()[0] == 503  # answered at the deadline, whole
    own.start()
    with Client(own.base, token) as client:
        client.get("/api/users/me")
    for peer in peers:
        peer.close()


def test_killed_database_processes_leave_nothing(own):
    """PostgreSQL's family is killed outright: the server lives, starts it again, and ends well."""
    family = family_of(own.postmaster())
    signal_all(family, signal.SIGKILL)
    wait_for(lambda: own.postmaster() not in (0, family[0]), "a new postmaster", 10)
    with Client(own.base) as client:
        wait_for(lambda: client.call("GET", "/health/ready").status == 200, "ready", 20)
    assert own.stop() == 0


def test_terminated_while_the_database_is_not_there():
    with scratch() as folder:
        running = Server(f"{folder}/data", wait_ready=False, secret="r4nd0m" * 8,
                         database_url=f"host={folder} user=nobody dbname=none")
        try:
            began = stop_in_background(running)
            assert running.process.wait(10) == 0 and time.monotonic() - began < slack(3)
        finally:
            running.close()


def test_a_log_that_nobody_reads(own_folder):
    """Its reader stands still: requests are answered all the same, lines wait, and the end waits for them for a second."""
    path = f"{own_folder}/log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        server = Server(f"{own_folder}/data", log=path)
        try:
            with Person(server.base) as person:
                for _ in range(500):  # more lines than a pipe holds
                    person.get("/api/users/me")
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < slack(10)
        finally:
            server.close()
    finally:
        os.close(reader)
