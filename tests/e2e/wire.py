"""HTTP in raw bytes, for the tests beside it: writing requests, reading whole answers, and starting a probe.

`address` is the server named by the fixture `base` (or HOURZ_TEST_URL), else the probe; `probe` is the net_probe of
HOURZ_NET_PROBE, or the newest build/**/net_probe.
"""

import contextlib
import glob
import os
import re
import select
import signal
import socket
import subprocess
import time
from urllib.parse import urlsplit

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NEXT = b"GET /health/live HTTP/1.1\r\nHost: next\r\nConnection: close\r\n\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE_S = 20


# ---- reading and writing -------------------------------------------------------------------------------------------


def connect(address):
    peer = socket.create_connection(address, timeout=PATIENCE_S)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def send(peer, data):
    """Sends what the other side takes; it may close before the end."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        peer.sendall(data)


def read_all(peer):
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := peer.recv(65536):
            data += piece
    return bytes(data)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:80]!r}>"

    @property
    def closes(self):
        return self.headers.get("connection", "").lower() == "close"

    def without_clock(self):
        changing = {"date", "x-request-id", "ratelimit"}
        return self.status, {k: v for k, v in self.headers.items() if k not in changing}, self.body


def split_answers(data, heads=()):
    """All answers in `data`; `heads` holds the indices of those that answer HEAD. Fails on a cut or surplus byte."""
    answers, index = [], 0
    while data:
        head, found, data = data.partition(b"\r\n\r\n")
        assert found, f"cut in the head: {head!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Za-z -]*", first)
        assert match, f"no status line: {first!r}"
        status, headers = int(match[1]), {}
        for line in lines:
            name, colon, value = line.partition(": ")
            assert colon and name.lower() not in headers, line
            headers[name.lower()] = value
        length = int(headers.get("content-length", 0))
        if status == 100:
            answers.append(Answer(status, headers, b""))
            continue
        if index in heads or status in (204, 304):
            length = 0
        index += 1
        assert len(data) >= length, f"cut in the body of {first}"
        answers.append(Answer(status, headers, data[:length]))
        data = data[length:]
    return answers


def converse(address, data, heads=(), after=NEXT):
    with connect(address) as peer:
        send(peer, data + after)
        return split_answers(read_all(peer), heads)


def read_all_after_shutdown(peer):
    peer.shutdown(socket.SHUT_WR)
    return read_all(peer)


def wait_for(condition, what, seconds=PATIENCE_S):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        select.select([], [], [], 0.01)


# ---- the server ----------------------------------------------------------------------------------------------------


class Probe:
    """A net_probe of one's own; each limit by its variable, as idle_ms=300."""

    def __init__(self, *wrap, **limits):
        path = os.environ.get("HOURZ_NET_PROBE")
        if not path:
            built = sorted(glob.glob(f"{ROOT}/build/**/net_probe", recursive=True), key=os.path.getmtime)
            if not built:
                pytest.skip("net_probe is not built (HOURZ_NET_PROBE)")
            path = built[-1]
        with open(path, "rb") as program:
            symbols = program.read()
        self.sanitized = b"__asan_init" in symbols or b"__tsan_init" in symbols
        # UBSan looks at memory through a pipe, and takes having no descriptor for one as a fault.
        self.needs_descriptors = b"__ubsan_handle_dynamic_type" in symbols
        environment = dict(os.environ, **{f"PROBE_{k.upper()}": str(v) for k, v in limits.items()})
        self.process = subprocess.Popen(
            [*wrap, path], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        line = self.process.stdout.readline()
        assert line.startswith("port "), line + self.process.stdout.read()
        self.address = ("127.0.0.1", int(line.split()[1]))
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            out, _ = self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert self.process.returncode == 0, out
        assert out.count("drained") == 1, out
        self.left = int(re.search(r"left=(\d+)", out)[1])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory_kib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])

    def processor_s(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def probe():
    with Probe() as running:
        yield running


@pytest.fixture(scope="module")
def address(request):
    url = os.environ.get("HOURZ_TEST_URL")
    if not url:
        try:
            url = request.getfixturevalue("base")
        except pytest.FixtureLookupError:
            return request.getfixturevalue("probe").address
    parts = urlsplit(url)
    return parts.hostname, parts.port


def get(target="/health/live", *fields, method="GET", version="1.1", host="Host: x"):
    lines = [f"{method} {target} HTTP/{version}", *([host] if host else []), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(*fields, body=b"", version="1.1", target="/api/auth/login"):
    return get(target, "Content-Type: application/json", *fields, method="POST", version=version) + body


TE = "Transfer-Encoding: chunked"


class Barrier:
    """Requests on a few connections, spread over the shards: once answered, earlier bytes have been read."""

    def __init__(self, address):
        self.peers = [connect(address) for _ in range(4)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for peer in self.peers:
            peer.close()

    def pass_through(self):
        for peer in self.peers:
            send(peer, LIVE)
        for peer in self.peers:
            data = b""
            while b"\r\n\r\n" not in data:
                data += peer.recv(65536)
