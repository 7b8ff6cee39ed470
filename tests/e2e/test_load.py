"""Costly work and crowds beside everyday reads: what is costly waits in its own queue, what is everyday does not."""

import time

import pytest

import harness
from harness import PASSWORD, Client, Person, Raw, children_of, gig, quantile, slack, wait_for
from loads import Load
from wire import connect, send


class Reader(Load):
    """Reads a gig at a steady pace, each timed from when it is sent: what this busy process itself is late by is not
    the server's. `./dev bench` has a loader of its own and counts from when a read was due."""

    def __init__(self, base, token, target, pace_s=0.004):
        super().__init__()
        self.base, self.token, self.target, self.pace_s = base, token, target, pace_s
        self.times = []

    def run(self, n):
        due = time.monotonic() + self.pace_s
        with Client(self.base, self.token, check=False) as client:
            while not self.over.wait(max(0.0, due - time.monotonic())):
                due += self.pace_s
                sent = time.monotonic()
                client.call("GET", self.target, status=200)
                self.times.append(time.monotonic() - sent)

    def p99(self, enough=150):
        """Of the next reads."""
        start = len(self.times)
        wait_for(lambda: len(self.times) >= start + enough, "enough reads", 60)
        return quantile(self.times[start:], 0.99)


def memory_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_hundred_logins_beside_reads(server):
    """R04. Each login is a real one: m = 19 MiB, t = 2. Whatever else runs on this machine can only make it look worse,
    so the best of a few rounds counts; and of three milliseconds the scheduler alone may be the cause. A sanitizer makes
    the hash and the reads slower by different factors, so that their times say nothing: under one, a single round holds
    the statuses alone."""
    bound_s, rounds = 0.003, []
    end = time.monotonic() + 90
    with Person(server.base) as reading:
        one = reading.post("/api/gigs", gig(), 201).json["id"]
        with Reader(server.base, reading.token, f"/api/gigs/{one}") as reader:
            reader.p99()
            for _ in range(8):
                with Person(server.base) as person:
                    body = {"email": person.email, "password": PASSWORD}
                before, memory = reader.p99(300), memory_kib(server.pid)
                logins = [Raw(server.address()).send("POST", "/api/auth/login", body) for _ in range(100)]
                began, start = time.monotonic(), len(reader.times)
                statuses = [peer.read()[0] for peer in logins]
                took, during = time.monotonic() - began, reader.times[start:]
                after = quantile(during, 0.99)
                rounds.append(
                    f"p99 of reads {before * 1000:.1f} ms, {after * 1000:.1f} ms beside 100 logins ({len(during)} reads), "
                    f"{100 / took:.0f} logins/s, memory +{memory_kib(server.pid) - memory} KiB")
                assert set(statuses) == {200} and len(during) > 50
                assert harness.sanitized() or memory_kib(server.pid) - memory < 2 * 19456 + 16 * 1024
                if harness.sanitized() or after < max(2 * before, bound_s) or time.monotonic() > end:
                    break
    print(rounds[-1])
    assert harness.sanitized() or after < max(2 * before, bound_s), rounds


def test_more_logins_than_the_queue_are_refused_quickly(server):
    with harness.server(hash_queue=8, hash_threads=1) as own:
        with Person(own.base) as person:
            body = {"email": person.email, "password": PASSWORD}
        logins = [Raw(own.address()) for _ in range(60)]
        for peer in logins:
            peer.send("POST", "/api/auth/login", body)
        answers = [peer.read() for peer in logins]
        statuses = [status for status, _, _ in answers]
        assert set(statuses) == {200, 503} and statuses.count(200) >= 8
        assert all(b"\r\nRetry-After: " in head for status, head, _ in answers if status == 503)
        with Client(own.base) as client:
            client.call("POST", "/api/auth/login", body, 200)


def test_out_of_descriptors():
    """R06, D6: 128 descriptors, 500 peers; those who are served go on being served, and all is well afterwards."""
    if harness.sanitized():
        pytest.skip("the sanitizer's check of virtual tables opens a pipe, and ends the server when it cannot")
    with harness.server(wrap=["prlimit", "--nofile=160"], pool_connections=4, read_connections=1) as own:
        with Person(own.base) as known:
            one = known.post("/api/gigs", gig(), 201).json["id"]
            crowd = []
            for _ in range(500):
                peer = harness.socket.socket()
                peer.setblocking(False)
                peer.connect_ex(own.address())
                crowd.append(peer)
            wait_for(lambda: own.descriptors() >= 155, "all descriptors are taken")
            began, used = time.monotonic(), own.processor_s()
            while (passed := time.monotonic() - began) < 2:
                known.get(f"/api/gigs/{one}")
                harness.select.select([], [], [], 0.05)
            assert (own.processor_s() - used) / passed < slack(0.25), "spins"
            for peer in crowd:
                peer.close()
            began = time.monotonic()
            with Client(own.base) as client:
                client.get("/health/ready")
            assert time.monotonic() - began < slack(2)
            known.get(f"/api/gigs/{one}")
            known.post("/api/gigs", gig(), 201)
            assert own.postmaster() and children_of(own.pid)


def test_slow_peers_are_cut_and_hold_nobody_up():
    """R05, D7: a thousand heads, bodies and readers that never end, by total time; beside them a probe."""
    with harness.server(header_timeout_ms=1500, body_timeout_ms=1500, write_timeout_ms=1500, idle_timeout_ms=1500) as own:
        baseline = own.descriptors()
        peers = [connect(own.address()) for _ in range(1000)]
        starts = [b"GET /health/live HTTP/1.1\r\nHost: x\r\n",
                  b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{",
                  b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 30]
        for n, peer in enumerate(peers):
            peer.setsockopt(harness.socket.SOL_SOCKET, harness.socket.SO_RCVBUF, 4096)
            send(peer, starts[n % 3])
        times, sent = [], 0
        with Client(own.base) as probe:
            began = time.monotonic()
            while own.descriptors() > baseline + 2:
                assert time.monotonic() - began < slack(20), "not cut"
                asked = time.monotonic()
                probe.get("/health/live")
                times.append(time.monotonic() - asked)
                for peer in peers[sent % 100 :: 100]:
                    if sent % 300 < 200:
                        send(peer, b"X")
                sent += 1
                harness.select.select([], [], [], 0.01)
        print(f"probe p99 {quantile(times, 0.99) * 1000:.1f} ms; all cut after {time.monotonic() - began:.1f} s")
        assert quantile(times, 0.99) < slack(0.1)
        for peer in peers:
            peer.close()


@pytest.mark.skipif(harness.shutil.which("promtool") is None, reason="promtool is not installed")
def test_metrics_as_prometheus_wants_them(server):
    with Person(server.base) as person:
        person.post("/api/gigs", gig(), 201)
        metrics = person.get("/metrics").text
    checked = harness.subprocess.run(["promtool", "check", "metrics"], input=metrics, capture_output=True, text=True)
    assert checked.returncode == 0 and not checked.stderr, checked
    for name in ("hourz_http_requests_total", "hourz_http_request_duration_seconds_bucket", "hourz_db_connections",
                 "hourz_db_statement_duration_seconds_bucket"):
        assert f"\n{name}{{" in metrics or f"\n{name} " in metrics, name
    assert 'endpoint="gigs.create",status="201"' in metrics
    ids = harness.re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-", metrics)
    assert not ids, "an id as a label grows without bound"
