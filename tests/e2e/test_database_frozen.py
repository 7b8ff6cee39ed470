"""PostgreSQL is frozen, children and all: it takes connections and never answers. Only our own deadlines help."""

import os
import signal
import time

from harness import Client, family_of, quantile, signal_all, slack, wait_for
from journal import Journal
from loads import Watch
from races import people


def test_frozen_under_writers(server):
    """D3, F03."""
    folks = people(server.base, 16)
    pairs = list(zip(folks[::2], folks[1::2]))
    watches = [Watch(server.base, "/health/live"), Watch(server.base, "/api/users/me", folks[0].token),
               Watch(server.base, "/health/ready", pause_s=0.05),
               Watch(server.base, "/api/gigs?sort=newest&limit=3", folks[1].token)]
    with Journal(server.base, pairs) as journal:
        for watch in watches:
            watch.__enter__()
        try:
            wait_for(lambda at=time.monotonic(): journal.acknowledged_since(at), "all writers write")
            family = family_of(server.postmaster())
            frozen = time.monotonic()
            signal_all(family, signal.SIGSTOP)
            # A backend forked just before the postmaster stood still.
            signal_all(set(family_of(server.postmaster())) - set(family), signal.SIGSTOP)
            journal.over.wait(5)
            thawed = time.monotonic()
            signal_all(family_of(server.postmaster()), signal.SIGCONT)
            wait_for(lambda at=thawed: journal.acknowledged_since(at), "all writers write again", slack(5))
            recovered = time.monotonic() - thawed
            assert recovered < slack(5)
        finally:
            for watch in watches:
                watch.__exit__()
    during = [o for o in journal.operations() if frozen - 3 < o.began < thawed]
    slowest = max(o.seconds for o in during)
    live = [seconds for seconds, _ in watches[0].between(frozen, thawed)]
    reads = [each for watch in watches[1:] for each in watch.between(frozen, thawed)]
    print(f"frozen: {len(during)} writes, the slowest {slowest:.2f} s; {len(reads)} reads, the slowest "
          f"{max(seconds for seconds, _ in reads):.2f} s; live p99 {quantile(live, 0.99) * 1000:.1f} ms of {len(live)}; "
          f"recovered {recovered:.2f} s after the thaw")
    assert slowest < slack(3) and max(seconds for seconds, _ in reads) < slack(3)
    assert {status for _, status in reads} <= {200, 503}
    assert watches[2].between(frozen + 2, thawed) and 200 not in {
        status for _, status in watches[2].between(frozen + 1.5, thawed - 1.2)}, "ready while frozen"
    assert len(live) > 100 and quantile(live, 0.99) < slack(0.05)
    assert {status for _, status in watches[0].between(frozen, thawed)} == {200}
    assert set(journal.statuses()) <= {200, 201, 503}
    counts, happened = journal.check(server.database())
    print(f"{dict(counts)}, {happened} of the open ones had happened")
    # The pool is whole again: nothing waits, nothing is refused.
    with Client(server.base, folks[0].token) as client:
        for _ in range(200):
            client.get("/api/users/me")
    assert os.path.exists(f"/proc/{server.pid}") and server.process.poll() is None
