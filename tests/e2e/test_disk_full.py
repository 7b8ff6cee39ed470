"""D5, F07: the disk is full, where the data lies and where PostgreSQL's log lies. Writers are told 503 and nothing else,
reads go on while the database does, and once there is space everything comes back by itself with all that was
acknowledged."""

import contextlib
import time

import pytest

from harness import Client, gig, is_running, quantile, slack, wait_for
from journal import Journal
from races import people
from test_database_lost import ready
from volumes import server_on_volumes


def grow(server, person, seconds=30):
    """Posts large gigs until one is refused for want of space; how many were taken."""
    with Client(server.base, person.token) as client:
        end, taken = time.monotonic() + seconds, 0
        while client.post("/api/gigs", gig(title=f"{person.id} large {taken}", description="ก" * 4000), {201, 503}).status == 201:
            assert time.monotonic() < end, f"still space after {taken}"
            taken += 1
    return taken


def stopped_by_its_log(server, postmaster):
    """The segments that are there already are used up first."""
    with contextlib.suppress(AssertionError, OSError, IndexError):
        server.database().sql("SELECT pg_switch_wal()")
    return not is_running(postmaster)


@pytest.mark.parametrize("what", ["data", "log"])
def test_full(what):
    with server_on_volumes() as (server, data, log):
        folks, pid = people(server.base, 8), server.pid
        kept = folks[1].again().post("/api/gigs", gig(), 201).json["id"]
        with Journal(server.base, list(zip(folks[::2], folks[1::2]))) as journal:
            wait_for(lambda at=time.monotonic(): journal.acknowledged_since(at), "all writers write")
            for _ in range(3):
                postmaster = server.postmaster()
                (data if what == "data" else log).fill()
                if what == "data":
                    grow(server, folks[-1])
                    with Client(server.base, folks[0].token) as client:
                        for _ in range(20):
                            client.get(f"/api/gigs/{kept}")
                            client.get("/api/gigs", sort="newest", limit=20)
                    assert server.postmaster() == postmaster, "PostgreSQL stays up"
                else:
                    wait_for(lambda old=postmaster: stopped_by_its_log(server, old), "PostgreSQL has stopped", 60)
                    with Client(server.base, folks[0].token) as client:
                        assert client.get(f"/api/gigs/{kept}", 503).seconds < slack(3)
                        client.get("/health/ready", 503)
                with Client(server.base) as client:
                    assert max(client.get("/health/live").seconds for _ in range(20)) < slack(0.5)
                (data if what == "data" else log).free()
                began = time.monotonic()
                wait_for(lambda: ready(server.base), "ready", 10)
                wait_for(lambda at=began: journal.acknowledged_since(at), "all writers write again", 10)
                back = time.monotonic() - began
                print(f"{what} full: all write again {back:.2f} s after there is space")
                assert back < slack(5)
            refusals = [o.seconds for o in journal.operations() if o.status == 503]
        counts, happened = journal.check(server.database())
        print(f"{dict(counts)}, {happened} of the open ones had happened; statuses {dict(journal.statuses())}; "
              f"503 after {quantile(refusals, 0.99):.2f} s")
        assert set(journal.statuses()) <= {200, 201, 503} and refusals
        assert server.pid == pid and server.process.poll() is None
