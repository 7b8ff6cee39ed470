"""Peers that send for ever, slowly, or not at all, read nothing, vanish, or come in crowds; and the end of a server.

Against probes of their own, with limits short enough to be waited for.
"""

import select
import signal
import socket
import struct
import threading
import time

import pytest

from wire import LIVE, PATIENCE_S, TE, Barrier, Probe, connect, converse, get, post, read_all, send, split_answers
from wire import wait_for
from wire import probe  # noqa: F401 (a fixture)

def pour(peer, piece, total):
    """Sends up to `total` bytes; how many the other side let us."""
    sent = 0
    peer.settimeout(5)
    try:
        while sent < total:
            sent += peer.send(piece)
    except (BrokenPipeError, ConnectionResetError, TimeoutError):
        pass
    return sent


def test_endless_senders_cost_no_memory(probe):
    """T05, D8."""
    total, piece = 64 << 20, b"a" * 65536
    converse(probe.address, LIVE)
    before = probe.memory_kib()
    starts = {
        "trailers": post(TE, body=b"0\r\n"),
        "chunk extension": post(TE, body=b"5;"),
        "chunks": post(TE, body=b"ffffffff\r\n"),
        "field": LIVE[:-2] + b"X: ",
        "target": b"GET /",
        "method": b"G",
        "body": post("Content-Length: 67108864", target="/echo"),
        "refused body": post("Content-Length: 60000", target="/api/gigs"),
    }
    for what, start in starts.items():
        with connect(probe.address) as peer:
            send(peer, start)
            sent = pour(peer, piece, total)
        assert sent < 16 << 20, f"{what}: took {sent} bytes"  # the kernel's own buffers hold some MiB
    allowed_kib = 40_000 if probe.sanitized else 2048
    assert probe.memory_kib() - before < allowed_kib


def test_promised_bodies_cost_no_memory(probe):
    """Memory for a body comes with its bytes, not with its Content-Length."""
    peers = [connect(probe.address) for _ in range(300)]
    with Barrier(probe.address) as barrier:
        barrier.pass_through()
    before = probe.memory_kib()
    for peer in peers:
        send(peer, post("Content-Length: 65536", target="/echo"))
    with Barrier(probe.address) as barrier:
        barrier.pass_through()
    grown = probe.memory_kib() - before
    for peer in peers:
        peer.close()
    assert probe.sanitized or grown < 300 * 32


def slow_statuses(own, start, piece, pace_s=0.05, limit_s=6.0):
    """Sends `start`, then `piece` again and again, until the server ends it; its answers and how long it took."""
    began, data = time.monotonic(), b""
    with connect(own.address) as peer:
        send(peer, start)
        while True:
            assert time.monotonic() - began < limit_s, "never cut"
            if select.select([peer], [], [], pace_s)[0]:
                try:
                    piece_in = peer.recv(65536)
                except ConnectionResetError:
                    break
                if not piece_in:
                    break
                data += piece_in
            else:
                send(peer, piece)
    return [a.status for a in split_answers(data)], time.monotonic() - began


@pytest.fixture(scope="module")
def hasty():
    with Probe(idle_ms=400, header_ms=600, body_ms=600, write_ms=600) as running:
        yield running


@pytest.mark.parametrize(
    "start,piece,statuses",
    [
        (b"", b"", []),
        (LIVE, b"", [200]),
        (b"G", b"", [408]),
        (b"G", b"E", [408]),
        (LIVE[:-2], b"A: b\r\n", [408]),
        (LIVE + b"GET /", b"a", [200, 408]),
        (post("Content-Length: 5000", target="/echo"), b"a", [408]),
        (post("Content-Length: 5000", target="/echo"), b"", [408]),
    ],
    ids=["silent", "idle", "one_byte", "slow_line", "slow_fields", "slow_second", "slow_body", "no_body"],
)
def test_slow_sender_is_cut_by_total_time(hasty, start, piece, statuses):
    """R05, T14: no byte that arrives moves the limit."""
    seen, seconds = slow_statuses(hasty, start, piece)
    assert seen == statuses
    assert 0.3 < seconds < 3.5  # the limit, and up to a second of lingering


def test_slow_reader_is_cut():
    with Probe(write_ms=600) as own:
        baseline = own.descriptors()  # before the first connection
        peers = [connect(own.address) for _ in range(10)]
        for peer in peers:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            send(peer, get("/big"))
        wait_for(lambda: own.descriptors() >= baseline + 10, "the connections are open")
        wait_for(lambda: own.descriptors() < baseline + 5, "the connections are cut", 5)
        for peer in peers:
            peer.close()


def test_slow_reader_who_goes_on_reading_gets_it_all():
    """The limit is for each 256 KiB: a large answer over a slow line takes longer than that, and is not cut."""
    with Probe(write_ms=600) as own, connect(own.address) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        send(peer, get("/big", "Connection: close"))
        began, taken = time.monotonic(), 0
        while piece := peer.recv(128 * 1024):
            taken += len(piece)
            while time.monotonic() < began + taken / (1.5 * 1024 * 1024):
                select.select([], [], [], 0.01)
        assert taken > 8 << 20 and time.monotonic() - began > 4


def test_many_slow_peers_do_not_hold_up_others():
    """D7: 500 peers that send a byte now and then; another is served as ever."""
    with Probe(header_ms=1500) as own:
        baseline = own.descriptors()
        peers = [connect(own.address) for _ in range(500)]
        times = []
        for turn in range(20):
            for peer in peers:
                send(peer, b"G" if turn == 0 else b"E")
            began = time.monotonic()
            assert converse(own.address, LIVE)[0].status == 200
            times.append(time.monotonic() - began)
        wait_for(lambda: own.descriptors() <= baseline, "all of them are cut", 10)
        assert sorted(times)[-2] < 0.5
        for peer in peers:
            peer.close()


def test_requests_per_connection():
    with Probe(requests=5) as own:
        answers = converse(own.address, LIVE * 10)
    assert [a.status for a in answers] == [200] * 5 and [a.closes for a in answers] == [False] * 4 + [True]


def test_connection_cap():
    with Probe(connections=10) as own:
        peers = [connect(own.address) for _ in range(10)]
        for peer in peers:
            send(peer, LIVE)
            assert peer.recv(12) == b"HTTP/1.1 200"
        with connect(own.address) as one_more:
            told = split_answers(read_all(one_more))[0]
            assert told.status == 503 and told.closes
        for peer in peers:
            peer.close()
        wait_for(lambda: [a.status for a in converse(own.address, b"")] == [200], "there is room again")


def test_vanishing_peers_leave_nothing():
    with Probe() as own:
        converse(own.address, LIVE)
        baseline = own.descriptors()
        starts = [b"", b"GET", LIVE, LIVE * 40, post("Content-Length: 5000", body=b"a", target="/echo"), get("/big"),
                  get("/slow?ms=50"), get("/nowhere", TE)]
        for _ in range(20):
            for start in starts:
                peer = connect(own.address)
                send(peer, start)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.close()  # a reset
        wait_for(lambda: own.descriptors() <= baseline, "descriptors are back at the start")
        assert converse(own.address, LIVE)[0].status == 200


def test_out_of_descriptors():
    """R06, D6: 128 descriptors and 500 peers."""
    with Probe("prlimit", "--nofile=128") as own:
        if own.needs_descriptors:
            pytest.skip("built with -fsanitize=vptr, which needs descriptors itself")
        with connect(own.address) as known:
            def served():
                send(known, LIVE)
                return known.recv(65536).startswith(b"HTTP/1.1 200")

            assert served()
            crowd = []
            for _ in range(500):
                peer = socket.socket()
                peer.setblocking(False)
                peer.connect_ex(own.address)
                crowd.append(peer)
            wait_for(lambda: own.descriptors() >= 128, "all descriptors are taken")
            began, used = time.monotonic(), own.processor_s()
            while (passed := time.monotonic() - began) < 2:
                assert served()
                select.select([known], [], [], 0.05)
            assert (own.processor_s() - used) / passed < 0.2
            for peer in crowd:
                peer.close()
            began = time.monotonic()
            assert [a.status for a in converse(own.address, b"")] == [200]
            assert time.monotonic() - began < 2
            assert served()


# ---- the end -------------------------------------------------------------------------------------------------------


def stop(own):
    own.process.send_signal(signal.SIGTERM)
    return time.monotonic()


def test_drain_answers_what_is_in_flight():
    """S01, S02."""
    with Probe(drain_ms=8000) as own:
        idle, busy = connect(own.address), connect(own.address)
        send(idle, LIVE)
        idle.recv(65536)
        send(busy, get("/slow?ms=1000") + LIVE)
        with Barrier(own.address) as barrier:
            barrier.pass_through()
        began = stop(own)
        assert read_all(idle) == b"" and time.monotonic() - began < 0.8
        with pytest.raises(ConnectionRefusedError):
            connect(own.address)
        (answer,) = split_answers(read_all(busy))
        assert answer.status == 200 and answer.closes
        busy.close()
        own.process.wait(timeout=5)
        assert time.monotonic() - began < 4


STALLED = [b"GET", post("Content-Length: 50", target="/echo"), get("/big"), get("/nowhere", TE)]


@pytest.mark.parametrize("starts,left", [(STALLED, 0), ([*STALLED, get("/slow?ms=60000")], 1)], ids=["peers", "handler"])
def test_drain_ends_at_its_deadline(starts, left):
    """S03: peers that stall, or do not read, and a handler that hangs, do not hold it up; the port is free at once."""
    with Probe(drain_ms=700) as own:
        stalled = [connect(own.address) for _ in starts]
        for peer, data in zip(stalled, starts):
            send(peer, data)
        with Barrier(own.address) as barrier:
            barrier.pass_through()
        began = stop(own)
        own.process.wait(timeout=5)
        assert 0.5 < time.monotonic() - began < 2.5
        with Probe(port=own.address[1]) as again:
            assert converse(again.address, LIVE)[0].status == 200
        for peer in stalled:
            peer.close()
    assert own.left == left  # all others were closed by the server, not by its end


def test_drain_under_load_cuts_no_answer():
    """S01: each peer sees whole answers, then the end."""
    with Probe() as own:
        wrong, done = [], []
        warm = threading.Barrier(9)

        def client():
            count = 0
            try:
                while True:
                    with connect(own.address) as peer:
                        for _ in range(100):
                            send(peer, get("/echo", "Content-Length: 3", method="POST") + b"abc")
                            data = b""
                            while not data.endswith(b"\r\n\r\nabc"):
                                piece = peer.recv(65536)
                                if not piece:
                                    if data:
                                        wrong.append(data)
                                    break
                                data += piece
                            if not data:
                                break
                            count += 1
                            if count == 50:
                                warm.wait()
            except ConnectionRefusedError:
                done.append(count)
            except ConnectionResetError:
                done.append(count)  # a connection the kernel had taken but the server had not

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        warm.wait(timeout=PATIENCE_S)
        stop(own)
        for thread in threads:
            thread.join(timeout=PATIENCE_S)
        assert not wrong and len(done) == 8
