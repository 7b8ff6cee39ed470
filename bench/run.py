#!/usr/bin/env python3
"""./dev bench: Hourz, the limit of its database and a peer, measured in turns in one run.

Starts its own server on its own cluster in a temporary folder, fills it with demo data, and ends all of it again.
Writes bench/results/latest.json, .md and .svg; a run of another size joins the sizes that are there already.
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

import capacity
import money
import money_report
import report
import socket_report
import sockets
import statements
import uploads
import uploads_report
from load import (POSTGRES_BIN, ROOT, Failed, Hourz, end_wrk, paced, pgbench, request, start_peer, start_wrk, without_autogroups,
                  wrk, write_requests)

PARTS = ("http", "money", "uploads", "sockets")
USERS = 20_000
ACCOUNTS_A_RUN = 1_000  # 300 requests a minute each: a run stays below, and the next run takes others
READERS = 8  # connections that read without pause beside logins
PACES = {500: 16, 2_000: 32}  # gig reads a second beside logins, over as many connections
SEEKER = "seeker@hourz.example"
PASSWORD = "hourz-demo-2026"

CANDIDATES = 27  # what the server asks the index for to give a page of 20 (core/nearest.hpp)

# An id like the server's: sorted by time.
NEW_ID = ("(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || "
          "substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid")

# Where the dense neighbourhoods are: centres of some of src/demo/places.cpp.
DENSE = [(13.7456, 100.5341), (13.7797, 100.5446), (13.7303, 100.5815), (13.7245, 100.5852), (13.7305, 100.5697),
         (13.7370, 100.5603), (13.7285, 100.5330), (13.7190, 100.5310), (13.7628, 100.5371), (13.7583, 100.5651),
         (13.7786, 100.5738), (13.8065, 100.5737), (13.8423, 100.5773), (13.6681, 100.6106), (13.7056, 100.6040),
         (13.7557, 100.6205), (13.7410, 100.5090), (13.7776, 100.4764), (18.7999, 98.9679), (7.8847, 98.3886)]
SPREAD = 0.008  # degrees, some 900 m

# What a map shows: bounds and zoom, from the whole world to a street.
VIEWS = {
    "the world, zoom 0": (-85, -180, 85, 180, 0),
    "South-East Asia, zoom 4": (-11, 92, 24, 127, 4),
    "Thailand, zoom 6": (5.5, 97.3, 20.5, 105.7, 6),
    "Bangkok and around, zoom 10": (13.45, 100.2, 14.05, 100.95, 10),
    "inner Bangkok, zoom 12": (13.66, 100.45, 13.85, 100.65, 12),
    "Sukhumvit, zoom 14": (13.705, 100.545, 13.755, 100.60, 14),
    "Thong Lo, zoom 16": (13.7225, 100.574, 13.738, 100.589, 16),
    "one street, zoom 19": (13.7295, 100.5805, 13.7315, 100.5825, 19),
}


def say(words: str) -> None:
    print(f"· {words}", flush=True)


def near_dense(chance: random.Random) -> tuple[float, float]:
    latitude, longitude = chance.choice(DENSE)
    return (round(latitude + chance.uniform(-SPREAD, SPREAD), 6),
            round(longitude + chance.uniform(-SPREAD, SPREAD), 6))


def new_gig(chance: random.Random) -> dict:
    latitude, longitude = near_dense(chance)
    return {"title": "Carry a sofa down three floors", "category": "moving", "duration_hours": 2, "budget": 650,
            "description": "No lift in the old building and a narrow turn on the stairs. Gloves are provided.",
            "latitude": latitude, "longitude": longitude, "address_text": "Soi 7, Watthana, Bangkok 10110"}


class Bench:
    def __init__(self, arguments: argparse.Namespace, folder: pathlib.Path):
        self.gigs, self.folder = arguments.gigs, folder
        self.rounds = 1 if arguments.quick else arguments.rounds
        self.seconds = 2.0 if arguments.quick else arguments.seconds
        self.with_peer = not arguments.no_peer
        self.binary = arguments.binary
        self.chance = random.Random(20261123)
        self.hourz = Hourz(arguments.binary, folder)
        self.server = self.peer = None
        self.accounts: list[str] = []  # tokens
        self.taken = 0
        self.gig_ids: list[str] = []
        self.runs: dict[tuple, list[dict]] = {}

    # --- what is there before measuring ---------------------------------------------------------------------------

    def prepare(self) -> dict:
        say("starting the server on a cluster of its own")
        self.server = self.hourz.start("on")
        say(f"loading {self.gigs:,} gigs of {USERS:,} users")
        started = time.monotonic()
        self.hourz.run("demo", "--users", str(USERS), "--gigs", str(self.gigs), "--seed", "1")
        load_s = time.monotonic() - started
        say(f"loaded in {load_s:.0f} s")
        self.hourz.sql("VACUUM (ANALYZE); CHECKPOINT")
        people = self.hourz.sql("SELECT id FROM users ORDER BY md5(id::text) LIMIT 16000")
        self.hourz.sql("INSERT INTO sessions (id, user_id, expires_at) SELECT md5('bench' || id)::uuid, id, "
                       "now() + interval '1 day' FROM users")
        sessions = dict(self.hourz.sql("SELECT user_id, id FROM sessions"))
        self.people = [row[0] for row in people]
        self.accounts = [self.hourz.token(user, sessions[user]) for user in self.people]
        self.gig_ids = [row[0] for row in self.hourz.sql("SELECT id FROM gigs ORDER BY md5(id::text) LIMIT 4000")]
        self.statements = {}
        for room in ("users", "auth", "gigs"):
            self.statements.update(statements.read(room))
        if self.with_peer:
            say("starting the peer")
            named = {name: {"text": each.text, "parameters": each.parameters}
                     for name, each in self.statements.items()}
            path = self.folder / "statements.json"
            path.write_text(json.dumps(named))
            self.peer = start_peer(self.hourz, self.folder, path)
        self.compare_answers()
        return {"gigs": self.gigs, "users": USERS, "rounds": self.rounds, "seconds": self.seconds,
                "load_s": round(load_s, 1)}

    def compare_answers(self) -> None:
        """The three sides must do the same work: what they answer is compared before anything is timed."""
        paths = [f"/api/gigs/{self.gig_ids[0]}", f"/api/gigs/{self.gig_ids[1]}",
                 "/api/gigs?latitude=13.7303&longitude=100.5815&radius_km=5&limit=20"]
        for path in paths:
            status, ours = self.server.call("GET", path, self.accounts[0])
            if status != 200:
                raise Failed(f"GET {path} answers {status}: {ours}")
            if "limit=20" in path and len(ours["gigs"]) != 20:
                raise Failed(f"GET {path} gives {len(ours['gigs'])} gigs, not 20")
            if self.peer:
                status, theirs = self.peer.call("GET", path, self.accounts[0])
                for answer in (ours, theirs):
                    if isinstance(answer, dict):
                        answer.pop("next_cursor", None)  # each signs its own
                if status != 200 or ours != theirs:
                    raise Failed(f"GET {path}: the peer answers differently ({status})\n{theirs}\nand we\n{ours}")
        for side in filter(None, (self.server, self.peer)):
            status, answer = side.call("POST", "/api/gigs", self.accounts[0], new_gig(self.chance))
            if status != 201:
                raise Failed(f"{side.name}: POST /api/gigs answers {status}: {answer}")
            if side is self.server:
                self.posted = self.columns_of(answer["id"])

    def columns_of(self, gig: str) -> dict[str, str]:
        """What the server wrote for a gig, as SQL constants for pgbench to write the same."""
        names = ("title", "description", "category", "duration_hours", "budget", "cell_x", "cell_y", "address_text",
                 "image_urls", "terms", "starts_at", "expires_at")
        columns = ", ".join(f"quote_nullable({name})" for name in names)
        found = self.hourz.sql(f"SELECT {columns} FROM gigs WHERE id = '{gig}'")[0]
        types = {"duration_hours": "double precision", "budget": "bigint", "cell_x": "integer", "cell_y": "integer",
                 "image_urls": "text[]", "terms": "text[]", "starts_at": "timestamptz", "expires_at": "timestamptz"}
        constants = {name: f"{value}::{types.get(name, 'text')}" for name, value in zip(names, found)}
        return constants | {"id": NEW_ID, "public_latitude": ":latitude", "public_longitude": ":longitude"}

    # --- requests ---------------------------------------------------------------------------------------------------

    def tokens(self) -> list[str]:
        """The accounts of the next run."""
        start = self.taken % len(self.accounts)
        self.taken += ACCOUNTS_A_RUN
        return self.accounts[start:start + ACCOUNTS_A_RUN]

    def requests(self, name: str) -> pathlib.Path:
        pick, tokens = self.chance.choice, self.tokens()

        def turn(number: int) -> str:
            """Accounts take turns: drawn by chance, some would come often enough to meet their rate limit."""
            return tokens[number % len(tokens)]

        if name == "live":
            all_of_them = [request("GET", "/health/live")]
        elif name == "gig":
            all_of_them = [request("GET", f"/api/gigs/{pick(self.gig_ids)}", turn(i)) for i in range(4000)]
        elif name == "near":
            all_of_them = []
            for i in range(4000):
                latitude, longitude = near_dense(self.chance)
                query = f"latitude={latitude}&longitude={longitude}&radius_km=5&limit=20"
                all_of_them.append(request("GET", f"/api/gigs?{query}", turn(i)))
        elif name == "post":
            all_of_them = [request("POST", "/api/gigs", turn(i), new_gig(self.chance)) for i in range(4000)]
        elif name == "login":
            all_of_them = [request("POST", "/api/auth/login", None, {"email": SEEKER, "password": PASSWORD})]
        else:
            bounds = dict(zip(("min_latitude", "min_longitude", "max_latitude", "max_longitude", "zoom"), VIEWS[name]))
            query = urllib.parse.urlencode(bounds)
            all_of_them = [request("GET", f"/api/gigs/map?{query}", token) for token in tokens]
        return write_requests(self.folder / "requests.bin", all_of_them)

    # --- pgbench ----------------------------------------------------------------------------------------------------

    def script(self, name: str) -> str:
        """The server's own statement with the server's own parameters. One script, so that each client plans it once."""
        def one_of(ids: list[str], variable: str) -> str:
            return f"('{{{','.join(ids)}}}'::uuid[])[:{variable}]"
        viewers = self.chance.sample(self.people, 1000)
        lines = [f"\\set person random(1, {len(viewers)})", f"\\set gig random(1, {len(self.gig_ids)})"]
        values = {"viewer": one_of(viewers, "person"), "id": one_of(self.gig_ids, "gig")}
        statement = "gigs.by_id"
        if name != "gig":
            reach = round(SPREAD * 1e6)
            lines.append(f"\\set place random(1, {len(DENSE)})")
            for axis, variable in enumerate(("latitude", "longitude")):
                cases = " ".join(f"when :place = {n + 1} then {point[axis]}" for n, point in enumerate(DENSE))
                lines.append(f"\\set {variable} (case {cases} end) + random(-{reach}, {reach}) / 1000000.0")
            values |= {"latitude": ":latitude", "longitude": ":longitude"}
        if name == "near":
            statement = "gigs.near_plain"
            values |= {"candidates": str(CANDIDATES)}
        elif name == "post":
            statement = "gigs.create"
            values |= self.posted
        return "\n".join(lines) + "\n" + self.statements[statement].bound(values) + ";\n"

    # --- runs -------------------------------------------------------------------------------------------------------

    def note(self, operation: str, side: str, connections: int, figures: dict) -> None:
        self.runs.setdefault((operation, side, connections), []).append(figures)
        errors = f", {figures['errors']} errors" if figures["errors"] else ""
        p99 = f", p99 {figures['p99_ms']:.2f} ms" if "p99_ms" in figures else ""
        say(f"  {operation:5} {side:8} {connections:4}: {figures['per_second']:>10,.0f}/s{p99}{errors}")

    def load_server(self, operation: str, connections: int) -> None:
        self.note(operation, "server", connections,
                  wrk(self.server, self.requests(operation), connections, self.seconds))

    def take_turns(self, operation: str) -> None:
        if operation == "post":
            self.hourz.sql("CHECKPOINT")  # so that none inherits the writing of another
        for side in self.chance.sample(["server", "pgbench", "peer"], 3):
            if side == "server":
                self.load_server(operation, 64)
            elif side == "pgbench":
                self.note(operation, side, 16, pgbench(self.hourz, self.script(operation), self.folder, self.seconds))
            elif self.peer:
                self.note(operation, side, 64, wrk(self.peer, self.requests(operation), 64, self.seconds))

    def measure(self) -> dict:
        say("warming up")  # a Node process is compiled while it runs, and plans are made
        for operation in ("gig", "near"):
            for side in filter(None, (self.server, self.peer)):
                wrk(side, self.requests(operation), 64, self.seconds / 2)
        # Reads first: posting changes what they read.
        for number in range(self.rounds):
            say(f"reads, round {number + 1} of {self.rounds}")
            for operation in ("gig", "near"):
                self.take_turns(operation)
            self.load_server("live", 64)
            for connections in (1, 16, 256):
                for operation in ("live", "gig", "near"):
                    self.load_server(operation, connections)
        views = self.map_views()
        for number in range(self.rounds):
            say(f"posting, round {number + 1} of {self.rounds}")
            self.take_turns("post")
            for connections in (1, 16, 256):
                self.load_server("post", connections)
        at_256 = [figures for (_, side, connections), each in self.runs.items() for figures in each
                  if side == "server" and connections == 256]
        all_of_them = [figures for (_, side, _), each in self.runs.items() for figures in each if side == "server"]
        result = {
            "operations": self.summary(), "map": views,
            "at_256": {"resident_bytes": max(figures["resident_bytes"] for figures in at_256),
                       "errors": sum(figures["errors"] for figures in at_256)},
            "errors": sum(figures["errors"] for figures in all_of_them),
            "login": self.logins_without_autogroups(),
        }
        return result

    def summary(self) -> dict:
        operations: dict = {}
        for (operation, side, connections), runs in self.runs.items():
            rates = [figures["per_second"] for figures in runs]
            figures = {"per_second": statistics.median(rates), "low": min(rates), "high": max(rates),
                       "errors": sum(each["errors"] for each in runs)}
            for key in ("p50_ms", "p90_ms", "p99_ms", "average_ms"):
                if key in runs[0]:
                    figures[key] = statistics.median(each[key] for each in runs)
            operations.setdefault(operation, {}).setdefault(side, {})[str(connections)] = {
                key: round(value, 3) for key, value in figures.items()}
        order = ["live", "gig", "near", "post"]
        return {name: {side: dict(sorted(each.items(), key=lambda pair: int(pair[0])))
                       for side, each in operations[name].items()} for name in order if name in operations}

    def map_views(self) -> dict:
        say("map views")
        found = {}
        for name, bounds in VIEWS.items():
            query = urllib.parse.urlencode(dict(zip(
                ("min_latitude", "min_longitude", "max_latitude", "max_longitude", "zoom"), bounds)))
            patience = time.monotonic() + 10  # what the run before left in the queues
            while True:
                status, answer = self.server.call("GET", f"/api/gigs/map?{query}", self.accounts[0])
                if status != 503 or time.monotonic() > patience:
                    break
                time.sleep(0.2)
            if status != 200:
                raise Failed(f"GET /api/gigs/map?{query} answers {status}: {answer}")
            figures = wrk(self.server, self.requests(name), 1, min(self.seconds, 3))
            found[name] = {"p50_ms": figures["p50_ms"], "p99_ms": figures["p99_ms"], "errors": figures["errors"],
                           "marks": len(answer["gigs"]) + len(answer["clusters"])}
            say(f"  {name}: p50 {figures['p50_ms']:.2f} ms, {found[name]['marks']} marks")
        return found

    # --- logins -----------------------------------------------------------------------------------------------------

    def logins_without_autogroups(self) -> dict:
        with without_autogroups() as autogroups:
            return {**self.logins(), "autogroups": autogroups}

    def logins(self) -> dict:
        """With the rate limits lifted: they would stop it after five."""
        say("logins")
        self.server.stop()
        self.server = self.hourz.start("off")
        seconds = max(self.seconds, 4)
        alone, through, beside, crowded = [], [], [], []
        before: dict[int, list[dict]] = {pace: [] for pace in PACES}
        during: dict[int, list[dict]] = {pace: [] for pace in PACES}
        reads, logins = self.requests("gig"), write_requests(
            self.folder / "logins.bin", [request("POST", "/api/auth/login", None,
                                                 {"email": SEEKER, "password": PASSWORD})])
        # A p99 needs some thousand reads, also at the slowest pace.
        read_s = max(self.seconds, 4) * 1.5
        for _ in range(self.rounds):
            alone.append(hashes_a_second(self.binary, seconds))
            figures = wrk(self.server, logins, 16, seconds)
            if figures["errors"]:
                raise Failed(f"{figures['errors']} of {figures['requests']} logins failed")
            through.append(figures["per_second"])
            beside.append(wrk(self.server, reads, READERS, seconds)["per_second"])
            for pace, connections in PACES.items():
                before[pace].append(paced(self.server, reads, pace, connections, read_s))
            crowd = start_wrk(self.server.port, logins, 100, read_s * len(PACES) + seconds + 3)
            time.sleep(1)  # all hundred are in
            for pace, connections in PACES.items():
                during[pace].append(paced(self.server, reads, pace, connections, read_s))
            crowded.append(wrk(self.server, reads, READERS, seconds)["per_second"])
            if end_wrk(crowd)["errors"]:
                raise Failed("some of 100 logins at once failed")
        result = {"hash_alone_per_second": round(statistics.median(alone), 3),
                  "per_second": round(statistics.median(through), 3), "reads_connections": READERS,
                  "reads_per_second_before": round(statistics.median(beside), 3),
                  "reads_per_second_during": round(statistics.median(crowded), 3), "paces": {}}
        for pace, connections in PACES.items():
            found = {"connections": connections}
            for when, runs in (("before", before[pace]), ("during", during[pace])):
                found[f"errors_{when}"] = sum(each["errors"] for each in runs)
                for key in ("p50_ms", "p99_ms", "p999_ms", "sent_late_p99_ms"):
                    found[f"{key}_{when}"] = round(statistics.median(each[key] for each in runs), 3)
            result["paces"][str(pace)] = found
            say(f"  {pace} reads/s: p99 {found['p99_ms_before']:.2f} ms, during logins {found['p99_ms_during']:.2f} ms")
        say(f"  {result['per_second']:.1f} logins a second, the hash alone {result['hash_alone_per_second']:.1f}")
        return result

    def stop(self) -> None:
        if self.peer:
            self.peer.stop()
        self.hourz.stop()


def hashes_a_second(binary: pathlib.Path, seconds: float) -> float:
    """Argon2id at the server's own cost on a pool like the server's own, and nothing else."""
    program = binary.parent.parent / "bench" / "hourz_hash_load"
    return float(subprocess.run([program, str(seconds)], capture_output=True, text=True, check=True).stdout)


def machine() -> str:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{os.cpu_count()} cores, {round(pages / 2**30)} GiB"


def versions() -> dict:
    def first(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True)
        return (done.stdout or done.stderr).strip().splitlines()[0]
    peer = json.loads((ROOT / "bench" / "peers" / "fastify" / "package.json").read_text())["dependencies"]
    return {"PostgreSQL": first(str(POSTGRES_BIN / "postgres"), "--version").split()[2],
            "wrk": first("wrk", "-v").split()[1].removeprefix("debian/"), "Node": first("node", "--version"),
            "Fastify": peer["fastify"], "pg": peer["pg"]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.splitlines()[0])
    parser.add_argument("--gigs", type=int, default=100_000, help="how many gigs to load (100000; try 2000000 too)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each run")
    parser.add_argument("--quick", action="store_true", help="one round of short runs, to see that all of it works; "
                        "its results go to build/bench")
    parser.add_argument("--no-peer", action="store_true", help="without the peers (needs no npm)")
    parser.add_argument("--only", choices=PARTS,
                        help="a part; the others' results stay as they are")
    parser.add_argument("--first", action="store_true", help="as root: money and uploads come before the machine's other "
                        "users, when it is not left alone")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "build" / "release" / "src" / "hourz")
    parser.add_argument("--output", type=pathlib.Path, help="folder of the report (bench/results)")
    arguments = parser.parse_args()
    output = arguments.output or ROOT / ("build/bench" if arguments.quick else "bench/results")
    parts = {arguments.only} if arguments.only else set(PARTS)
    arguments.no_peer = arguments.no_peer or not parts & {"http", "sockets"}
    found_programs = {"wrk": shutil.which("wrk"), "node": arguments.no_peer or shutil.which("node"),
                      "nginx": "uploads" not in parts or uploads.find_nginx()}
    for program, is_found in found_programs.items():
        if not is_found:
            print(f"✗ {program} is missing: ./dev install bench web", file=sys.stderr)
            return 2

    # Not under a home directory: the database runs as another user when this runs as root.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hourz-bench-", dir="/var/tmp"))
    folder.chmod(0o755)
    bench = Bench(arguments, folder)
    started = time.monotonic()
    try:
        run = bench.prepare()
        found = {}
        if "http" in parts:
            run.update(bench.measure())
        if bench.peer:
            bench.peer.stop()
        if "money" in parts:
            found["money"] = money.measure(bench.hourz, folder, bench.rounds, bench.seconds, arguments.first)
        if "uploads" in parts:
            found["uploads"] = uploads.measure(bench.hourz, folder, bench.rounds, bench.seconds, bench.accounts, bench.gig_ids,
                                               arguments.first)
        if "sockets" in parts:
            found["sockets"] = sockets.measure(bench.hourz, folder, arguments.binary, bench.rounds, bench.seconds, bench.with_peer)
    except Failed as failure:
        print(f"✗ {failure}", file=sys.stderr)
        return 1
    finally:
        bench.stop()
        shutil.rmtree(folder, ignore_errors=True)

    output.mkdir(parents=True, exist_ok=True)
    result = {"sizes": {}}
    with contextlib.suppress(OSError, ValueError):
        result = json.loads((output / "latest.json").read_text())
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    sizes = {**result["sizes"], str(arguments.gigs): run} if "http" in parts else result["sizes"]
    found = {part: found.get(part, result.get(part)) for part in PARTS if part != "http"}
    result = {"machine": machine(), "commit": commit.stdout.strip() or "unknown", "versions": versions(),
              "sizes": sizes, **found,
              "checks": report.checks(sizes) + money_report.checks(found["money"])
              + uploads_report.checks(found["uploads"]) + socket_report.checks(found["sockets"])}
    (output / "latest.json").write_text(json.dumps(result, indent=1) + "\n")
    (output / "latest.md").write_text(report.markdown(result))
    (output / "latest.svg").write_text(report.plot(result))
    if output == ROOT / "bench/results":
        capacity.write()

    print()
    for each in result["checks"]:
        sign = ">=" if each["at_least"] else "<="
        print(f"{'met   ' if each['pass'] else 'MISSED'}  {each['what']}: {each['measured']:,.4g} {each['unit']} "
              f"(target {sign} {each['target']:,g})")
    print()
    say(f"done in {time.monotonic() - started:.0f} s; the report is in "
        f"{os.path.relpath(output)}/latest.md")
    return 0 if run.get("errors", 0) == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
