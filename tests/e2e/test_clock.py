"""D10: somebody sets the machine's clock while the server runs. Deadlines and limits go by the steady clock, tokens by
the wall, and what must happen once is decided by the database."""

import time
import uuid

import pytest

import harness
from clocks import Clock
from harness import PASSWORD, Client, Person, Raw, gig, wait_for


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
                    assert status == (200 if offset_s in (0, -3600) else 401), (offset_s, status)
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
