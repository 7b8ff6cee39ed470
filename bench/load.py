"""The load generators and the servers under load: wrk, pgbench, `hourz serve`, the peer. Standard library only.

Whatever is started here is ended by its own process id, also when the run is interrupted.
"""
import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import uuid

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
POSTGRES_BIN = pathlib.Path(os.environ.get("HOURZ_POSTGRES_BIN") or "/usr/lib/postgresql/15/bin")


class Failed(Exception):
    """Says in plain words why there is nothing to measure."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def end(process: subprocess.Popen, grace_s: float = 15) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_lines(path: pathlib.Path, count: int = 12) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:]) if path.exists() else "(no log)"


# --- servers ----------------------------------------------------------------------------------------------------------


class Server:
    """A child process that answers HTTP on a port of its own."""

    def __init__(self, name: str, command: list[str], environment: dict, log: pathlib.Path, port: int, ready: str):
        self.name, self.port, self.log = name, port, log
        with log.open("ab") as out:
            self.process = subprocess.Popen(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=out, start_new_session=True)
        deadline = time.monotonic() + 90
        while True:
            if self.process.poll() is not None:
                raise Failed(f"{name} ended with {self.process.returncode}:\n{last_lines(log)}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.call("GET", ready)[0] == 200:
                    return
            if time.monotonic() > deadline:
                self.stop()
                raise Failed(f"{name} is not ready after 90 s:\n{last_lines(log)}")
            time.sleep(0.05)

    def call(self, method: str, path: str, token: str | None = None, body=None) -> tuple[int, object]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body)
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text.decode(errors="replace")

    def resident_bytes(self) -> int:
        """Of the server's own process: its PostgreSQL is counted by nobody here."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def stop(self) -> None:
        end(self.process)


class Hourz:
    """The server on a throwaway data directory, with what is needed to talk to it and to its database."""

    def __init__(self, binary: pathlib.Path, folder: pathlib.Path):
        self.binary, self.data, self.log = binary, folder / "data", folder / "server.log"
        self.key = secrets.token_hex(24)
        self.environment = {
            "HOURZ_DATA_DIRECTORY": str(self.data),
            "HOURZ_SECRET": secrets.token_hex(24),
            "HOURZ_TOKEN_KEYS": f"bench:{self.key}",
            "HOURZ_ACCESS_TOKEN_S": "86400",
        }
        for name in list(os.environ):
            # Settings of the person who runs this must not change what is measured.
            if name.startswith("HOURZ_") and name not in ("HOURZ_POSTGRES_BIN", "HOURZ_RUN_AS"):
                del os.environ[name]
        self.server: Server | None = None

    def start(self, rate_limit: str) -> Server:
        port = free_port()
        self.server = Server("hourz", [str(self.binary), "serve"],
                             {**self.environment, "HOURZ_LISTEN_PORT": str(port), "HOURZ_RATE_LIMIT": rate_limit},
                             self.log, port, "/health/ready")
        return self.server

    def stop(self) -> None:
        if self.server:
            self.server.stop()
            self.server = None

    def run(self, *arguments: str) -> str:
        done = subprocess.run([str(self.binary), *arguments], env={**os.environ, **self.environment},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"hourz {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}{done.stdout}")
        return done.stdout

    def database(self, role: str) -> dict:
        """libpq's environment variables for the private cluster, read from where it says that it listens."""
        lines = (self.data / "postgres" / "postmaster.pid").read_text().splitlines()
        return {"PGHOST": lines[4], "PGPORT": lines[3], "PGUSER": role, "PGDATABASE": "hourz"}

    def sql(self, text: str, role: str = "postgres") -> list[list[str]]:
        done = subprocess.run([str(POSTGRES_BIN / "psql"), "-XqAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-f", "-"],
                              env={**os.environ, **self.database(role)}, input=text, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"psql: {done.stderr}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def token(self, user_id: str, session_id: str) -> str:
        """An access token as the server signs them (HS256), so that thousands of accounts need not log in first."""
        def part(value: dict) -> str:
            return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")
        now = int(time.time())
        signed = part({"alg": "HS256", "kid": "bench", "typ": "at+jwt"}) + "." + part(
            {"iss": "hourz", "aud": "hourz-api", "sub": user_id, "sid": session_id, "iat": now, "exp": now + 86400,
             "jti": str(uuid.uuid4())})
        mac = hmac.new(self.key.encode(), signed.encode(), hashlib.sha256).digest()
        return signed + "." + base64.urlsafe_b64encode(mac).decode().rstrip("=")


def start_peer(hourz: Hourz, folder: pathlib.Path, statements: pathlib.Path) -> Server:
    peer = HERE / "peers" / "fastify"
    install = subprocess.run(["sh", str(ROOT / "web" / "install.sh"), str(peer)], capture_output=True, text=True)
    if install.returncode != 0:
        raise Failed(f"the peer's packages cannot be installed:\n{install.stderr}")
    port = free_port()
    environment = {**hourz.database("hourz_app"), "PORT": str(port), "WORKERS": "2", "TOKEN_KEY": hourz.key,
                   "STATEMENTS": str(statements), "NODE_ENV": "production", "LOG_FILE": str(folder / "requests.log")}
    return Server("the Fastify peer", ["node", str(peer / "server.mjs")], environment, folder / "peer.log", port,
                  "/health/live")


def family_of(pid: int) -> list[int]:
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [each for child in (task / "children").read_text().split() for each in family_of(int(child))]
    return found


def put_first(*pids: int) -> None:
    """These processes, what they have started and will start come before the machine's other users (as root): on a busy
    machine a server and its load generator, which wait for each other, lose more to those than pgbench does."""
    for pid in (each for one in pids for each in family_of(one)):
        subprocess.run(["chrt", "--all-tasks", "--rr", "--pid", "1", str(pid)], check=True)


@contextlib.contextmanager
def without_autogroups():
    """Where the kernel makes a group of every session (a desktop's setting), each backend of PostgreSQL is a group of its
    own and all of the server's threads one, whatever their priority: then a hash weighs as much as a backend. Under systemd
    or in a container there are no such groups, and there are none here meanwhile. Gives whether there still are."""
    switch = pathlib.Path("/proc/sys/kernel/sched_autogroup_enabled")
    try:
        was = switch.read_text(encoding="ascii")
        switch.write_text("0", encoding="ascii")
    except OSError:
        yield switch.exists() and switch.read_text(encoding="ascii").strip() == "1"
        return
    try:
        yield False
    finally:
        switch.write_text(was, encoding="ascii")


# --- load -------------------------------------------------------------------------------------------------------------


def request(method: str, path: str, token: str | None = None, body: dict | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    data = b""
    if body is not None:
        data = json.dumps(body, ensure_ascii=False).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def write_requests(path: pathlib.Path, requests: list[bytes]) -> pathlib.Path:
    with path.open("wb") as out:
        for each in requests:
            out.write(f"{len(each)}\n".encode() + each)
    return path


def start_wrk(port: int, requests: pathlib.Path, connections: int, seconds: float, once: bool = False) -> subprocess.Popen:
    threads = str(min(2, connections))
    return subprocess.Popen(
        ["wrk", "-t", threads, "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--timeout", "10s",
         "-s", str(HERE / "requests.lua"), f"http://127.0.0.1:{port}"],
        env={**os.environ, "BENCH_REQUESTS": str(requests), **({"BENCH_ONCE": threads} if once else {})}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end_wrk(process: subprocess.Popen) -> dict:
    out, _ = process.communicate()
    found = re.search(r"^RESULT (.*)$", out, re.MULTILINE)
    if not found:
        raise Failed(f"wrk said:\n{out}")
    result = json.loads(found[1])
    result["per_second"] = result["requests"] / result["seconds"]
    result["errors"] = result["status_errors"] + result["socket_errors"] + result["timeouts"]
    return result


def wrk(server: Server, requests: pathlib.Path, connections: int, seconds: float, once: bool = False) -> dict:
    """One run; also the most memory that the server was seen to hold meanwhile. `once`: each request in its order."""
    process = start_wrk(server.port, requests, connections, seconds, once)
    resident = 0
    while process.poll() is None:
        resident = max(resident, server.resident_bytes())
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    result = end_wrk(process)
    result["resident_bytes"] = resident
    return result


def paced(server: Server, requests: pathlib.Path, rate: int, connections: int, seconds: float) -> dict:
    """One run at a fixed rate; latencies count from the time at which each request was to be sent."""
    done = subprocess.run([sys.executable, str(HERE / "paced.py"), str(server.port), str(requests), str(rate),
                           f"{seconds:g}", str(connections)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"paced.py said:\n{done.stderr}")
    return json.loads(done.stdout)


def pgbench(hourz: Hourz, script: str, folder: pathlib.Path, seconds: float, clients: int = 16) -> dict:
    """Plans are generic from the start, as the server's connections ask for. A script may count with `:turn`."""
    path = folder / "script.sql"
    path.write_text(script)
    done = subprocess.run(
        [str(POSTGRES_BIN / "pgbench"), "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-D", "turn=-1", "-T",
         str(max(1, round(seconds))), "-f", str(path)],
        env={**os.environ, **hourz.database("hourz_app"), "PGOPTIONS": "-c plan_cache_mode=force_generic_plan -c enable_sort=off"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True)
    rate = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    average = re.search(r"^latency average = ([0-9.]+) ms", done.stdout, re.MULTILINE)
    processed = re.search(r"number of transactions actually processed: (\d+)", done.stdout)
    failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
    if done.returncode != 0 or not rate:
        raise Failed(f"pgbench: {done.stderr[-2000:]}{done.stdout[-500:]}")
    return {"per_second": float(rate[1]), "average_ms": float(average[1]), "errors": int(failed[1]) if failed else 0,
            "requests": int(processed[1]) if processed else 0}
