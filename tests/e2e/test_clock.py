"""D10: somebody sets the machine's clock while the server runs. Deadlines and limits go by the steady clock, tokens by
the wall, and what must happen once is decided by the database."""

import time
import uuid

import pytest

import harness
from clocks import Clock
from harness import PASSWORD, Client, Person, Raw, Server, cluster, gig, run, scratch, wait_for
from sockets import Meeting


def log_in(base, person):
    with Client(base) as client:
        return client.post("/api/auth/login", {"email": person.email, "password": PASSWORD}, 200).json["access_token"]


@pytest.mark.skipif(harness.sanitized(), reason="a sanitizer's runtime must come first of what is preloaded")
def test_clock_jumps_while_serving():
    with harness.scratch() as folder:
        clock = Clock(folder)
        with harness.server(wrap=clock.wrap(), rate_limit="on", idle_timeout_ms=20_000) as own:
            with Person(own.base) as person:
                one = person.post("/api/gigs", gig(), 201).json["id"]
                open_peer = Raw(own.address(), person.token)
                assert open_peer.ask("GET", f"/api/gigs/{one}")[0] == 200
                before = int(own.database().sql("SELECT count(*) FROM gigs")[0][0])
                for offset_s in (48 * 3600, -3600, 0):
                    clock.set(offset_s)
                    began = time.monotonic()
                    # The connection stays, and answers at once: no deadline is on the wall clock.
                    status = open_peer.ask("GET", f"/api/gigs/{one}")[0]
                    # Of an hour ago the token is from the future, unless the server remembers it, for a second.
                    assert status in {48 * 3600: (401,), -3600: (200, 401), 0: (200,)}[offset_s], (offset_s, status)
                    assert time.monotonic() - began < harness.slack(1)
                    with Client(own.base) as client:
                        client.get("/health/ready")
                    token = log_in(own.base, person)
                    with Client(own.base, token) as fresh:
                        fresh.get(f"/api/gigs/{one}")
                        key = str(uuid.uuid4())
                        posted = [fresh.post("/api/gigs", gig(title=f"At {offset_s}"), 201, Idempotency_Key=key)
                                  for _ in range(2)]
                        assert posted[0].json["id"] == posted[1].json["id"]
                        # The limiter counts on: neither stuck at its bound nor thrown open.
                        limit = posted[1].headers["ratelimit"]
                        assert 0 < int(limit.split(";r=")[1].split(";")[0]) < 300 and int(limit.split(";t=")[1]) <= 60
                assert int(own.database().sql("SELECT count(*) FROM gigs")[0][0]) == before + 3
                open_peer.close()


@pytest.mark.skipif(harness.sanitized(), reason="a sanitizer's runtime must come first of what is preloaded")
def test_expiry_goes_by_the_database_and_once():
    with harness.scratch() as folder:
        clock = Clock(folder)
        with harness.server(wrap=clock.wrap()) as own:
            with Person(own.base) as person:
                later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
                one = person.post("/api/gigs", gig(expires_at=later), 201).json["id"]
                clock.set(48 * 3600)
                token = log_in(own.base, person)
                with Client(own.base, token) as fresh:
                    assert fresh.get(f"/api/gigs/{one}").json["status"] == "PENDING"
                    own.database().sql(f"UPDATE timers SET due_at = now() WHERE subject_id = '{one}'")
                    own.database().sql(f"UPDATE gigs SET expires_at = now() WHERE id = '{one}'")
                    wait_for(lambda: fresh.get(f"/api/gigs/{one}").json["status"] == "CANCELLED", "the timer fired")
                    clock.set(0)
                events = own.database().sql(f"SELECT action FROM gig_events WHERE gig_id = '{one}' ORDER BY version")
                assert [row[0] for row in events] == ["CREATE", "EXPIRE"]


HOUR_S = 3600


@pytest.mark.skipif(harness.sanitized(), reason="a sanitizer's runtime must come first of what is preloaded")
def test_money_goes_by_the_clock_of_the_database_and_once():
    """Held money is released by the database's clock, 72 h after completion: not by the server's, and not again when the
    database's is set back. Messages keep their order whatever either says."""
    with scratch() as folder, scratch() as other:
        clock, database_clock = Clock(folder), Clock(other)
        with cluster(wrap=database_clock.wrap()) as database:
            running = Server(f"{folder}/data", wrap=clock.wrap(), **database.urls())
            try:
                with Person(running.base, "Mali") as mali, Person(running.base, "Somchai") as somchai:
                    def held():
                        meeting = Meeting(mali, somchai)
                        payment = mali.post("/api/transactions/escrow", {"gig_id": meeting.gig}, 201).json["id"]
                        for status in ("IN_PROGRESS", "COMPLETED"):
                            somchai.put(f"/api/gigs/{meeting.gig}/status", {"status": status})
                        return payment

                    def stored(payment):
                        """(status, kinds of its journals)."""
                        return database.sql(
                            "SELECT status, (SELECT string_agg(kind, ' ' ORDER BY number) FROM ledger_journals j "
                            f"WHERE j.transaction_id = t.id) FROM transactions t WHERE id = '{payment}'")[0]

                    def timers_were_looked_at():
                        """Another one that is due is over: so is whatever was due before."""
                        one = mali.post("/api/gigs", gig(), 201).json["id"]
                        database.sql(f"INSERT INTO timers VALUES ('gig.expire', '{one}', now() - interval '1 s') "
                                     "ON CONFLICT (kind, subject_id) DO UPDATE SET due_at = excluded.due_at")
                        wait_for(lambda: not database.sql(f"SELECT 1 FROM timers WHERE subject_id = '{one}'"), "it fired")

                    first, second, meeting = held(), held(), Meeting(mali, somchai)
                    before = stored(first)
                    assert before[0] == "HELD"
                    # The server's own clock decides nothing about money.
                    clock.set(100 * HOUR_S)
                    mali.login()
                    timers_were_looked_at()
                    assert stored(first) == before
                    clock.set(0)
                    mali.login()
                    # An hour before its time, and back by two days.
                    for offset_s in (71 * HOUR_S, -48 * HOUR_S):
                        database_clock.set(offset_s)
                        timers_were_looked_at()
                        assert stored(first) == before, offset_s
                    said = []
                    for offset_s in (0, HOUR_S, -HOUR_S, 48 * HOUR_S, 0):
                        database_clock.set(offset_s)
                        clock.set(-offset_s)
                        mali.login()
                        said.append(meeting.say(mali, f"At {offset_s} s, the {len(said)}th")["content"])
                    clock.set(0)
                    mali.login()
                    heard = mali.get(f"/api/chat/rooms/{meeting.room}/messages", limit=100).json["messages"]
                    assert [one["content"] for one in sorted(heard, key=lambda one: one["seq"]) if one["sender_id"] == mali.id] == said
                    # It is time, and again, since the clock was set back in between.
                    for offset_s in (73 * HOUR_S, 0, 73 * HOUR_S, -HOUR_S, 200 * HOUR_S, 0):
                        database_clock.set(offset_s)
                        timers_were_looked_at()
                        for payment in (first, second):
                            assert stored(payment) == ["RELEASED", f"{before[1]} RELEASE"], (offset_s, stored(payment))
                    assert not database.sql("SELECT 1 FROM timers WHERE kind = 'payment.release'")
                    assert int(database.sql("SELECT count(*) FROM gigs WHERE status = 'COMPLETED'")[0][0]) == 2
                audit = run("admin", "audit-ledger", data_directory=running.directory, **database.urls())
                assert audit.returncode == 0, audit.stdout + audit.stderr
            finally:
                running.close()
