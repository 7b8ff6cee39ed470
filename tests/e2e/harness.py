"""What the end-to-end tests share: servers and clusters of their own, and a client that holds every answer against
docs/openapi.json.

HOURZ_TEST_BINARY names the server, else the newest build/**/hourz. A server's data directory is a copy of one that was
prepared once for this binary, so that a server is up in a fraction of a second. Nothing here sleeps: it polls a state
until a deadline. What a test starts ends with it, by pid.
"""

import contextlib
import fcntl
import functools
import glob
import http.client
import json
import os
import pwd
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from urllib.parse import urlencode, urlsplit

import jsonschema
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
POSTGRES = os.environ.get("HOURZ_POSTGRES_BIN", "/usr/lib/postgresql/15/bin")
PASSWORD = "river crossing at noon"
SEED = os.environ.get("HOURZ_TEST_SEED", "1")


@functools.lru_cache(None)
def binary():
    path = os.environ.get("HOURZ_TEST_BINARY")
    if not path:
        built = sorted(glob.glob(f"{ROOT}/build/**/src/hourz", recursive=True), key=os.path.getmtime)
        if not built:
            pytest.skip("hourz is not built (HOURZ_TEST_BINARY)")
        path = built[-1]
    return os.path.abspath(path)


@functools.lru_cache(None)
def sanitized():
    with open(binary(), "rb") as program:
        symbols = program.read()
    return b"__asan_init" in symbols or b"__tsan_init" in symbols


def slack(seconds):
    """A bound on time, wider under a sanitizer."""
    return seconds * (4 if sanitized() else 1)


def wait_for(condition, what, seconds=20, pause_s=0.01):
    """Polls until `condition` gives something true, and gives that back."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        select.select([], [], [], pause_s)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def server_errors(statuses, excused=(503,)):
    """Of answers counted by status, those of 5xx that no fault excuses: under any fault a server says 503 or nothing."""
    return {status: count for status, count in statuses.items()
            if isinstance(status, int) and status >= 500 and status not in excused}


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


# ---- processes -----------------------------------------------------------------------------------------------------


def is_running(pid):
    """A zombie no longer runs."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children_of(pid):
    """Of any of its threads."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as children:
                found += map(int, children.read().split())
    return found


def family_of(pid):
    return [pid, *(member for child in children_of(pid) for member in family_of(child))]


def signal_all(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end(process, patience_s=20):
    """Asks a process of ours to end, and makes it end; its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def plain_environment(**settings):
    """Nothing of the caller's HOURZ_ settings comes along."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOURZ_")}
    if "HOURZ_POSTGRES_BIN" in os.environ:
        kept["HOURZ_POSTGRES_BIN"] = POSTGRES
    return {**kept, **{f"HOURZ_{name.upper()}": str(value) for name, value in settings.items()}}


def run(*arguments, timeout_s=60, **settings):
    """`hourz ARGUMENTS` to its end."""
    return subprocess.run(
        [binary(), *arguments], env=plain_environment(**settings), capture_output=True, text=True, timeout=timeout_s
    )


def run_as():
    """Whom PostgreSQL runs as: never root."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.getuid())


@contextlib.contextmanager
def scratch():
    """A folder that PostgreSQL's user may enter; removed at the end."""
    folder = tempfile.mkdtemp(prefix="hourz-e2e-", dir="/var/tmp")
    os.chmod(folder, 0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- clusters ------------------------------------------------------------------------------------------------------


class Database:
    """A database by its socket: SQL as superuser, and the settings by which a server uses it."""

    def __init__(self, sockets):
        self.sockets = sockets

    def urls(self):
        base = f"host={self.sockets} port=5432 dbname=hourz user="
        return {"database_url": base + "hourz_app", "migration_url": base + "hourz_owner"}

    def sql(self, statement, database="hourz"):
        """Rows of text."""
        done = subprocess.run(
            [f"{POSTGRES}/psql", "-XAtq", "-F\t", "-v", "ON_ERROR_STOP=1", "-h", self.sockets, "-p", "5432",
             "-U", "postgres", "-d", database, "-c", statement],
            capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]


class Cluster(Database):
    """PostgreSQL beside the servers, for tests with several servers or a database that comes late."""

    def __init__(self, folder, durable=False, wrap=()):
        self.data, self.user, self.durable, self.wrap = f"{folder}/cluster", run_as(), durable, list(wrap)
        sockets = f"{folder}/socket"
        os.mkdir(sockets)
        os.chown(sockets, self.user.pw_uid, self.user.pw_gid)
        super().__init__(sockets)
        self.log = open(f"{folder}/cluster.log", "ab")
        self.process = None
        os.mkdir(self.data)
        os.chown(self.data, self.user.pw_uid, self.user.pw_gid)
        self.program("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--no-locale").wait()

    def program(self, name, *arguments):
        as_user = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        return subprocess.Popen([*self.wrap, f"{POSTGRES}/{name}", *arguments], stdout=self.log, stderr=self.log, cwd="/", **as_user)

    def start(self):
        durable = "on" if self.durable else "off"
        self.process = self.program(
            "postgres", "-D", self.data, "-k", self.sockets, "-p", "5432", "-c", "listen_addresses=",
            "-c", "max_connections=200", "-c", f"fsync={durable}", "-c", "shared_buffers=64MB")
        wait_for(self.is_up, "PostgreSQL takes connections", 30)
        return self

    def is_up(self):
        assert self.process.poll() is None, "PostgreSQL ended"
        with contextlib.suppress(OSError), open(f"{self.data}/postmaster.pid", encoding="utf-8") as lines:
            return lines.read().rstrip().endswith("ready")

    def provision(self):
        """The roles, the empty database and its extensions, as an administrator would make them."""
        self.sql("CREATE ROLE hourz_owner LOGIN", "postgres")
        self.sql("CREATE ROLE hourz_app LOGIN", "postgres")
        self.sql("CREATE DATABASE hourz OWNER hourz_owner", "postgres")
        self.sql("CREATE EXTENSION postgis")
        return self

    def stop(self, number=signal.SIGINT):
        if self.process is not None and self.process.poll() is None:
            signal_all(family_of(self.process.pid), signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(20)

    def close(self):
        self.stop(signal.SIGQUIT)
        self.log.close()


@contextlib.contextmanager
def cluster(provisioned=True, wrap=()):
    with scratch() as folder:
        made = Cluster(folder, wrap=wrap)
        try:
            made.start()
            yield made.provision() if provisioned else made
        finally:
            made.close()


# ---- servers -------------------------------------------------------------------------------------------------------


class NotStarted(Exception):
    def __init__(self, code, errors):
        super().__init__(f"exit {code}: {errors}")
        self.code, self.errors = code, errors


class Server:
    """`hourz serve` on a free port and, unless `database_url` says otherwise, a private database in `directory`."""

    def __init__(self, directory, wait_ready=True, log=None, wrap=(), **settings):
        self.directory = directory
        self.log_path = log or f"{directory}.log"
        self.wrap = list(wrap)
        self.settings = {"data_directory": directory, "listen_port": 0, "rate_limit": "off", **settings}
        self.start(wait_ready)

    def start(self, wait_ready=True, patience_s=30):
        self.said, self.is_ready = [], threading.Event()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.wrap, binary(), "serve"], env=plain_environment(**self.settings), stdout=subprocess.PIPE,
                stderr=log, text=True, cwd="/")
        self.pid = self.process.pid
        for line in self.process.stdout:
            self.said.append(line)
            if found := re.search(r"listening on (http://\S+?:(\d+))", line):
                self.base, self.port = found[1], int(found[2])
                break
        else:
            raise NotStarted(self.process.wait(patience_s), self.log()[-4000:])
        self.settings["listen_port"] = self.port  # the next start takes the same one
        self.reader = threading.Thread(target=self.listen, args=(self.process.stdout,), daemon=True)
        self.reader.start()
        if wait_ready:
            wait_for(lambda: self.is_ready.is_set() or not is_running(self.pid), "ready", slack(patience_s))
            if not self.is_ready.is_set():
                raise NotStarted(self.process.wait(patience_s), self.log()[-4000:])
        return self

    def listen(self, output):
        with output:
            for line in output:
                self.said.append(line)
                if line.strip() == "hourz: ready":
                    self.is_ready.set()

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def last_words(self, bytes_at_most=8000):
        """The end of its log."""
        with open(self.log_path, "rb") as log:
            log.seek(max(0, os.path.getsize(self.log_path) - bytes_at_most))
            return log.read().decode("utf-8", "replace").partition("\n")[2]

    def address(self):
        return "127.0.0.1", self.port

    def postmaster(self):
        """The pid of the private PostgreSQL, 0 while there is none."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"{self.directory}/postgres/postmaster.pid", encoding="utf-8") as lines:
                pid = int(lines.readline())
            return pid if is_running(pid) else 0
        return 0

    def database(self):
        with open(f"{self.directory}/postgres/postmaster.pid", encoding="utf-8") as lines:
            return Database(lines.read().splitlines()[4])

    def secret(self):
        with open(f"{self.directory}/secret", encoding="ascii") as kept:
            return kept.read().strip()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def processor_s(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, patience_s=20):
        """SIGTERM; the exit code."""
        code = end(self.process, patience_s)
        self.reader.join(5)
        return code

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        """Whatever state it is in, it and its database are gone afterwards."""
        postmaster = self.postmaster()
        if postmaster:
            signal_all(family_of(postmaster), signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        if postmaster and is_running(postmaster):
            signal_all([postmaster], signal.SIGQUIT)
            wait_for(lambda: not is_running(postmaster), "PostgreSQL ended")


def prepared_directory():
    """A data directory with its schema in place, made once for this binary and kept beside it."""
    kept = f"{os.path.dirname(binary())}/e2e-prepared"
    state = os.stat(binary())
    stamp = f"{state.st_mtime_ns} {state.st_size}"
    with open(f"{kept}.lock", "a+", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        if lock.read() == stamp and os.path.isdir(kept):
            return kept
        with scratch() as folder:
            server = Server(f"{folder}/data")
            try:
                assert server.stop() == 0
            finally:
                server.close()
            shutil.rmtree(kept, ignore_errors=True)
            subprocess.run(["cp", "-a", f"{folder}/data", kept], check=True)
        lock.seek(0)
        lock.truncate()
        lock.write(stamp)
    return kept


@contextlib.contextmanager
def server(**settings):
    """A server of one's own on a fresh database."""
    prepared = prepared_directory()
    with scratch() as folder:
        subprocess.run(["cp", "-a", prepared, f"{folder}/data"], check=True)
        running = Server(f"{folder}/data", **settings)
        try:
            yield running
        finally:
            running.close()


# ---- answers against the document ----------------------------------------------------------------------------------


@functools.lru_cache(None)
def document():
    with open(f"{ROOT}/docs/openapi.json", encoding="utf-8") as published:
        return json.load(published)


@functools.lru_cache(None)
def validator(*pointer):
    """Of the schema at this place of the document; None when nothing stands there."""
    found = document()
    for step in pointer:
        if step not in found:
            return None
        found = found[step]
    return jsonschema.Draft202012Validator(
        found, resolver=jsonschema.RefResolver.from_schema(document()), format_checker=jsonschema.draft202012_format_checker)


@functools.lru_cache(None)
def templates():
    """Paths as patterns, those without a parameter first."""
    paths = sorted(document()["paths"], key=lambda path: ("{" in path, path))
    return [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) + "/?"), path) for path in paths]


def operation_of(method, target):
    """(path template, verb) of the document, or None."""
    path = target.partition("?")[0]
    verb = "get" if method == "HEAD" else method.lower()
    for pattern, template in templates():
        if pattern.fullmatch(path) and verb in document()["paths"][template]:
            return template, verb
    return None


# What HTTP itself answers, before there is an operation.
TRANSPORT = {408, 411, 414, 417, 421, 431, 501}


def check_answer(method, target, answer):
    """Declared status, declared media type, and a body that fits; a whole problem document on every error (E01), that
    shows nothing of our insides (E02)."""
    at = f"{method} {target} -> {answer.status} {answer.body[:600]!r}"
    assert answer.headers.get("x-request-id"), at
    media = answer.headers.get("content-type", "").partition(";")[0].strip()
    if answer.status >= 400 and method != "HEAD":
        assert media == "application/problem+json", at
        problem = answer.json
        assert problem["status"] == answer.status and problem["message"] == problem["detail"], at
        assert problem["request_id"] == answer.headers["x-request-id"], at
        assert ("errors" in problem) == (problem["code"] == "validation_failed"), at
        faults = list(validator("components", "schemas", "Problem").iter_errors(problem))
        assert not faults, f"{at}: {faults[0].message}"
        if answer.status == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer "), at
        if answer.status in (429, 503):
            assert int(answer.headers["retry-after"]) >= 0, at
        assert not re.search(r"SQLSTATE|pq:|boost|std::|ERROR:|/src/rooms/|0x[0-9a-f]{8}", answer.text), at
    found = operation_of(method, target)
    if found is None:
        assert answer.status in (204, 304, 400, 404, 405, 501) or method == "OPTIONS", at
        return
    if answer.status in TRANSPORT:
        return
    template, verb = found
    declared = document()["paths"][template][verb]["responses"]
    assert str(answer.status) in declared, f"undeclared status: {at}"
    if method == "HEAD" or answer.status in (204, 304):
        assert not answer.body, at
        return
    contents = declared[str(answer.status)].get("content", {})
    if not contents:
        assert not answer.body and not media, at
        return
    if "*/*" in contents:
        return
    assert media in contents, f"undeclared media type {media}: {at}"
    if "json" in media and "schema" in contents[media]:
        check = validator("paths", template, verb, "responses", str(answer.status), "content", media, "schema")
        faults = list(check.iter_errors(answer.json))
        assert not faults, f"{at}: {faults[0].message} at {list(faults[0].absolute_path)}"


# ---- a client ------------------------------------------------------------------------------------------------------


class Answer:
    def __init__(self, status, headers, body, seconds=0.0):
        self.status, self.headers, self.body, self.seconds = status, headers, body, seconds

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    @functools.cached_property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.text[:400]}>"


class Client:
    """One keep-alive connection. Every answer is held against the document unless `check` is off."""

    def __init__(self, base, token=None, check=True, timeout_s=30, source=None):
        """`source`: the address to come from, another one of the loopback's."""
        parts = urlsplit(base)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s,
                                                     source_address=source and (source, 0))
        self.base, self.token, self.check = base, token, check

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.connection.close()

    def call(self, method, target, body=None, status=None, headers=None, query=None, token=None):
        """`body`: a dict for JSON, or bytes as they are. `status`: what must come back."""
        fields = {}
        token = token or self.token
        if token:
            fields["Authorization"] = f"Bearer {token}"
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            fields["Content-Type"] = "application/json"
        fields.update(headers or {})
        if query:
            target += "?" + urlencode(query)
        began = time.monotonic()
        for fresh in (False, True):
            try:
                self.connection.request(method, target, body=body, headers=fields)
                response = self.connection.getresponse()
                data = response.read()
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # A kept connection may have been closed meanwhile; a new one tells. Only where repeating is harmless.
                self.connection.close()
                if fresh or method not in ("GET", "HEAD"):
                    raise
            except BaseException:
                self.connection.close()
                raise
        lower = {}
        for name, value in response.getheaders():
            # Vary alone may stand twice.
            assert name.lower() not in lower or name.lower() == "vary", f"two {name}"
            lower[name.lower()] = value
        answer = Answer(response.status, lower, data, time.monotonic() - began)
        if self.check:
            check_answer(method, target, answer)
        if status is not None:
            allowed = status if isinstance(status, (set, tuple)) else {status}
            assert answer.status in allowed, f"{method} {target}: {answer}"
        return answer

    def get(self, target, status=200, **query):
        return self.call("GET", target, status=status, query=query)

    def post(self, target, body=None, status=None, **headers):
        return self.call("POST", target, body, status, {k.replace("_", "-"): v for k, v in headers.items()})

    def put(self, target, body=None, status=200, **headers):
        return self.call("PUT", target, body, status, {k.replace("_", "-"): v for k, v in headers.items()})


class Person(Client):
    """Somebody who registered and logged in."""

    def __init__(self, base, name="Somebody", check=True, email=None, timeout_s=30):
        super().__init__(base, check=check, timeout_s=timeout_s)
        self.email = email or f"p{secrets.token_hex(8)}@example.com"
        body = {"email": self.email, "password": PASSWORD, "name": name}
        # Beside other tests the first connection to the database may come late, which is a 503.
        made = wait_for(lambda: next(filter(lambda a: a.status != 503, [self.post("/api/auth/register", body)]), None), "an account")
        assert made.status == 201, made
        self.user = made.json
        self.id = self.user["id"]
        self.login()

    def login(self, status=200, password=PASSWORD):
        pair = self.call("POST", "/api/auth/login", {"email": self.email, "password": password}, status)
        if pair.status == 200:
            self.token, self.refresh_token = pair.json["access_token"], pair.json["refresh_token"]
        return pair

    def again(self):
        """The same person on another connection."""
        return Client(self.base, self.token, self.check)


GIG = {
    "title": "Carry a sofa up two floors",
    "description": "Two people, no lift, about an hour.",
    "duration_hours": 1,
    "budget": 350,
    "latitude": 13.75,
    "longitude": 100.54,
}


def gig(**changes):
    return {**GIG, **changes}


def together(*tasks):
    """Runs each in a thread of its own; the first exception is raised here."""
    failures, results = [], [None] * len(tasks)

    def body(at, task):
        try:
            results[at] = task()
        except BaseException as failure:  # pylint: disable=broad-except
            failures.append(failure)

    threads = [threading.Thread(target=body, args=pair) for pair in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return results


# ---- many sockets, few threads -------------------------------------------------------------------------------------


class Raw:
    """A keep-alive connection in raw bytes: many of them can be written first and read afterwards."""

    def __init__(self, address, token=None, timeout_s=30):
        self.peer = socket.create_connection(address, timeout=timeout_s)
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fields = f"Host: hourz\r\nAuthorization: Bearer {token}\r\n" if token else "Host: hourz\r\n"
        self.rest = b""

    def send(self, method, target, body=None, **headers):
        text = self.fields + "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        data = b""
        if body is not None:
            data = json.dumps(body).encode()
            text += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        elif method != "GET":
            text += "Content-Length: 0\r\n"
        self.peer.sendall(f"{method} {target} HTTP/1.1\r\n{text}\r\n".encode() + data)
        return self

    def read(self):
        """(status, head, body). An end before the first byte is EOFError; one in the middle is an AssertionError."""
        data = self.rest
        while b"\r\n\r\n" not in data:
            piece = self.peer.recv(65536)
            if not piece:
                assert not data, f"cut in the head: {data!r}"
                raise EOFError
            data += piece
        head, _, data = data.partition(b"\r\n\r\n")
        status = int(head[9:12])
        found = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        length = int(found[1]) if found and status not in (204, 304) else 0
        while len(data) < length:
            piece = self.peer.recv(65536)
            assert piece, f"cut in the body: {head!r} {data!r}"
            data += piece
        self.rest = data[length:]
        return status, head, data[:length]

    def ask(self, *arguments, **named):
        return self.send(*arguments, **named).read()

    def close(self):
        self.peer.close()
