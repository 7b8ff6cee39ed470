"""The uploads part of ./dev bench: storing a photograph, what eight at once do to others' reads, and serving beside nginx.

Runs on the server's cluster of bench/run.py.
"""
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import statistics as figures_of
import subprocess
import threading
import time

import pictures
from load import Failed, Hourz, Server, free_port, paced, put_first, request, without_autogroups, wrk, write_requests

QUALITY = 93  # with the colours halved, as cameras do: some 3.7 MB
UPLOADS = 20  # a round, one after another; fewer where they take long
PATIENCE_S = 30
AT_ONCE = 8
PACES = {500: 16, 2_000: 32}  # gig reads a second beside uploads, over as many connections
SERVED_BYTES = 100_000
CONNECTIONS = 64
BOUNDARY = "hourz-bench"
NGINX_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def say(words: str) -> None:
    print(f"· {words}", flush=True)


def find_nginx() -> str | None:
    return shutil.which("nginx", path=NGINX_PATH)


def as_form(picture: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()


def get(server: Server, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise Failed(f"{server.name}: GET {path} answers {response.status}: {data[:300]!r}")
    return data


class Memory:
    """How much more memory a server came to hold than it held in the beginning, at its highest, with the process that makes
    pictures for it."""

    def __init__(self, server: Server):
        self.folder = pathlib.Path(f"/proc/{server.process.pid}")
        self.maker, self.over = 0, threading.Event()
        threading.Thread(target=self.watch, daemon=True).start()
        with contextlib.suppress(OSError):
            (self.folder / "clear_refs").write_text("5")  # from here on the highest begins at what is held now
        self.before = self.highest()

    def highest(self) -> int:
        return int(re.search(r"VmHWM:\s+(\d+) kB", (self.folder / "status").read_text())[1]) * 1024

    def watch(self) -> None:
        while not self.over.wait(0.01):
            for task in (self.folder / "task").glob("*/children"):
                with contextlib.suppress(OSError, TypeError):
                    for pid in task.read_text().split():
                        maker = pathlib.Path(f"/proc/{pid}")
                        if b"make-picture" in (maker / "cmdline").read_bytes():
                            held = re.search(r"VmHWM:\s+(\d+) kB", (maker / "status").read_text())
                            self.maker = max(self.maker, int(held[1]) * 1024)

    def grown(self) -> int:
        self.over.set()
        return self.highest() - self.before + self.maker


class Uploads:
    def __init__(self, hourz: Hourz, folder: pathlib.Path, rounds: int, seconds: float, tokens: list[str], gigs: list[str]):
        self.hourz, self.folder, self.rounds, self.seconds = hourz, folder, rounds, seconds
        self.chance = random.Random(20261125)
        self.tokens, self.gigs = tokens, gigs
        self.turn, self.turns = 0, threading.Lock()
        self.nginx = None

    def next_token(self) -> str:
        """Accounts take turns, so that none passes its quota."""
        with self.turns:
            self.turn += 1
            return self.tokens[self.turn % len(self.tokens)]

    def upload(self, form: bytes) -> tuple[float, dict]:
        """Stores it; how many milliseconds it took from connecting to the whole answer, and the answer."""
        answer = None
        started = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE_S)
        try:
            connection.request("POST", "/api/upload/gig", form,
                               {"Authorization": f"Bearer {self.next_token()}",
                                "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        spent = (time.perf_counter() - started) * 1e3
        if response.status != 201:
            raise Failed(f"POST /api/upload/gig answers {response.status}: {answer[:300]!r}")
        return spent, json.loads(answer)

    # --- what is there before measuring ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """The rate limits are lifted: ten uploads a minute would tell nothing."""
        self.hourz.stop()
        self.server = self.hourz.start("off")
        path = self.folder / "photo.jpg"
        pictures.make(path, *pictures.TWELVE_MEGAPIXELS, 1, QUALITY)
        data = path.read_bytes()
        self.photo, self.photo_bytes = as_form(data), len(data)
        self.reads = write_requests(self.folder / "reads.bin", [
            request("GET", f"/api/gigs/{gig}", self.tokens[number % len(self.tokens)])
            for number, gig in enumerate(self.gigs)])
        say(f"uploads: a photograph of {pictures.TWELVE_MEGAPIXELS[0]} by {pictures.TWELVE_MEGAPIXELS[1]} pixels, "
            f"{self.photo_bytes / 1e6:.1f} MB")

    def start_nginx(self) -> Server:
        """With as many workers as the server has threads, and nothing but the file to serve."""
        folder = self.folder / "nginx"
        (folder / "files").mkdir(parents=True)
        folder.chmod(0o755)
        port = free_port()
        temporary = "".join(f"  {kind}_temp_path {folder}/{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(
            ("user root;\n" if os.geteuid() == 0 else "") +
            f"worker_processes {os.cpu_count()};\npid {folder}/pid;\ndaemon off;\nevents {{ worker_connections 1024; }}\n"
            f"http {{\n{temporary}  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  open_file_cache max=100;\n"
            "  keepalive_requests 1000000000;\n  types { image/jpeg jpg; }\n"
            f"  server {{\n    listen 127.0.0.1:{port};\n    root {folder}/files;\n  }}\n}}\n")
        picture = folder / "files" / "picture.jpg"
        picture.write_bytes(self.served)
        picture.chmod(0o644)
        return Server("nginx", [find_nginx() or "nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c",
                                str(folder / "nginx.conf")], {}, folder / "out.log", port, "/picture.jpg")

    def make_served(self) -> str:
        """Uploads a picture that is some 100 KB long when it was made anew, and gives its path."""
        width = 1_000
        for _ in range(8):
            path = self.folder / "served.jpg"
            pictures.make(path, width, width * 3 // 4, 2, QUALITY)
            stored = self.upload(as_form(path.read_bytes()))[1]
            if abs(stored["size"] - SERVED_BYTES) < SERVED_BYTES * 0.03:
                self.served = get(self.server, stored["url"])
                return stored["url"]
            width = round(width * (SERVED_BYTES / stored["size"])**0.5)
        raise Failed("no picture of 100 KB came about")

    def go_first(self) -> None:
        """Before the machine's other users, yet in the server's own order: its threads of pictures, which are nice to the
        others, stay behind the server, its database and the loader."""
        self.upload(self.photo)  # its threads say so when they first work
        nice = [int(task.name) for task in pathlib.Path(f"/proc/{self.server.process.pid}/task").iterdir()
                if os.getpriority(os.PRIO_PROCESS, int(task.name)) == 19]
        put_first(os.getpid(), self.server.process.pid)
        for task in nice:
            os.sched_setscheduler(task, os.SCHED_OTHER, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, task, -20)

    # --- measuring --------------------------------------------------------------------------------------------------

    def storing(self) -> dict:
        memory, rounds, stored = Memory(self.server), [], None
        for _ in range(self.rounds):
            taken, until = [], time.monotonic() + 4 * self.seconds
            while len(taken) < UPLOADS and (len(taken) < 3 or time.monotonic() < until):
                try:
                    spent, stored = self.upload(self.photo)
                except TimeoutError:
                    raise Failed(f"an upload had no answer in {PATIENCE_S} s: the threads that make pictures let all others go "
                                 "first, and this machine's leave them nothing; see --first") from None
                taken.append(spent)
            rounds.append(sorted(taken))
        if (stored["width"], stored["height"]) != pictures.TWELVE_MEGAPIXELS:
            raise Failed(f"what was stored is another picture: {stored}")
        middles = [figures_of.median(each) for each in rounds]
        found = {"uploads": sum(len(each) for each in rounds), "p50_ms": figures_of.median(middles), "low": min(middles),
                 "high": max(middles), "max_ms": max(each[-1] for each in rounds), "stored_bytes": stored["size"],
                 "before_bytes": memory.before, "grown_bytes": memory.grown()}
        say(f"  stored in {found['p50_ms']:.0f} ms, {found['grown_bytes'] / 2**20:.0f} MiB more memory")
        return {key: round(value, 3) for key, value in found.items()}

    @contextlib.contextmanager
    def eight_at_once(self, taken: list[float | None]):
        """Eight uploads are under way at any time until it ends; the time of each goes into `taken`, None when there was no
        answer: the threads that make pictures stand still on a machine whose other users leave them nothing."""
        ending, failures = threading.Event(), []

        def work() -> None:
            try:
                while not ending.is_set():
                    try:
                        taken.append(self.upload(self.photo)[0])
                    except TimeoutError:
                        taken.append(None)
            except Exception as failure:  # told by the thread that measures
                failures.append(failure)

        workers = [threading.Thread(target=work) for _ in range(AT_ONCE)]
        for worker in workers:
            worker.start()
        try:
            time.sleep(1)  # all are in
            yield
        finally:
            ending.set()
            for worker in workers:
                worker.join()
        if failures:
            raise Failed(f"uploading eight at once: {failures[0]}")

    def beside(self) -> dict:
        memory, taken, spent = Memory(self.server), [], 0.0
        read_s = max(self.seconds, 4) * 1.5  # a p99 needs some thousand reads, also at the slowest pace
        runs: dict[tuple, list[dict]] = {}
        for number in range(self.rounds):
            # What comes first changes from round to round.
            for loaded in ((False, True), (True, False))[number % 2]:
                started = time.monotonic()
                with self.eight_at_once(taken) if loaded else contextlib.nullcontext():
                    for pace, connections in PACES.items():
                        runs.setdefault((pace, loaded), []).append(
                            paced(self.server, self.reads, pace, connections, read_s))
                spent += time.monotonic() - started if loaded else 0
        stored = [each for each in taken if each is not None]
        result = {"at_once": AT_ONCE, "uploads": len(stored), "uploads_per_second": round(len(stored) / spent, 3),
                  "unanswered": len(taken) - len(stored), "patience_s": PATIENCE_S,
                  "upload_p50_ms": round(figures_of.median(stored), 3) if stored else None, "grown_bytes": memory.grown(), "paces": {}}
        for pace, connections in PACES.items():
            found = {"connections": connections}
            for when, loaded in (("before", False), ("during", True)):
                each_of = runs[pace, loaded]
                found[f"errors_{when}"] = sum(each["errors"] for each in each_of)
                for key in ("p50_ms", "p99_ms", "p999_ms", "sent_late_p99_ms"):
                    found[f"{key}_{when}"] = round(figures_of.median(each[key] for each in each_of), 3)
                found[f"p99_ms_{when}_rounds"] = [round(each["p99_ms"], 3) for each in each_of]
            if found["errors_before"] or found["errors_during"]:
                raise Failed(f"gig reads beside uploads failed: {found}")
            result["paces"][str(pace)] = found
            say(f"  {pace} reads/s beside {len(stored)} uploads: p99 {found['p99_ms_before']:.2f} ms, during uploads "
                f"{found['p99_ms_during']:.2f} ms")
        return result

    def serving(self) -> dict:
        url = self.make_served()
        self.nginx = self.start_nginx()
        if get(self.nginx, "/picture.jpg") != self.served:
            raise Failed("nginx serves another picture")
        sides = {"server": (self.server, url), "nginx": (self.nginx, "/picture.jpg")}
        runs: dict[str, list[dict]] = {side: [] for side in sides}
        for number in range(self.rounds + 1):
            for side in self.chance.sample(sorted(sides), 2):
                server, path = sides[side]
                requests = write_requests(self.folder / "serve.bin", [request("GET", path)])
                figures = wrk(server, requests, CONNECTIONS, self.seconds if number else 1)
                if figures["errors"]:
                    raise Failed(f"{side}: {figures['errors']} of {figures['requests']} pictures failed")
                if number:  # before the first round they warm up
                    runs[side].append(figures)
        found = {}
        for side, each in runs.items():
            rates = [one["per_second"] for one in each]
            found[side] = {key: round(figures_of.median(one[key] for one in each), 3)
                           for key in ("per_second", "p50_ms", "p99_ms")}
            found[side] |= {"low": round(min(rates), 3), "high": round(max(rates), 3)}
        say(f"  serving {len(self.served):,} bytes: {found['server']['per_second']:,.0f}/s, nginx "
            f"{found['nginx']['per_second']:,.0f}/s")
        return found | {"bytes": len(self.served), "connections": CONNECTIONS, "workers": os.cpu_count(),
                        "nginx_version": subprocess.run([find_nginx(), "-v"], capture_output=True,
                                                        text=True).stderr.strip().rpartition("/")[2]}

    def measure(self) -> dict:
        result: dict = {"rounds": self.rounds, "seconds": self.seconds, "pixels": pictures.TWELVE_MEGAPIXELS,
                        "photo_bytes": self.photo_bytes}
        loads = {}
        for name, part in (("storing", self.storing), ("beside", self.beside), ("serving", self.serving)):
            result[name] = part()
            loads[name] = round(os.getloadavg()[0], 1)
        return result | {"load_average_after": loads}

    def stop(self) -> None:
        if self.nginx:
            self.nginx.stop()


def measure(hourz: Hourz, folder: pathlib.Path, rounds: int, seconds: float, tokens: list[str], gigs: list[str],
            first: bool) -> dict:
    """On the cluster of `hourz`, which has these gigs and whose accounts have these tokens; its server is started anew."""
    uploads = Uploads(hourz, folder, rounds, seconds, tokens, gigs)
    try:
        uploads.prepare()
        with without_autogroups() as autogroups:
            if first:
                uploads.go_first()
            return uploads.measure() | {"autogroups": autogroups, "first": first}
    finally:
        uploads.stop()
