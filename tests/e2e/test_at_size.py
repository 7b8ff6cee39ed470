"""A million gigs: the schema takes its steps under load without holding anybody up (X04), and searches go by their
indexes (G07). Slow for the rows that have to be made first.
"""

import secrets
import threading
import time

import pytest

import harness
from harness import Person, Server, quantile, run, scratch, slack, wait_for
from loads import Load
from psql import Psql

GIGS = 1_000_000
PATIENCE_S = 2

# What servers of both sides of the upgrade ask and write: statements that the oldest and the newest schema know.
BEFORE = 4  # ten steps are taken; two of them change users, where everybody reads and writes
READS = [
    "SELECT id FROM gigs WHERE status = 'PENDING' AND ST_DWithin(public_location, {point}, 3000) "
    "ORDER BY public_location <-> {point} LIMIT 20",
    "SELECT id FROM gigs WHERE status = 'PENDING' ORDER BY status, created_at DESC, id LIMIT 20",
    "SELECT g.title, u.name FROM gigs g JOIN users u ON u.id = g.seeker_id WHERE g.id = '{gig}'",
    "SELECT count(*) FROM chat_rooms r JOIN chat_participants p ON p.room_id = r.id WHERE p.user_id = '{user}'",
]
WRITES = [
    "INSERT INTO gigs (id, seeker_id, title, description, duration_hours, budget, location, public_location, cell_x, cell_y) "
    "VALUES (gen_random_uuid(), '{user}', 'Beside a migration', 'Written while the schema changes.', 1, 100, {point}, {point}, 1, 1)",
    "UPDATE gigs SET title = 'Changed beside a migration', version = version + 1 WHERE id = '{gig}' AND status = 'PENDING'",
    "UPDATE users SET bio = 'Here meanwhile', version = version + 1 WHERE id = '{user}'",
    "UPDATE gigs SET status = 'CANCELLED', cancelled_at = now() WHERE id = '{gig}' AND status = 'PENDING'",
    "INSERT INTO outbox (kind, topic) VALUES ('gig.changed', '{gig}')",
]
POINT = "ST_SetSRID(ST_MakePoint({}, {}), 4326)::geography"


class Traffic(Load):
    """Connections of the application's role that go on reading and writing; how long each statement took, and when."""

    def __init__(self, database, readers=3, writers=3):
        super().__init__(readers + writers)
        self.database, self.readers = database, readers
        self.users = [row[0] for row in database.sql("SELECT id FROM users ORDER BY id LIMIT 400")]
        self.gigs = [row[0] for row in database.sql("SELECT id FROM gigs WHERE status = 'PENDING' LIMIT 5000")]
        self.took, self.failures = [[] for _ in range(readers + writers)], []

    def run(self, n):
        number, statements = n, READS if n < self.readers else WRITES
        with Psql(self.database, "hourz_app") as psql:
            while not self.over.is_set():
                n += 1
                place = POINT.format(100.5 + n % 37 / 500, 13.75 + n % 41 / 500)
                # Each writer has gigs of its own: what is measured is waiting for the migration, not for each other.
                text = statements[n % len(statements)].format(
                    point=place, gig=self.gigs[(n * len(self.threads) + number) % len(self.gigs)],
                    user=self.users[(n * len(self.threads) + number) % len(self.users)])
                began = time.monotonic()
                rows = psql.sql(text)
                self.took[number].append((began, time.monotonic() - began, text))
                self.failures += [row for row in rows if row and row[0].startswith("ERROR")]

    def count(self):
        return sum(len(some) for some in self.took)

    def since(self, began):
        """Whatever ended after this moment."""
        return [one for some in self.took for one in some if one[0] + one[1] >= began]


@pytest.fixture(scope="module")
def city():
    """A database with a million gigs."""
    with harness.cluster() as database:
        # Less of a log to write, and fewer checkpoints, while it is filled; none of it changes what takes which lock.
        for name, value in (("wal_level", "minimal"), ("max_wal_senders", "0"), ("max_wal_size", "8GB")):
            database.sql(f"ALTER SYSTEM SET {name} = '{value}'")
        database.stop()
        database.start()
        assert run("migrate", "up", **database.urls()).returncode == 0
        filled = run("demo", "--users", "5000", "--gigs", str(GIGS), timeout_s=400, **database.urls())
        assert filled.returncode == 0, filled.stderr
        yield database


def migrate(database, *arguments):
    done = run("migrate", *arguments, timeout_s=120, **database.urls())
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nobody_waits_while_the_schema_takes_its_steps(city):
    """X04: ten steps up beside readers and writers, while a transaction like a backup's reads users all along at first:
    the steps that want that table step back in time for whoever stands behind them, and come through once it has ended."""
    rows = int(city.sql("SELECT count(*) FROM gigs")[0][0])
    assert rows >= GIGS * 0.99
    migrate(city, "down", str(BEFORE))
    with Traffic(city) as traffic:
        wait_for(lambda: min(map(len, traffic.took)) > 20, "everybody works", 60)
        with Psql(city) as backup:
            backup.sql("BEGIN; SELECT count(*) FROM users")
            waiting = "SELECT 1 FROM pg_stat_activity WHERE usename = 'hourz_owner' AND wait_event_type = 'Lock'"
            began, told = time.monotonic(), []
            migration = threading.Thread(target=lambda: told.append(migrate(city, "up")))
            migration.start()
            try:
                wait_for(lambda: city.sql(waiting), "the migration waits for the backup", 30)
                # It steps back and comes again, twice at least.
                for _ in range(2):
                    wait_for(lambda: not city.sql(waiting), "it steps back", 10)
                    wait_for(lambda: city.sql(waiting), "it comes again", 10)
                backup.sql("COMMIT")
            finally:
                migration.join()
        assert told and "steps applied" in told[0], told
        ended = time.monotonic()
        wait_for(lambda at=traffic.count(): traffic.count() > at + 200, "everybody works on", 60)
    took = traffic.since(began)
    longest = max(took, key=lambda one: one[1])
    print(f"{ended - began:.1f} s of migration, {len(took)} statements beside it; "
          f"median {quantile([one[1] for one in took], 0.5) * 1000:.1f} ms; the longest (begun at, took):")
    for at, seconds, text in sorted(took, key=lambda one: -one[1])[:5]:
        print(f"  {at - began:5.2f} s {seconds:.2f} s {text[:60]}")
    assert not traffic.failures + traffic.broken, (traffic.failures + traffic.broken)[:5]
    assert longest[1] < slack(PATIENCE_S), longest
    status = migrate(city, "status")
    assert "pending" not in status, status


def test_the_application_changes_no_schema(city):
    """X04: the role that servers work as owns nothing and makes nothing."""
    with Psql(city, "hourz_app") as psql:
        for statement in ("CREATE TABLE mine (a int)", "CREATE INDEX ON gigs (title)", "ALTER TABLE gigs ADD mine int",
                          "DROP TABLE reviews", "TRUNCATE gigs", "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                          "DELETE FROM schema_migrations", "ALTER TABLE users OWNER TO hourz_app", "SET ROLE hourz_owner"):
            (answer, *_) = psql.sql(statement)
            assert answer[0].startswith("ERROR") and ("denied" in answer[0] or "must be owner" in answer[0]), (statement, answer)


def test_searches_go_by_their_indexes(city):
    """G07: among a million, in the densest place, by every order and filter: never the whole table, and soon. Where a
    hundred thousand stand at one point it costs a bounded while."""
    (longitude, latitude), = city.sql(
        "SELECT longitude_sum / 1e6 / count, latitude_sum / 1e6 / count FROM gig_cells WHERE level = 14 ORDER BY count DESC LIMIT 1")
    dense, tower = (float(latitude), float(longitude)), (5.0, 5.0)
    point = POINT.format(tower[1], tower[0])
    # Without the triggers, which count for the map alone.
    city.sql("SET session_replication_role = replica; "
             "INSERT INTO gigs (id, seeker_id, title, description, duration_hours, budget, location, public_location, cell_x, cell_y, "
             "created_at) SELECT gen_random_uuid(), (SELECT id FROM users LIMIT 1), 'All here', 'At one point.', 1, n % 50, "
             f"{point}, {point}, 538851, 509707, now() - interval '1 year' FROM generate_series(1, 100000) n")
    city.sql("ANALYZE gigs")
    scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'gigs'"
    before = city.sql(scans)
    kinds = [{}, {"radius_km": 100, "limit": 100}, {"min_budget": 30}, {"category": "cleaning"}, {"q": "clean"},
             {"sort": "newest"}, {"sort": "budget"}, {"status": "COMPLETED"}, {"radius_km": 0.5, "max_duration": 1}]
    seconds = {}
    with scratch() as folder:
        server = Server(f"{folder}/data", secret=secrets.token_hex(32), overload_target_ms=0, **city.urls())
        try:
            with Person(server.base) as person:
                # What is asked first finds its pages on the disk and its plans unmade: that round is not counted.
                for place, count in ((dense, 5), (dense, 200), (tower, 9)):
                    for kind in kinds:
                        times = seconds[place == tower, str(kind)] = []
                        for _ in range(count):
                            query = {"latitude": place[0], "longitude": place[1], **kind}
                            times.append(person.call("GET", "/api/gigs", status=200, query=query).seconds)
                    assert person.get("/api/gigs", latitude=place[0], longitude=place[1]).json["gigs"]
            assert server.stop() == 0  # with its connections gone, everything they did is counted
        finally:
            server.close()
    medians, tails = ({key: quantile(some, q) for key, some in seconds.items()} for q in (0.5, 0.99))
    for key in seconds:
        print(f"{key}: median {medians[key] * 1000:.1f} ms, p99 {tails[key] * 1000:.1f} ms")
    assert city.sql(scans) == before, "the whole table was read"
    for (at_one_point, kind), tail in tails.items():
        # Words are looked up in all that is near.
        assert at_one_point or tail < slack(0.1 if "'q'" in kind else 0.05), (kind, tails)
    # At one point it is bounded by how many gigs a search looks at, 50,000.
    assert max(medians.values()) < slack(1), medians
