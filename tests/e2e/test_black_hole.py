"""F04, W11: the way to the database, or to a client, swallows everything and says nothing: no answer, no reset. Only
deadlines notice."""

import contextlib
import os
import time

import pytest

import harness
from harness import Client, Person, Server, cluster, gig, run_as, scratch, slack, wait_for
from network import ESTABLISHED, FIN_WAIT1, Way, mute, tcp_states
from sockets import Meeting


@contextlib.contextmanager
def server_behind_a_hole(kind):
    """Over a socket of the file system, or over TCP, where the kernel itself drops every packet."""
    with cluster() as database, scratch() as folder:
        front = None
        if kind == "unix":
            os.mkdir(f"{folder}/between", 0o755)
            front = f"{folder}/between/.s.PGSQL.5432"
        with Way(f"{database.sockets}/.s.PGSQL.5432", front) as between:
            base = f"host=127.0.0.1 port={between.port}" if front is None else f"host={folder}/between port=5432"
            if front is not None:
                owner = run_as()
                os.chown(f"{folder}/between", owner.pw_uid, owner.pw_gid)
            running = None
            try:
                running = Server(f"{folder}/data", database_url=f"{base} dbname=hourz user=hourz_app",
                                 migration_url=f"{base} dbname=hourz user=hourz_owner")
                yield running, between
            finally:
                if running is not None:
                    running.close()


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_black_hole_is_noticed_and_left(kind):
    with server_behind_a_hole(kind) as (server, hole), Person(server.base) as person:
        made = person.post("/api/gigs", gig(), 201).json["id"]
        hole.dark()
        with Client(server.base, person.token, check=False) as client:
            for method, target, body in [("GET", f"/api/gigs/{made}", None), ("POST", "/api/gigs", gig()),
                                         ("GET", "/api/gigs?sort=newest", None), ("POST", "/api/gigs", gig())]:
                answer = client.call(method, target, body)
                assert answer.status == 503, answer
                assert answer.seconds < slack(5), answer
            assert client.call("GET", "/health/ready").status == 503
            assert client.call("GET", "/health/live").status == 200
            if kind == "tcp":
                # Connections that were given up with something still unsaid end too, by TCP_USER_TIMEOUT, and do not stay
                # with the kernel for minutes. What tries to connect meanwhile is in another state.
                wait_for(lambda: FIN_WAIT1 not in tcp_states(hole.port), "the kernel keeps no dead connection", slack(10))
            hole.light()
            light = time.monotonic()
            wait_for(lambda: client.call("GET", f"/api/gigs/{made}").status == 200, "reads are back", 20)
            wait_for(lambda: client.call("POST", "/api/gigs", gig()).status == 201, "writes are back", 20)
            assert time.monotonic() - light < slack(5)


def test_a_device_behind_a_black_hole_is_gone_for_the_others():
    """W11: the kernel of a device acknowledges nothing any more. Whoever is in its rooms is told in time, and nothing of
    the connection is left; who answers pings stays."""
    ping_s = 1
    with harness.server(ping_interval_ms=1000 * ping_s) as own, Person(own.base, "Mali") as mali, \
            Person(own.base, "Somchai") as somchai:
        meeting = Meeting(mali, somchai)
        with meeting.joined(mali) as hers, meeting.joined(somchai) as his:
            hers.expect("presence", user_id=somchai.id, online=True)
            port = his.peer.getsockname()[1]
            assert tcp_states(port) == [ESTABLISHED]
            mute(his.peer)
            began = time.monotonic()
            hers.expect("presence", user_id=somchai.id, online=False)
            took = time.monotonic() - began
            # Silence is two and a half pings, and looked for every second.
            assert 1.5 * ping_s < took < slack(2.5 * ping_s + 3), took
            wait_for(lambda: not tcp_states(port), "its connection is gone", slack(5))
            meeting.say(mali, "Are you there?")
            hers.message("Are you there?")
            with meeting.joined(somchai) as back:
                hers.expect("presence", user_id=somchai.id, online=True)
                back.fence()
