"""D04: pictures come and go while backups run. Every row of every backup has both its files, in a folder and in a bucket, and
what was removed is gone in the end."""

import contextlib
import os
import random
import re
import subprocess

import pytest

import harness
from harness import Client, Person, run, scratch, server as new_server, slack, wait_for
from loads import Load
from pictures import png, upload
from races import people
from s3 import S3rver

LOCK = 20261123002  # as in docs/operations.md


class Changers(Load):
    """Each uploads pictures and removes its own again, now the latest and now the first."""

    def __init__(self, base, folks):
        super().__init__(len(folks))
        self.base, self.folks = base, folks
        chance = random.Random(7)
        self.pictures = [png(side, side, chance) for side in (8, 30, 60)]
        self.removed = [0] * len(folks)

    def run(self, n):
        chance, own = random.Random(n), []
        with Client(self.base, self.folks[n].token) as client:
            while not self.over.wait(0.02):
                if len(own) < 10 or (len(own) < 30 and chance.random() < 0.5):
                    own.append(upload(client, chance.choice(self.pictures)).json)
                    continue
                gone = own.pop(chance.choice((0, -1)))
                client.call("DELETE", f"/api/upload/{gone['id']}", status=204)
                client.get(gone["url"], 404)
                self.removed[n] += 1


class Place:
    def __init__(self, folder, server, store):
        self.folder, self.server, self.store = folder, server, store
        self.settings = {"data_directory": server.directory}
        if store:
            self.settings.update(storage="s3", **store.settings)

    def backup(self, name, once_it_dumps=lambda: None):
        """What it said; its snapshot has been taken when `once_it_dumps` is called."""
        one = subprocess.Popen([harness.binary(), "backup", f"{self.folder}/{name}"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=harness.plain_environment(**self.settings), text=True)
        wait_for(lambda: os.path.isdir(f"{self.folder}/{name}.partial/database") or one.poll() is not None, "it dumps", pause_s=0.001)
        once_it_dumps()
        said, errors = one.communicate(timeout=120)
        assert one.returncode == 0, errors
        return said

    def objects(self):
        """Names of files that are kept."""
        if self.store:
            return {os.path.basename(key) for key in self.store.keys()}
        return {name for _, _, names in os.walk(f"{self.server.directory}/files/objects") for name in names}

    def rows(self, table="uploads", column="id"):
        return {row[0] for row in self.server.database().sql(f"SELECT {column} FROM {table}")}

    def settled(self):
        """Whether each row has its two files and nothing else is kept."""
        return self.objects() == files_of(self.rows()) and not self.rows("removed_files", "upload_id")

    def removals(self):
        """How often it was looked for files to remove."""
        with Client(self.server.base) as anyone:
            said = anyone.get("/metrics").text
        return int(re.search(r'hourz_job_runs_total\{outcome="done",task="remove_files"\} (\d+)', said)[1])


def files_of(ids):
    return {one + suffix for one in ids for suffix in ("", ".thumb")}


@contextlib.contextmanager
def held(database):
    """As a backup does that takes long."""
    psql = subprocess.Popen(
        [f"{harness.POSTGRES}/psql", "-XAtq", "-h", database.sockets, "-p", "5432", "-U", "postgres", "-d", "hourz"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        psql.stdin.write(f"SELECT pg_advisory_lock_shared({LOCK});\n\\echo held\n")
        psql.stdin.flush()
        while psql.stdout.readline() != "held\n":
            assert psql.poll() is None
        yield
    finally:
        psql.stdin.close()
        psql.wait(20)
        psql.stdout.close()


@pytest.fixture(scope="module", params=["local", "s3"])
def place(request):
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch())
        os.chmod(folder, 0o777)
        store = stack.enter_context(S3rver(f"{folder}/s3")) if request.param == "s3" else None
        settings = {"storage": "s3", **store.settings} if store else {}
        yield Place(folder, stack.enter_context(new_server(upload_quota_files=5000, **settings)), store)


def test_every_row_of_every_backup_has_its_files(place):
    folks = people(place.server.base, 5)
    someone = folks.pop()
    with Changers(place.server.base, folks) as changers:
        for n in range(3):
            wait_for(lambda before=sum(changers.removed): sum(changers.removed) > before + 5, "pictures come and go", slack(30))
            before = sum(changers.removed)
            marked = [upload(someone, png(9, 9)).json["id"] for _ in range(3)]

            def remove(ids=tuple(marked)):
                for one in ids:
                    someone.call("DELETE", f"/api/upload/{one}", status=204)

            said = place.backup(n, remove)
            print(f"{sum(changers.removed) - before} others removed while {said.strip()}")
            copied = {name for _, _, names in os.walk(f"{place.folder}/{n}/files") for name in names}
            assert files_of(marked) < copied
    assert not changers.broken
    wait_for(place.settled, "what was removed is gone, and nothing else", slack(30), 0.1)
    for n in range(3):
        done = run("restore", f"{place.folder}/{n}", "--replace", data_directory=f"{place.folder}/restored", timeout_s=120)
        assert done.returncode == 0 and re.search(r"\d\d uploads: all have their files", done.stdout), done


def test_removed_files_wait_for_a_backup(place):
    """For as long as it takes; what is removed is not served all the same."""
    with Person(place.server.base) as someone:
        removed = [upload(someone, png(9, 9 + n)).json for n in range(3)]
        kept = upload(someone, png(9, 9)).json
        names = files_of(made["id"] for made in removed)
        with held(place.server.database()):
            for made in removed:
                someone.get(made["url"])
                someone.call("DELETE", f"/api/upload/{made['id']}", status=204)
                someone.get(made["url"], 404)
            seen = place.removals()
            wait_for(lambda: place.removals() > seen + 2, "it is looked for files to remove", slack(20), 0.2)
            assert names < place.objects()
            assert place.rows("removed_files", "upload_id") == {made["id"] for made in removed}
        wait_for(place.settled, "it is over, and they are gone", slack(20), 0.1)
        assert not names & place.objects() and len(someone.get(kept["url"]).body) == kept["size"]


def test_killed_between_the_row_and_its_files(place):
    with Person(place.server.base) as someone:
        made = upload(someone, png(9, 9)).json
        with held(place.server.database()):  # which ends with the private database
            someone.call("DELETE", f"/api/upload/{made['id']}", status=204)
            place.server.kill()
        assert files_of([made["id"]]) < place.objects()
        place.server.start()
        wait_for(place.settled, "the next start removes them", slack(20), 0.1)


def test_a_backup_that_loses_its_hold_is_none(place):
    database = place.server.database()
    end = ("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted"
           f" AND classid::bigint << 32 | objid::bigint = {LOCK}")
    one = subprocess.Popen([harness.binary(), "backup", f"{place.folder}/lost"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=harness.plain_environment(**place.settings), text=True)
    wait_for(lambda: database.sql(end) or one.poll() is not None, "the backup has its lock")
    _, said = one.communicate(timeout=60)
    assert one.returncode == 1 and "run it again" in said and len(said.splitlines()) == 1, said
    assert not os.path.exists(f"{place.folder}/lost") and not os.path.exists(f"{place.folder}/lost.partial")
