"""D01: the server is killed, again and again, while eight writers go on: nothing acknowledged is lost, nothing doubled."""

import random
import time

from harness import Client, is_running, quantile, slack, wait_for
from journal import Journal
from races import people

KILLS = 25


def test_kill_under_eight_writers(server):
    """D1."""
    folks = people(server.base, 16)
    chance = random.Random(7)
    starts = []
    with Journal(server.base, list(zip(folks[::2], folks[1::2]))) as journal:
        for _ in range(KILLS):
            journal.over.wait(chance.uniform(0.1, 0.6))
            server.kill()
            began = time.monotonic()
            server.start()
            with Client(server.base) as client:
                wait_for(lambda c=client: c.call("GET", "/health/ready").status == 200, "ready")
            starts.append(time.monotonic() - began)
            wait_for(lambda at=began: journal.acknowledged_since(at), "all writers write again")
    counts, happened = journal.check(server.database())
    print(f"{dict(counts)}, {happened} of the unanswered had happened; ready after {max(starts):.2f} s at most")
    # Other tests run beside this one: a tenth of the starts may be late, though not by much.
    assert quantile(starts, 0.9) < slack(2) and max(starts) < slack(4), starts
    assert counts["ok"] > 500 and not counts["fail"]


def test_killed_postgresql_goes_with_the_server(server):
    postmaster = server.postmaster()
    server.kill()
    wait_for(lambda: not is_running(postmaster), "its database ends with it")
    server.start()
