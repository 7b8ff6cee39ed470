"""PostgreSQL stops at once, is not there yet, or holds a request up: 503 and nothing else, and back without a restart."""

import contextlib
import signal
import time
import uuid

import pytest

import harness
from harness import Client, Person, Server, gig, quantile, scratch, slack, wait_for
from journal import Journal
from psql import Psql
from races import people


def ready(base):
    with Client(base) as client:
        return client.call("GET", "/health/ready").status == 200


def takes_connections(server):
    with contextlib.suppress(OSError), open(f"{server.directory}/postgres/postmaster.pid", encoding="utf-8") as lines:
        return lines.read().rstrip().endswith("ready")


def test_immediate_stop_under_writers(server):
    """D2, D02, F02: PostgreSQL is told to quit at once, five times; our supervision starts it again. How long PostgreSQL takes
    to recover is its own affair (it syncs every file, and waits for the disk); how long until we write again is ours."""
    folks = people(server.base, 16)
    pid, recoveries, ours = server.pid, [], []
    with Journal(server.base, list(zip(folks[::2], folks[1::2]))) as journal:
        for _ in range(5):
            wait_for(lambda at=time.monotonic(): journal.acknowledged_since(at), "all writers write")
            postmaster = server.postmaster()
            began = time.monotonic()
            harness.signal_all([postmaster], signal.SIGQUIT)
            wait_for(lambda old=postmaster: server.postmaster() not in (0, old), "a new postmaster", 10)
            wait_for(lambda: takes_connections(server), "PostgreSQL takes connections", 30)
            back = time.monotonic()
            wait_for(lambda: ready(server.base), "ready", 10)
            wait_for(lambda at=time.monotonic(): journal.acknowledged_since(at), "all writers write again", 10)
            recoveries.append(time.monotonic() - began)
            ours.append(time.monotonic() - back)
        refusals = [o.seconds for o in journal.operations() if o.status == 503]
    counts, happened = journal.check(server.database())
    print(f"{dict(counts)}, {happened} of the open ones had happened; statuses {dict(journal.statuses())}; "
          f"recovered after {max(recoveries):.2f} s, {max(ours):.2f} s of it after PostgreSQL; 503 after {max(refusals):.2f} s at most")
    assert set(journal.statuses()) <= {200, 201, 503}
    assert server.process.poll() is None and server.pid == pid
    assert max(ours) < slack(2) and quantile(recoveries, 0.5) < slack(5) and max(refusals) < slack(3)
    assert quantile(refusals, 0.9) < slack(1.5)


def test_descriptors_and_connections_are_back(server):
    """After the stops: as many connections to the database as the settings allow, and no forgotten descriptor."""
    def connections():
        return int(server.database().sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'hourz_app'")[0][0])

    assert connections() <= 16 + 2 * 2 * 8
    baseline = server.descriptors()
    for _ in range(3):
        postmaster = server.postmaster()
        harness.signal_all([postmaster], signal.SIGQUIT)
        wait_for(lambda old=postmaster: server.postmaster() not in (0, old), "a new postmaster", 10)
        wait_for(lambda: ready(server.base), "ready", 10)
    wait_for(lambda: server.descriptors() <= baseline + 4, "descriptors are back", 10)


def test_log_says_it_once_a_time(server):
    restarts = [line for line in server.log().splitlines() if "is started again as process" in line]
    assert 8 <= len(restarts) <= 10, restarts


class Holder(Psql):
    """Holds a lock on a row from outside, for as long as it is entered."""

    def __init__(self, database, statement):
        super().__init__(database)
        self.sql(f"BEGIN; {statement}")


def test_held_row_times_out_and_leaves_clean_connections(server):
    """F05: many transactions are given up in the middle; whoever comes next finds nothing of them."""
    with Person(server.base) as seeker, Person(server.base) as helper:
        gigs = [seeker.post("/api/gigs", gig(), 201).json["id"] for _ in range(4)]
        held = ",".join(f"'{each}'" for each in gigs)
        key = str(uuid.uuid4())
        with Holder(server.database(), f"SELECT id FROM gigs WHERE id IN ({held}) FOR UPDATE"):
            answers = harness.together(*[
                lambda each=each: Client(server.base, helper.token).post(f"/api/gigs/{each}/accept", None, 503, Idempotency_Key=key + each)
                for each in gigs])
            assert max(answer.seconds for answer in answers) < slack(3)
            seeker.get(f"/api/gigs/{gigs[0]}")  # readers do not wait
        for each in gigs:
            assert seeker.get(f"/api/gigs/{each}").json["status"] == "PENDING"
            helper.post(f"/api/gigs/{each}/accept", None, 200, Idempotency_Key=key + each)
        left = server.database().sql(
            "SELECT state FROM pg_stat_activity WHERE usename = 'hourz_app' AND state LIKE '%transaction%' AND "
            "xact_start < now() - interval '1 second'")
        assert not left
        # The server's own jobs take such locks for a moment each.
        locks = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"
        wait_for(lambda: not server.database().sql(locks), "no lock is left", 5)


@pytest.mark.parametrize("again", [1, 2])
def test_database_that_comes_late(again):
    """F01: the process is there and says so; it serves within 5 s of its database."""
    with harness.cluster() as database, scratch() as folder:
        database.stop()
        server = Server(f"{folder}/data", wait_ready=False, secret="r4nd0m" * 8, **database.urls())
        try:
            with Client(server.base) as client:
                client.get("/health/live")
                for target in ("/health/ready", "/health"):
                    client.get(target, 503)
                wrong = client.call("POST", "/api/auth/login", {"email": "a@example.com", "password": "not this one"}, 503)
                assert wrong.seconds < slack(3)
                client.call("POST", "/api/auth/register", {"email": "a@example.com", "password": harness.PASSWORD}, 503)
                client.get("/openapi.json")
                database.start()
                began = time.monotonic()
                wait_for(lambda: client.call("GET", "/health/ready").status == 200, "ready", slack(5))
                assert time.monotonic() - began < slack(5)
            with Person(server.base) as person:
                person.post("/api/gigs", gig(), 201)
                if again == 2:
                    database.stop(signal.SIGQUIT)
                    wait_for(lambda: person.call("GET", "/health/ready").status == 503, "not ready", 5)
                    assert person.get("/api/users/me", 503).seconds < slack(3)
                    person.get("/health/live")
                    database.start()
                    wait_for(lambda: person.call("GET", "/health/ready").status == 200, "ready", slack(5))
                    person.post("/api/gigs", gig(), 201)
            assert server.stop() == 0
        finally:
            server.close()


def test_database_without_postgis():
    with harness.cluster(provisioned=False) as database, scratch() as folder:
        database.sql("CREATE ROLE hourz_owner LOGIN", "postgres")
        database.sql("CREATE ROLE hourz_app LOGIN", "postgres")
        database.sql("CREATE DATABASE hourz OWNER hourz_owner", "postgres")
        with pytest.raises(harness.NotStarted) as refused:
            Server(f"{folder}/data", secret="r4nd0m" * 8, **database.urls())
        assert refused.value.code == 2 and "CREATE EXTENSION postgis" in refused.value.errors
