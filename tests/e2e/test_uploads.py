"""Uploads over real sockets: framing, memory, disks that are full, clients that go, servers that are killed."""

import contextlib
import hashlib
import os
import random
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import threading
import uuid
import zlib

import pytest
from harness import Client, Person, children_of, family_of, gig, is_running, run_as, sanitized, server as new_server, slack, together, wait_for
from loads import Load
from pictures import BOUNDARY, TYPE, chunk, form, png, upload

MIB = 1024 * 1024


def bomb(side):
    """One bit a pixel."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(side // 8 + 2)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def largest():
    """Of what is taken that which costs most memory: a WebP with alpha, as wide and with as many pixels as may be, all of
    one colour, which takes no bit a pixel, and so heavy by what is appended."""
    bits, at = 0, 0
    # Size, alpha, version; no transform, colour cache or meta codes; five codes of one symbol: green to alpha, distance.
    for value, width in ((16_383 - 1, 14), (40_000_000 // 16_383 - 1, 14), (1, 1), (0, 3), (0, 3),
                         *((0b101 | symbol << 3, 11) for symbol in (90, 120, 30, 128)), (0b0001, 4)):
        bits, at = bits | value << at, at + width
    picture = b"\x2f" + bits.to_bytes(20, "little")
    pieces = b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
                      for kind, data in ((b"VP8L", picture), (b"JUNK", bytes(10 * MIB - 8192))))
    return b"RIFF" + struct.pack("<I", 4 + len(pieces)) + b"WEBP" + pieces


def rss_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


class Peak(Load):
    """The most memory that a server and its processes but PostgreSQL's had at a time."""

    def __init__(self, server):
        super().__init__()
        self.server, self.mib = server, 0

    def run(self, n):
        others = set(family_of(self.server.postmaster()))
        while not self.over.wait(0.02):
            others.update(child for pid in tuple(others) for child in children_of(pid))
            total = 0
            for pid in set(family_of(self.server.pid)) - others:
                with contextlib.suppress(OSError, StopIteration):  # it has ended
                    total += rss_mib(pid)
            self.mib = max(self.mib, total)


def files_of(folder):
    return sorted(
        os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if name != "lock")


@contextlib.contextmanager
def connection(server):
    with socket.create_connection(server.address(), timeout=slack(20)) as peer:
        yield peer


def head(token, length, category="gig", **fields):
    lines = [f"POST /api/upload/{category} HTTP/1.1", "Host: hourz", f"Content-Type: {TYPE}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if length is not None:
        lines.append(f"Content-Length: {length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def until_closed(peer):
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := peer.recv(65536):
            data += piece
    return data


@pytest.fixture(scope="module")
def server():
    with new_server(upload_quota_files=5000, upload_quota_mb=5000) as running:
        yield running


# ---- what is decided from the head ---------------------------------------------------------------------------------


def test_everything_is_decided_from_the_head(server):
    """T09, T10: no byte of a body is asked for that will not be taken."""
    someone = Person(server.base)
    body = form(png(8, 8))
    for token, length, fields, status in [
        ("", len(body), {}, b"401"),
        (someone.token, 20 * MIB, {}, b"413"),
        (someone.token, None, {}, b"411"),
        (someone.token, None, {"Transfer_Encoding": "chunked"}, (b"411", b"501", b"400")),
    ]:
        for expect in ({}, {"Expect": "100-continue"}):
            with connection(server) as peer:
                peer.sendall(head(token, length, Connection="close", **fields, **expect))
                answer = until_closed(peer)
                assert answer[9:12] in status if isinstance(status, tuple) else answer[9:12] == status, answer[:200]
                assert b"100 Continue" not in answer
    with connection(server) as peer:
        peer.sendall(head(someone.token, len(body), Expect="100-continue"))
        assert peer.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.sendall(body)
        assert peer.recv(100).startswith(b"HTTP/1.1 201 ")
    with connection(server) as peer:  # a form that says it is none
        peer.sendall(head(someone.token, len(body)).replace(b"multipart/form-data", b"application/json"))
        assert until_closed(peer).startswith(b"HTTP/1.1 415 ")


def test_two_uploads_on_one_connection(server):
    someone = Person(server.base)
    body = form(png(8, 8))
    with connection(server) as peer:
        peer.sendall(2 * (head(someone.token, len(body)) + body))
        data = b""
        while data.count(b"HTTP/1.1 201 ") < 2:
            piece = peer.recv(65536)
            assert piece, data
            data += piece


def test_a_body_in_drops(server):
    """U05: the boundary is met however packets cut it."""
    someone = Person(server.base)
    body = form(png(4, 4))
    with connection(server) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(head(someone.token, len(body)))
        for at in range(len(body)):
            peer.sendall(body[at:at + 1])
        assert peer.recv(100).startswith(b"HTTP/1.1 201 ")


def test_ten_thousand_parts(server):
    """U05."""
    someone = Person(server.base)
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n'.encode()
    before = rss_mib(server.pid)
    answer = someone.call("POST", "/api/upload/gig", part * 10_000 + f"--{BOUNDARY}--\r\n".encode(), None, {"Content-Type": TYPE})
    assert answer.status in (400, 415), answer
    assert sanitized() or rss_mib(server.pid) - before < 10


def test_slow_bodies_end(server):
    with new_server(body_timeout_ms=300) as hasty:
        someone = Person(hasty.base)
        with connection(hasty) as peer:
            peer.sendall(head(someone.token, 1000) + form(b"x")[:100])
            assert until_closed(peer).startswith(b"HTTP/1.1 408 ")
        assert not files_of(f"{hasty.directory}/files")


# ---- what it costs -------------------------------------------------------------------------------------------------


def test_a_bomb_costs_nothing(server):
    """U02."""
    someone = Person(server.base)
    upload(someone, png(8, 8))
    data = bomb(30_000)
    assert len(data) < 200_000
    before = rss_mib(server.pid)
    answer = upload(someone, data, 422)
    assert answer.json["errors"][0]["code"] == "too_many_pixels"
    assert sanitized() or rss_mib(server.pid) - before < 20
    took = min(upload(someone, data, 422).seconds for _ in range(5))
    assert took < slack(0.2), took


def test_ten_at_once_stay_small(server):
    """U06: memory does not grow with what is on its way."""
    someone = Person(server.base)
    data = form(png(1850, 1850, random.Random(3)))
    assert 9.5 * MIB < len(data) < 10 * MIB
    upload(someone, png(8, 8))
    before = rss_mib(server.pid)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connection(server)) for _ in range(10)]
        for peer in peers:
            peer.sendall(head(someone.token, len(data)))
        for at in range(0, len(data) - 1000, MIB):
            for peer in peers:
                peer.sendall(data[at:min(at + MIB, len(data) - 1000)])
        grown = rss_mib(server.pid) - before
        assert sanitized() or grown < 20, grown
    wait_for(lambda: not files_of(f"{server.directory}/files/incoming"), "nothing of them is left")
    assert len(someone.get("/api/upload/my-files").json["files"]) == 1


def test_ten_large_ones_are_made_one_after_the_other():
    """U06: however many wait to be made, memory is that of one for each thread that makes them (docs/operations.md)."""
    data = largest()
    assert 9.9 * MIB < len(data) < 10 * MIB
    with new_server(image_threads=1) as own:
        someone = Person(own.base)
        upload(someone, png(8, 8))
        before = rss_mib(own.pid)
        with Peak(own) as peak:
            answers = together(*[lambda: upload(Client(own.base, someone.token, timeout_s=300), data) for _ in range(10)])
        assert {(answer.json["width"], answer.json["height"]) for answer in answers} == {(16_383, 2441)}
        grown = peak.mib - before
        print(f"{grown:.0f} MiB at most; they took {sorted(round(answer.seconds, 1) for answer in answers)} s")
        # The lower bound: pictures were decoded, and it was seen.
        assert not peak.broken and (sanitized() or 300 < grown < 1024), grown


def test_a_near_client_is_held_back(server):
    """A body is taken at 32 MiB a second however fast it comes, so that others' requests do not wait for it."""
    someone = Person(server.base)
    answer = upload(someone, b"\xff\xd8\xff" + bytes(8 * MIB), 422)
    assert answer.seconds > 0.22, answer.seconds


def test_clients_that_go_leave_nothing(server):
    """U06: aborted at half."""
    someone = Person(server.base)
    body = form(png(300, 300, random.Random(5)))
    for _ in range(20):
        with connection(server) as peer:
            peer.sendall(head(someone.token, len(body)) + body[: len(body) // 2])
    wait_for(lambda: not files_of(f"{server.directory}/files/incoming"), "nothing of them is left")
    assert someone.get("/api/upload/my-files").json["files"] == []
    sums = server.database().sql(f"SELECT files FROM upload_sums WHERE user_id = '{someone.id}'")
    assert sums in ([], [["0"]])


def test_a_quota_holds(server):
    """U06: twenty at once at the quota less one."""
    with new_server(upload_quota_files=2) as tight:
        someone = Person(tight.base)
        upload(someone, png(8, 8))
        answers = together(*[lambda: upload(someone.again(), png(64, 64), {201, 409}) for _ in range(20)])
        assert sorted(answer.status for answer in answers) == [201] + [409] * 19
        wait_for(lambda: len(files_of(f"{tight.directory}/files/objects")) == 4, "what did not fit is gone")


# ---- what is served ------------------------------------------------------------------------------------------------


def test_large_pictures_come_whole(server):
    """U07: in parts too, and however many are asked for."""
    someone = Person(server.base)
    made = upload(someone, png(1800, 1800, random.Random(9))).json
    assert made["size"] > 8 * MIB
    whole = someone.get(made["url"])
    assert len(whole.body) == made["size"]
    stored = server.database().sql(f"SELECT sha256 FROM uploads WHERE id = '{made['id']}'")[0][0]
    assert hashlib.sha256(whole.body).hexdigest() == stored
    part = someone.call("GET", made["url"], status=206, headers={"Range": "bytes=1000000-8000000"})
    assert part.body == whole.body[1_000_000:8_000_001]
    assert int(someone.call("HEAD", made["url"], status=200).headers["content-length"]) == made["size"]
    many = ",".join(["0-0"] * 1000)
    assert someone.call("GET", made["url"], headers={"Range": f"bytes={many}"}).status == 200
    # Whoever reads nothing of it costs no more than a piece.
    before = rss_mib(server.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            peer = stack.enter_context(connection(server))
            peer.sendall(f"GET {made['url']} HTTP/1.1\r\nHost: hourz\r\n\r\n".encode())
        assert someone.get("/api/users/me").status == 200
        assert sanitized() or rss_mib(server.pid) - before < 60


def test_a_gig_shows_it(server):
    """U07."""
    seeker, stranger = Person(server.base), Person(server.base)
    url = upload(seeker, png(50, 50)).json["url"]
    seeker.post("/api/gigs", gig(image_urls=[url]), 201)
    stranger.post("/api/gigs", gig(image_urls=[url]), 422)
    with Client(server.base) as nobody:
        shown = nobody.get(url)
        assert shown.headers["content-type"] == "image/png"
        assert shown.headers["x-content-type-options"] == "nosniff"
        assert shown.headers["content-security-policy"] == "default-src 'none'; sandbox"


# ---- faults --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(size):
    """A tmpfs of the server's own user."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    folder = f"/var/tmp/hourz-e2e-disk-{secrets.token_hex(4)}"
    os.mkdir(folder)
    user = run_as()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},uid={user.pw_uid},gid={user.pw_gid},mode=750", "tmpfs", folder],
            capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip("no tmpfs can be mounted here")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
    finally:
        os.rmdir(folder)


def test_a_full_disk(server):
    """U09, D5: 507, nothing left behind, everything else goes on, and so do uploads once there is room."""
    with small_disk("1m") as folder, new_server(files_directory=folder) as cramped:
        someone = Person(cramped.base)
        kept = upload(someone, png(100, 100, random.Random(1))).json
        wait_for(lambda: files_of(f"{folder}/incoming") == [], "it is stored")
        before = files_of(folder)
        data = png(450, 450, random.Random(2))
        for fill in (0, 900_000):
            with open(f"{folder}/filler", "wb") as filler:
                with contextlib.suppress(OSError):
                    filler.write(bytes(fill))
            for _ in range(3):
                answer = upload(someone, data, 507)
                assert answer.json["code"] == "insufficient_storage"
            wait_for(lambda: files_of(f"{folder}/incoming") == [], "nothing half-written is left")
            assert [name for name in files_of(folder) if not name.endswith("filler")] == before
            assert someone.get(kept["url"]).status == 200
            assert someone.post("/api/gigs", gig()).status == 201
            assert someone.call("GET", "/health/ready").status == 200
            os.unlink(f"{folder}/filler")
        upload(someone, png(150, 150, random.Random(4)))


def makers(server):
    """The processes that make pictures for a server just now."""
    return [pid for pid in children_of(server.pid) if command_of(pid)[1:2] == [b"make-picture"]]


def first_to_go(pid):
    with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as score:
        return int(score.read()) > 0


def command_of(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            return line.read().split(b"\0")
    return []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_decoder_that_dies_is_nobody_elses_end(server, number):
    """U02, D13: as where a hostile file breaks it, or it has no memory."""
    someone, data = Person(server.base), png(1800, 1800, random.Random(9))
    pid, answers = server.pid, []
    sender = threading.Thread(target=lambda: answers.append(upload(someone, data, 503)))
    sender.start()
    try:
        wait_for(lambda: makers(server) or answers, "it is being made")
        for maker in makers(server):
            with open(f"/proc/{maker}/environ", "rb") as environment:
                names = {each.split(b"=")[0] for each in environment.read().split(b"\0") if each}
            assert names <= {b"PATH", b"LC_ALL", b"TZ", b"HOME", b"TMPDIR"}, names
            wait_for(lambda pid=maker: first_to_go(pid), "it goes before the server where memory ends")
            held = [os.readlink(f"/proc/{maker}/fd/{number}") for number in os.listdir(f"/proc/{maker}/fd")]
            assert not [each for each in held if each.startswith("socket:") or "lock" in each], held
            os.kill(maker, number)
    finally:
        sender.join()
    assert answers[0].headers["retry-after"] == "2"
    assert server.pid == pid and is_running(pid)
    wait_for(lambda: not files_of(f"{server.directory}/files/incoming"), "nothing of it is left")
    upload(someone.again(), data)


def test_killed_while_uploading(server):
    """U08: every 201 has its whole file; nothing else has one."""
    folks = [Person(server.base) for _ in range(4)]
    data = [png(120, 120, random.Random(n)) for n in range(8)]
    acknowledged, stop, lock = [], threading.Event(), threading.Lock()

    def writer(person, seed):
        chance = random.Random(seed)
        client = None
        while not stop.is_set():
            try:
                if client is None:
                    client = Client(server.base, person.token, check=False, timeout_s=10)
                answer = upload(client, chance.choice(data), None)
                if answer.status == 201:
                    with lock:
                        acknowledged.append(answer.json)
            except Exception:  # pylint: disable=broad-except
                client = None
                stop.wait(0.05)

    threads = [threading.Thread(target=writer, args=(person, n)) for n, person in enumerate(folks)]
    for thread in threads:
        thread.start()
    try:
        chance = random.Random(11)
        for count in range(1, 9):
            wait_for(lambda c=count: len(acknowledged) >= 25 * c, "uploads go on", slack(60))
            stop.wait(chance.uniform(0, 0.1))
            server.kill()
            server.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    server.stop()
    server.start()
    rows = {row[0]: row for row in server.database().sql("SELECT id, sha256 FROM uploads")}
    folder = f"{server.directory}/files"

    def strays():
        return [name for name in files_of(folder)
                if not any(part in rows for part in (os.path.basename(name).removesuffix(".thumb"),))]

    wait_for(lambda: not strays(), "what has no row is swept", slack(20))
    assert len(acknowledged) >= 200
    for made in acknowledged:
        assert made["id"] in rows, "acknowledged and lost"
    for name, row in rows.items():
        path = f"{folder}/objects/pictures/{name[34:]}/{name}"
        with open(path, "rb") as file:
            assert hashlib.sha256(file.read()).hexdigest() == row[1]
        assert os.path.getsize(f"{path}.thumb") > 0
    sums = server.database().sql(
        "SELECT count(*) FROM upload_sums s WHERE (files, bytes) <> (SELECT count(*), coalesce(sum(size + thumbnail_size), 0)"
        " FROM uploads u WHERE u.owner_id = s.user_id)")
    assert sums == [["0"]]


CALL = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)")


@contextlib.contextmanager
def traced(server, calls):
    """A list that holds, once this is left, what the server asked of the kernel: (call, what of, when it was asked or was
    done), in order. What of is a path or, of bytes, the descriptor and the bytes."""
    found, began = [], {}
    trace = f"{server.directory}.strace"
    tracer = subprocess.Popen(["strace", "-f", "-y", "-x", "-s", "100000", "-e", f"trace={calls}", "-o", trace, "-p", str(server.pid)],
                              stderr=subprocess.PIPE, text=True)
    try:
        said = tracer.stderr.readline()
        if "not permitted" in said:
            pytest.skip("nothing may be traced here")
        assert "attached" in said, said
        yield found
    finally:
        tracer.terminate()
        tracer.communicate()
    with open(trace, encoding="utf-8", errors="replace") as file:
        lines = [CALL.match(line) for line in file]
    for line in filter(None, lines):
        thread, call, rest = line.groups()
        if " resumed>" not in line[0]:
            began[thread] = rest
            found.append((call, rest, "asked"))
        if not rest.endswith("<unfinished ...>"):
            found.append((call, began[thread] + rest, "done"))


def bytes_of(text):
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), text)


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
def test_the_order_of_durable_things(server):
    """U08: each file is synced, then named, then its folder synced; then COMMIT goes to the database, and once that has
    said so, 201 to the client. What a loss of power leaves is then whole, which no kill can show."""
    someone = Person(server.base)
    upload(someone, png(8, 8))
    with traced(server, "fsync,rename,sendto,recvfrom,sendmsg") as calls:
        made = upload(someone, png(9, 9)).json
    one, raw = made["id"], uuid.UUID(made["id"]).bytes.decode("latin-1")

    def place(when, call, *words, after=-1):
        at = next((n for n, (name, rest, moment) in enumerate(calls)
                   if n > after and name == call and moment == when and all(word in bytes_of(rest) for word in words)), None)
        assert at is not None, f"no {call} of {words} {when} after {calls[max(after, 0)]}"
        return at

    last = 0
    for suffix, written in (("", "picture"), (".thumb", "thumb")):
        synced = place("done", "fsync", f"/incoming/{one}.{written}>")
        named = place("done", "rename", f"/incoming/{one}.{written}", f"/pictures/{one[34:]}/{one}{suffix}\"", ") = 0", after=synced)
        assert place("asked", "rename", f"/incoming/{one}.{written}") > synced
        last = max(last, place("done", "fsync", f"/objects/pictures/{one[34:]}>", after=named))
    row = place("asked", "sendto", raw)
    assert row > last, "the row was written before its files were safe"
    database = calls[row][1].partition(",")[0]
    commit = place("asked", "sendto", database, "commit", after=row)
    done = place("done", "recvfrom", database, "COMMIT", after=commit)
    assert not any(name == "sendmsg" and "HTTP/1.1 201" in rest for name, rest, _ in calls[:done]), "answered before it was committed"
    place("asked", "sendmsg", "HTTP/1.1 201", one, after=done)
