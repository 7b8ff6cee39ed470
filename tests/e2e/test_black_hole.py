"""F04: the way to the database swallows everything and says nothing: no answer, no reset. Only deadlines notice."""

import contextlib
import os
import socket
import threading
import time

from harness import Client, Person, Server, cluster, gig, run_as, scratch, slack, wait_for


class Swallower:
    """Stands between server and database on a socket of its own. While dark it takes what comes and passes on nothing."""

    def __init__(self, folder, behind):
        self.behind, self.dark, self.ended = f"{behind}/.s.PGSQL.5432", threading.Event(), False
        self.sockets = f"{folder}/between"
        os.mkdir(self.sockets, 0o755)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{self.sockets}/.s.PGSQL.5432")
        os.chmod(f"{self.sockets}/.s.PGSQL.5432", 0o777)
        self.listener.listen(256)
        self.open = []
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def urls(self):
        base = f"host={self.sockets} port=5432 dbname=hourz user="
        return {"database_url": base + "hourz_app", "migration_url": base + "hourz_owner"}

    def accept(self):
        while not self.ended:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            there = socket.socket(socket.AF_UNIX)
            there.connect(self.behind)
            self.open += [here, there]
            for source, target in ((here, there), (there, here)):
                threading.Thread(target=self.pass_on, args=(source, target), daemon=True).start()

    def pass_on(self, source, target):
        swallowed = False
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                # Once something is lost the stream is broken for good, as after a cable that was cut.
                swallowed = swallowed or self.dark.is_set()
                if not swallowed:
                    target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.ended = True
        for one in [self.listener, *self.open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.thread.join()


@contextlib.contextmanager
def server_behind_a_hole():
    with cluster() as database, scratch() as folder:
        owner = run_as()
        between = Swallower(folder, database.sockets)
        os.chown(between.sockets, owner.pw_uid, owner.pw_gid)
        running = None
        try:
            running = Server(f"{folder}/data", **between.urls())
            yield running, between
        finally:
            if running is not None:
                running.close()
            between.close()


def test_a_black_hole_is_noticed_and_left():
    with server_behind_a_hole() as (server, hole), Person(server.base) as person:
        made = person.post("/api/gigs", gig(), 201).json["id"]
        hole.dark.set()
        with Client(server.base, person.token, check=False) as client:
            for method, target, body in [("GET", f"/api/gigs/{made}", None), ("POST", "/api/gigs", gig()),
                                         ("GET", "/api/gigs?sort=newest", None), ("POST", "/api/gigs", gig())]:
                answer = client.call(method, target, body)
                assert answer.status == 503, answer
                assert answer.seconds < slack(5), answer
            assert client.call("GET", "/health/ready").status == 503
            assert client.call("GET", "/health/live").status == 200
            hole.dark.clear()
            light = time.monotonic()
            wait_for(lambda: client.call("GET", f"/api/gigs/{made}").status == 200, "reads are back", 20)
            wait_for(lambda: client.call("POST", "/api/gigs", gig()).status == 201, "writes are back", 20)
            assert time.monotonic() - light < slack(5)
