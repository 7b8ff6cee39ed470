"""A session with the database that stays open, for tests that ask often or hold something while others work."""

import subprocess

from harness import POSTGRES

MARK = "-- that was all --"


class Psql:
    """As superuser or somebody else, by the database's socket. One statement after the other."""

    def __init__(self, database, user="postgres"):
        self.process = subprocess.Popen(
            [f"{POSTGRES}/psql", "-XAtq", "-F\t", "-h", database.sockets, "-p", "5432", "-U", user, "-d", "hourz"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate("ROLLBACK;\n")

    def sql(self, statement):
        """Rows of text; what PostgreSQL complained of stands among them."""
        self.process.stdin.write(f"{statement};\n\\echo {MARK}\n")
        self.process.stdin.flush()
        rows = []
        for line in self.process.stdout:
            if line.rstrip("\n") == MARK:
                return rows
            rows.append(line.rstrip("\n").split("\t"))
        raise AssertionError(f"psql ended: {rows}")


# What a job of the server's own sees to later, as giving money back through the provider, is left out.
OF_JOBS = {"transactions": "sum(hashtext(concat(id, status, payee_amount, dispute_reason))::bigint)"}


class Digest:
    """What is stored, in short: of each table but those named, how many rows there are and who wrote the newest."""

    def __init__(self, psql, but=()):
        self.psql = psql
        names = [row[0] for row in psql.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")]
        assert set(but) <= set(names), set(but) - set(names)
        self.statement = " UNION ALL ".join(
            f"SELECT '{name}', count(*), {OF_JOBS.get(name, 'max(xmin::text::bigint)')} FROM {name}"
            for name in names if name not in but)

    def take(self):
        return {row[0]: (row[1], row[2]) for row in self.psql.sql(self.statement)}
