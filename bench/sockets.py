"""The real-time part of ./dev bench: rooms, history, joins, idle sockets and alerts, against pgbench and a ws peer.

Runs on the server's cluster of bench/run.py. The load client is bench/socket_load.cpp; the peer is bench/peers/ws.
"""
import contextlib
import json
import os
import pathlib
import random
import re
import resource
import statistics
import subprocess
import time

import statements
from load import HERE, ROOT, Failed, Hourz, Server, end, free_port, pgbench, request, wrk, write_requests

FAN_OUT, ROOMS, ROOM_SOCKETS, HISTORY, MISSED, IDLE, AREAS = 1_000, 200, 5, 100_000, 1_000, 10_000, 100_000
FAN_OUT_IN_FLIGHT = 16  # messages under way at once, from sockets that take turns
PAGE = 50  # the server's default
POSTS_PER_SECOND = 20
THAILAND = ((5.6, 20.4), (97.4, 105.6))  # a box around it; bench/socket_load.cpp has the same
SPARE_DESCRIPTORS = 600  # for the database, the log and what else a server opens
TEXT = "I am at the gate of the old market, see you at six. Bring gloves, please."
HISTOGRAM = "hourz_alert_match_duration_seconds"


def say(words: str) -> None:
    print(f"· {words}", flush=True)


def most_descriptors() -> int:
    """Raised as far as this user may, for all that is started from here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Client:
    """One run of hourz_socket_load."""

    def __init__(self, binary: pathlib.Path, mode: str, options: dict):
        command = [str(binary), mode]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        self.mode = mode
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)

    def read(self, kind: str) -> dict:
        line = self.process.stdout.readline()
        if not line.startswith(kind + " "):
            end(self.process)
            raise Failed(f"the load client ({self.mode}) says: {line}{self.process.stderr.read()}")
        return json.loads(line[len(kind):])

    def first(self) -> "Client":
        """The processor comes to it first, where that may be had: it stands for clients on other machines."""
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(self.process.pid, os.SCHED_FIFO, os.sched_param(1))
        return self

    def go_on(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def result(self) -> dict:
        try:
            return self.read("RESULT")
        finally:
            self.process.stdin.close()
            self.process.wait()


class Sockets:
    def __init__(self, hourz: Hourz, folder: pathlib.Path, binary: pathlib.Path, rounds: int, seconds: float,
                 with_peer: bool):
        self.hourz, self.folder, self.binary = hourz, folder, binary
        self.rounds, self.seconds, self.with_peer = rounds, seconds, with_peer
        self.chance = random.Random(20261123)
        self.descriptors = most_descriptors()
        hourz.environment |= {"HOURZ_SOCKETS_PER_USER": "100000", "HOURZ_MAX_CONNECTIONS": "200000"}
        self.server = self.peer = None
        self.loads: dict[str, float] = {}

    # --- what is there before measuring ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """On a running server with users and gigs. Frame limits are off: sockets send as fast as they can."""
        self.hourz.stop()
        self.server = self.hourz.start("off")
        sql = self.hourz.sql
        sql("INSERT INTO sessions (id, user_id, expires_at) SELECT md5('bench' || id)::uuid, id, "
            "now() + interval '1 day' FROM users ON CONFLICT DO NOTHING")
        sessions = sql("SELECT user_id, id FROM sessions WHERE id = md5('bench' || user_id)::uuid ORDER BY id LIMIT 5000")
        self.tokens = {user: self.hourz.token(user, session) for user, session in sessions}
        self.people = list(self.tokens)
        self.statements = statements.read("chat")
        self.history = self.make_rooms(1)[0]
        seeker, helper = self.history[1:]
        say(f"a room of {HISTORY:,} messages")
        sql(f"INSERT INTO chat_messages (room_id, seq, id, sender_id, type, content, created_at) "
            f"SELECT '{self.history[0]}', n, gen_random_uuid(), CASE n % 2 WHEN 0 THEN '{seeker}'::uuid "
            f"ELSE '{helper}'::uuid END, 'TEXT', n || ' {TEXT}', now() - interval '1 day' + n * interval '1 ms' "
            f"FROM generate_series(2, {HISTORY}) n; "
            f"UPDATE chat_rooms SET last_seq = {HISTORY} WHERE id = '{self.history[0]}'; "
            "VACUUM (ANALYZE); CHECKPOINT")
        if self.with_peer:
            say("starting the ws peer")
            self.peer = self.start_peer()

    def start_peer(self) -> Server:
        peer = HERE / "peers" / "ws"
        install = subprocess.run(["sh", str(ROOT / "web" / "install.sh"), str(peer)], capture_output=True, text=True)
        if install.returncode != 0:
            raise Failed(f"the ws peer's packages cannot be installed:\n{install.stderr}")
        port = free_port()
        environment = {**self.hourz.database("hourz_app"), "PORT": str(port), "TOKEN_KEY": self.hourz.key,
                       "NODE_ENV": "production"}
        return Server("the ws peer", ["node", str(peer / "server.mjs")], environment, self.folder / "ws.log", port,
                      "/health/live")

    def make_rooms(self, count: int) -> list[tuple[str, str, str]]:
        """New rooms (id, seeker, helper), as accepting a gig leaves them."""
        pairs = []
        for _ in range(count):
            seeker, helper = self.chance.sample(self.people, 2)
            pairs.append(f"('{seeker}'::uuid, '{helper}'::uuid)")
        rows = self.hourz.sql(
            "WITH sides AS (SELECT row_number() OVER () AS n, * FROM (VALUES " + ", ".join(pairs) + ") AS v (seeker, helper)), "
            "gig AS (SELECT row_number() OVER () AS n, id, title FROM (SELECT id, title FROM gigs g WHERE NOT EXISTS "
            f"(SELECT 1 FROM chat_rooms r WHERE r.gig_id = g.id) LIMIT {count}) free), "
            "room AS (INSERT INTO chat_rooms (id, gig_id, gig_title, seeker_id, helper_id, last_seq) SELECT "
            "gen_random_uuid(), gig.id, gig.title, seeker, helper, 1 FROM gig JOIN sides USING (n) RETURNING *), "
            "people AS (INSERT INTO chat_participants (room_id, user_id) SELECT id, unnest(ARRAY[seeker_id, helper_id]) "
            "FROM room), first AS (INSERT INTO chat_messages (room_id, seq, id, type, content, created_at) "
            "SELECT id, 1, gen_random_uuid(), 'SYSTEM', 'The gig was accepted.', now() FROM room) "
            "SELECT id, seeker_id, helper_id FROM room")
        if len(rows) != count:
            raise Failed(f"there are not {count} gigs without a room: load more")
        return [tuple(row) for row in rows]

    def plan(self, lines: list[str]) -> pathlib.Path:
        path = self.folder / "plan.txt"
        path.write_text("\n".join(lines) + "\n")
        return path

    def room_plan(self, rooms: list, sockets_a_room: int, after: str = "-") -> pathlib.Path:
        """Sockets of one room do not follow each other, so that rooms take turns; its two people have half each."""
        return self.plan([f"{self.tokens[sides[n % 2]]} room {room} {after}"
                          for n in range(sockets_a_room) for room, *sides in rooms])

    def load(self, mode: str, **options) -> Client:
        return Client(self.binary, mode, options)

    def sides(self, *names: str) -> list[str]:
        there = [name for name in names if name != "peer" or self.peer]
        return self.chance.sample(there, len(there))

    def port(self, side: str) -> int:
        return (self.server if side == "server" else self.peer).port

    def note_load(self, what: str) -> None:
        self.loads[what] = round(os.getloadavg()[0], 1)

    # --- rooms ------------------------------------------------------------------------------------------------------

    def chat(self, side: str, rooms: int, sockets_a_room: int, **options) -> dict:
        made = self.make_rooms(rooms)
        options = {"port": self.port(side), "plan": self.room_plan(made, sockets_a_room), "seconds": self.seconds} | options
        client = self.load("chat", **options)
        figures = (client.first() if "rate" in options else client).result()
        if figures["closed"] or figures["errors"]:
            say(f"  {side}: {figures['closed']} closed, {figures['errors']} errors: {figures['fault']}")
        figures["lost"] = abs(figures["expected"] - figures["delivered"])
        if side == "server":
            self.compare_stored(made, figures)
        return figures

    def compare_stored(self, rooms: list, figures: dict) -> None:
        """What was acknowledged is in the database, and numbered without gaps."""
        ids = ", ".join(f"'{room}'" for room, *_ in rooms)
        stored, gaps = self.hourz.sql(
            f"SELECT sum(n), sum((last <> n)::int) FROM (SELECT count(*) AS n, max(seq) AS last FROM chat_messages "
            f"WHERE room_id IN ({ids}) GROUP BY room_id) each")[0]
        # Each room's first message is not the client's.
        if int(stored) - len(rooms) < figures["acknowledged"] or int(gaps):
            raise Failed(f"{figures['acknowledged']} messages were acknowledged; {stored} are there, {gaps} rooms with gaps")

    def fan_out(self) -> dict:
        say(f"one room, {FAN_OUT:,} sockets")
        runs: dict[str, list] = {}
        for _ in range(self.rounds):
            for side in self.sides("server", "peer"):
                runs.setdefault(side, []).append(
                    self.chat(side, 1, FAN_OUT, in_flight=FAN_OUT_IN_FLIGHT, sample=50))
        return self.summary(runs, "deliveries_per_second")

    def rooms(self) -> dict:
        say(f"{ROOMS} rooms of {ROOM_SOCKETS} sockets, as fast as messages are acknowledged")
        runs: dict[str, list] = {}
        for _ in range(self.rounds):
            self.hourz.sql("CHECKPOINT")
            for side in self.sides("server", "pgbench", "peer"):
                if side == "pgbench":
                    figures = pgbench(self.hourz, self.sending_script(), self.folder, self.seconds)
                    figures["messages_per_second"] = figures.pop("per_second")
                else:
                    figures = self.chat(side, ROOMS, ROOM_SOCKETS, in_flight=ROOMS)
                runs.setdefault(side, []).append(figures)
        found = self.summary(runs, "messages_per_second")
        say("the same at half of that rate, from the planned time of sending to each delivery")
        runs = {}
        for _ in range(self.rounds):
            for side in self.sides("server", "peer"):
                rate = found[side]["messages_per_second"] / 2
                runs.setdefault(side, []).append(self.chat(side, ROOMS, ROOM_SOCKETS, rate=round(rate, 1)))
        return {"full": found, "half": self.summary(runs, "messages_per_second")}

    def sending_script(self) -> str:
        rooms = self.make_rooms(ROOMS)

        def pick(place: int) -> str:
            return f"('{{{','.join(room[place] for room in rooms)}}}'::uuid[])[:room]"

        def uuid_of(first: str, second: str) -> str:
            """Of variables, so that the index can be asked for it."""
            return (f"(lpad(to_hex(:{first}::bigint), 8, '0') || '00004000' || '8000' || "
                    f"lpad(to_hex(:{second}::bigint), 12, '0'))::uuid")
        values = {"room_id": pick(0), "sender_id": pick(1), "id": uuid_of("a", "b"), "client_id": uuid_of("b", "a"),
                  "type": "'TEXT'::text", "content": f"'{TEXT}'::text", "image_url": "NULL::text"}
        lines = [f"\\set room random(1, {len(rooms)})", "\\set a random(0, 4294967295)", "\\set b random(0, 4294967295)"]
        return "\n".join(lines) + "\n" + self.statements["chat.send"].bound(values) + ";\n"

    def summary(self, runs: dict, rate: str) -> dict:
        found = {}
        for side, each in runs.items():
            figures = {key: statistics.median(run[key] for run in each)
                       for key in each[0] if isinstance(each[0][key], (int, float))}
            figures |= {key: sum(run[key] for run in each)
                        for key in ("lost", "out_of_order", "closed", "unacknowledged", "errors") if key in each[0]}
            figures |= {"low": min(run[rate] for run in each), "high": max(run[rate] for run in each)}
            found[side] = {key: round(value, 3) for key, value in figures.items()}
            p99 = f", p99 {figures['p99_ms']:.1f} ms" if "p99_ms" in figures else ""
            say(f"  {side:8} {figures['messages_per_second']:>8,.0f} messages/s"
                + (f", {figures['deliveries_per_second']:>9,.0f} deliveries/s" if "deliveries_per_second" in figures else "")
                + p99)
        return found

    # --- what was missed, and history -------------------------------------------------------------------------------

    def joins(self) -> dict:
        say(f"joining with {MISSED:,} missed messages")
        plan = self.room_plan([self.history], 20, str(HISTORY - MISSED))
        found = {}
        for side in self.sides("server", "peer"):
            figures = self.load("join", port=self.port(side), plan=plan, count=100 * self.rounds).first().result()
            if figures["incomplete"] or figures["errors"] or figures["closed"]:
                raise Failed(f"{side}: joining gave {figures}")
            found[side] = figures
            say(f"  {side:8} p50 {figures['p50_ms']:.2f} ms, p99 {figures['p99_ms']:.2f} ms, {figures['bytes']:,} bytes")
        return found

    def pages(self) -> dict:
        say("pages of history")
        room, seeker, _ = self.history
        token, path = self.tokens[seeker], f"/api/chat/rooms/{self.history[0]}/messages?limit={PAGE}"

        def requests(befores: list[int | None]) -> pathlib.Path:
            return write_requests(self.folder / "pages.bin", [
                request("GET", path + (f"&before_seq={before}" if before else ""), token) for before in befores])
        values = {"room_id": f"'{room}'::uuid", "viewer": f"'{seeker}'::uuid", "before_seq": ":before::bigint",
                  "page": str(PAGE)}
        script = (f"\\set before random({PAGE + 1}, {HISTORY})\n" + self.statements["chat.newest"].bound(values) + ";\n")
        for query in ("", f"&before_seq={PAGE + 1}"):
            status, answer = self.server.call("GET", path + query, token)
            if status != 200 or len(answer["messages"]) != PAGE:
                raise Failed(f"GET {path}{query} answers {status}: {str(answer)[:300]}")
        runs: dict[str, list] = {"server": [], "pgbench": [], "newest": [], "oldest": []}
        for _ in range(self.rounds):
            for side in self.chance.sample(sorted(runs), len(runs)):
                if side == "pgbench":
                    runs[side].append(pgbench(self.hourz, script, self.folder, self.seconds))
                elif side == "server":
                    some = [self.chance.randint(PAGE + 1, HISTORY) for _ in range(4000)]
                    runs[side].append(wrk(self.server, requests(some), 64, self.seconds))
                else:  # without a queue, so that it is the page's own time
                    before = None if side == "newest" else PAGE + 1
                    runs[side].append(wrk(self.server, requests([before]), 1, min(self.seconds, 3)))
        found = {side: {key: round(statistics.median(run[key] for run in each), 3)
                        for key in ("per_second", "p50_ms", "p99_ms", "average_ms", "errors") if key in each[0]}
                 for side, each in runs.items()}
        say(f"  any page {found['server']['per_second']:,.0f}/s, pgbench {found['pgbench']['per_second']:,.0f}/s; newest "
            f"{found['newest']['p50_ms']:.3f} ms, oldest {found['oldest']['p50_ms']:.3f} ms")
        return found

    # --- many sockets -----------------------------------------------------------------------------------------------

    def some_tokens(self, count: int) -> list[str]:
        tokens = list(self.tokens.values())
        return [tokens[n % len(tokens)] for n in range(count)]

    def idle(self) -> dict:
        """On a server that has just been started: memory that something else has left free would be counted as none."""
        count = min(IDLE, self.descriptors - SPARE_DESCRIPTORS)
        say(f"{count:,} idle sockets")
        self.hourz.stop()
        self.server = self.hourz.start("off")
        warm = self.load("idle", port=self.server.port, plan=self.plan([f"{token} -" for token in self.some_tokens(64)]))
        warm.read("OPEN")
        warm.go_on()
        warm.result()
        before = self.server.resident_bytes()
        started = time.monotonic()
        client = self.load("idle", port=self.server.port,
                           plan=self.plan([f"{token} -" for token in self.some_tokens(count)]))
        client.read("OPEN")
        opened_s = time.monotonic() - started
        time.sleep(3)
        after = self.server.resident_bytes()
        client.go_on()
        figures = client.result()
        found = {"sockets": count, "before_bytes": before, "after_bytes": after, "opened_s": round(opened_s, 2),
                 "bytes_a_socket": round((after - before) / count), "closed": figures["closed"]}
        say(f"  {found['bytes_a_socket']:,} bytes a socket; opened in {opened_s:.1f} s")
        return found

    def alerts(self) -> dict:
        """Twice: durable as ever, and with commits that do not wait for the disk. The database notes a commit's time
        before it waits, so the first holds the disk's time too, and the second is what the server takes."""
        found = self.alerts_once("on")
        self.hourz.sql("UPDATE gigs SET title = 'Past ' || title WHERE title LIKE 'Bench alert %'")
        at_once = self.alerts_once("off")
        found["lost"] += at_once["lost"]
        return found | {f"{name}_without_disk": value for name, value in at_once.items() if name.startswith("from_commit")}

    def alerts_once(self, synchronous_commit: str) -> dict:
        count = min(AREAS, self.descriptors - SPARE_DESCRIPTORS)
        say(f"{count:,} sockets that watch an area each, synchronous_commit {synchronous_commit}")
        (south, north), (west, east) = THAILAND
        areas = [(round(self.chance.uniform(south, north), 6), round(self.chance.uniform(west, east), 6),
                  round(self.chance.uniform(2, 10), 3)) for _ in range(count)]
        seeker = self.people[-1]
        watchers = [token for user, token in self.tokens.items() if user != seeker]
        plan = self.plan([f"{watchers[n % len(watchers)]} area {latitude} {longitude} {radius}"
                          for n, (latitude, longitude, radius) in enumerate(areas)])
        posts = []
        for number in range(round(POSTS_PER_SECOND * self.seconds * max(2, self.rounds))):
            posts.append(request("POST", "/api/gigs", self.tokens[seeker], {
                "title": f"Bench alert {number:06}", "description": "Carry a sofa down three floors.", "category": "moving",
                "duration_hours": 2, "budget": 650, "latitude": round(self.chance.uniform(south, north), 6),
                "longitude": round(self.chance.uniform(west, east), 6)}))
        # The time of each commit is known to the database alone, and to it from its next start on.
        self.hourz.sql("ALTER SYSTEM SET track_commit_timestamp = on")
        self.hourz.sql(f"ALTER SYSTEM SET synchronous_commit = {synchronous_commit}")
        self.hourz.stop()
        self.server = self.hourz.start("off")
        before = self.match_time()
        resident = self.server.resident_bytes()
        arrivals = self.folder / "arrivals.txt"
        client = self.load("alerts", port=self.server.port, plan=plan, patience=600, rate=POSTS_PER_SECOND,
                           posts=write_requests(self.folder / "posts.bin", posts), arrivals=arrivals)
        client.read("OPEN")
        held = self.server.resident_bytes()
        client.first().go_on()
        figures = client.result()
        after = self.match_time()
        if figures["refused"] or figures["closed"] or figures["posted"] != len(posts):
            raise Failed(f"alerts: {figures}")
        figures |= {"expected": self.expected_alerts(areas), "areas": count,
                    "bytes_a_socket": round((held - resident) / count),
                    "match_and_tell_us": round((after[0] - before[0]) / max(1, after[1] - before[1]) * 1e6, 2)}
        figures["lost"] = abs(figures["expected"] - figures["alerts"]) + figures["twice"]
        committed = {int(number): float(at) for number, at in self.hourz.sql(
            "SELECT right(title, 6), extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1e6 FROM gigs "
            "WHERE title LIKE 'Bench alert %'")}
        since_commit = sorted((float(at) - committed[int(number)]) / 1000 for number, at in
                              (line.split() for line in arrivals.read_text().splitlines()))
        if not since_commit:
            raise Failed("no gig was in any area")
        figures |= {f"from_commit_p{part}_ms": round(since_commit[int(part / 100 * (len(since_commit) - 1))], 3)
                    for part in (50, 99)}
        say(f"  {figures['alerts']:,.0f} alerts of {figures['expected']:,}: p50 {figures['from_commit_p50_ms']:.2f} ms, p99 "
            f"{figures['from_commit_p99_ms']:.2f} ms from the commit, p50 {figures['from_sending_p50_ms']:.2f} ms, p99 "
            f"{figures['from_sending_p99_ms']:.2f} ms from before the post; matching with telling "
            f"{figures['match_and_tell_us']:.1f} µs a thread")
        return figures

    def match_time(self) -> tuple[float, float]:
        _, text = self.server.call("GET", "/metrics")
        return tuple(sum(float(value) for value in re.findall(rf"^{HISTOGRAM}_{part}\S* (\S+)$", text, re.MULTILINE))
                     for part in ("sum", "count"))

    def expected_alerts(self, areas: list) -> int:
        """By the database's own measure, of the points that strangers are shown."""
        rows = "\n".join(f"{latitude}\t{longitude}\t{radius * 1000}" for latitude, longitude, radius in areas)
        found = self.hourz.sql(
            "CREATE TEMP TABLE area (latitude float8, longitude float8, radius_m float8);\n"
            f"COPY area FROM stdin;\n{rows}\n\\.\n"
            "ALTER TABLE area ADD middle geography; UPDATE area SET middle = ST_MakePoint(longitude, latitude)::geography;\n"
            "CREATE INDEX ON area USING gist (middle); ANALYZE area;\n"
            "SELECT count(*) FROM gigs g JOIN area a ON ST_DWithin(a.middle, g.public_location, 10000) "
            "AND ST_Distance(a.middle, g.public_location) <= a.radius_m WHERE g.title LIKE 'Bench alert %';\n")
        return int(found[-1][0])

    def matching(self) -> dict:
        found = self.load("match", areas=AREAS).result()
        say(f"  {AREAS:,} areas in the index alone: mean {found['mean_us']:.1f} µs, p99 {found['p99_us']:.1f} µs a gig")
        return found

    # --- all of it --------------------------------------------------------------------------------------------------

    def measure(self) -> dict:
        result = {"rounds": self.rounds, "seconds": self.seconds, "descriptors": self.descriptors}
        for name, part in (("idle", self.idle), ("fan_out", self.fan_out), ("rooms", self.rooms),
                           ("join", self.joins), ("pages", self.pages), ("alerts", self.alerts),
                           ("matching", self.matching)):
            result[name] = part()
            self.note_load(name)
        return result | {"load_average_after": self.loads}

    def stop(self) -> None:
        if self.peer:
            self.peer.stop()


def measure(hourz: Hourz, folder: pathlib.Path, binary: pathlib.Path, rounds: int, seconds: float,
            with_peer: bool) -> dict:
    """On the cluster of `hourz`, which has users and gigs; its server is started anew, with the rate limits lifted."""
    client = binary.parent.parent / "bench" / "hourz_socket_load"
    if not client.exists():
        raise Failed(f"{client} is missing: ./dev build release hourz_socket_load")
    sockets = Sockets(hourz, folder, client, rounds, seconds, with_peer)
    try:
        sockets.prepare()
        return sockets.measure()
    finally:
        sockets.stop()
