"""D04: a backup taken while everybody writes is restored into a new cluster, and everything holds there."""

import contextlib
import glob
import hashlib
import http.server
import json
import os
import secrets
import shutil
import subprocess
import threading
import time

import pytest

import harness
from harness import PASSWORD, Client, Person, Server, cluster, run, scratch, wait_for
from journal import Journal
from pictures import png, upload
from psql import Psql
from races import people
from sockets import Meeting

SCHEMA = ["pg_dump", "--schema-only", "-U", "postgres", "-d", "hourz"]


def put_file(directory, key, data):
    """As the server's own store keeps it."""
    path = f"{directory}/files/objects/{key}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    user = harness.run_as()
    for root, folders, files in os.walk(f"{directory}/files"):
        for name in (".", *folders, *files):
            os.chown(f"{root}/{name}", user.pw_uid, user.pw_gid)


def files_of(directory):
    found = {}
    for root, _, names in os.walk(f"{directory}/files/objects"):
        for name in names:
            with open(f"{root}/{name}", "rb") as file:
                found[os.path.relpath(f"{root}/{name}", f"{directory}/files/objects")] = file.read()
    return found


def schema_of(database):
    done = subprocess.run([f"{harness.POSTGRES}/{SCHEMA[0]}", *SCHEMA[1:], "-h", database.sockets], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # BETWEEN comes back with other parentheses, and one line holds a random word in newer versions.
    return [line.replace("(", "").replace(")", "") for line in done.stdout.splitlines()
            if not line.startswith(("\\restrict", "\\unrestrict"))]


@pytest.fixture(scope="module")
def place():
    """A folder in which the server's user may make folders."""
    with scratch() as folder:
        os.chmod(folder, 0o777)
        yield folder


@pytest.fixture(scope="module")
def taken(server, place):
    """A backup under load: what was acknowledged before it began, and the folder."""
    folks = people(server.base, 8)
    with Person(server.base, "Mali") as mali, Person(server.base, "Somchai") as somchai:
        meeting = Meeting(mali, somchai)
        said = [meeting.say(mali, f"message {n}")["content"] for n in range(20)]
        mali.post("/api/transactions/escrow", {"gig_id": meeting.gig}, 201)
    pictures = {f"ab/{n:02d}{secrets.token_hex(8)}.jpg": secrets.token_bytes(1000 * n) for n in range(5)}
    for key, data in pictures.items():
        put_file(server.directory, key, data)
    with Journal(server.base, list(zip(folks[::2], folks[1::2]))) as journal:
        wait_for(lambda: journal.counts()["ok"] > 200, "the writers are at work")
        began = time.monotonic()
        done = run("backup", f"{place}/one", data_directory=server.directory)
        took = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        wait_for(lambda: journal.acknowledged_since(began + took), "the writers go on")
    slow = [o.seconds for o in journal.operations() if began <= o.began <= began + took]
    print(f"backup in {took:.2f} s, {len(slow)} writes meanwhile, the slowest {max(slow):.2f} s; {done.stdout}")
    assert not journal.counts()["broken"]
    return {"folder": f"{place}/one", "journal": journal, "began": began, "mali": mali, "said": said, "room": meeting.room,
            "pictures": pictures, "said_by_backup": done.stdout}


def test_what_it_holds(taken):
    with open(f"{taken['folder']}/manifest.json", encoding="utf-8") as file:
        manifest = json.load(file)
    assert manifest["format"] == 1 and manifest["hourz"] == run("version").stdout.split()[1]
    assert manifest["schema"] == len(glob.glob(f"{harness.ROOT}/migrations/*.up.sql"))
    assert manifest["rows"]["users"] >= 10 and manifest["rows"]["chat_messages"] >= 20 and manifest["rows"]["ledger_journals"] == 1
    assert "spatial_ref_sys" not in manifest["rows"]
    assert manifest["files"] == 5 and manifest["file_bytes"] == 10_000
    # What anybody can check without Hourz.
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=taken["folder"], check=True)
    with open(f"{taken['folder']}/SHA256SUMS", "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == manifest["sums_sha256"]
    assert os.stat(taken["folder"]).st_mode & 0o777 == 0o700
    assert not os.path.exists(taken["folder"] + ".partial")


def check(restored, taken):
    """Everything acknowledged before the backup began is there, and all that must hold does."""
    database = restored.database() if restored.settings.get("database_url") is None else taken["database"]
    journal = taken["journal"]
    stored = journal.stored(database)
    before = [o for o in journal.operations() if o.outcome == "ok" and o.began + o.seconds < taken["began"]]
    assert len(before) >= 200
    for operation in before:
        assert stored[operation.kind][journal.mark(operation)] == 1, f"lost: {operation.kind} {operation.path}"
    journal.check_database(database)
    (gaps,) = database.sql("SELECT count(*) FROM (SELECT room_id FROM chat_messages GROUP BY room_id HAVING count(*) <> max(seq)) x")
    assert gaps == ["0"]
    mali = taken["mali"]
    with Client(restored.base) as client:
        pair = client.call("POST", "/api/auth/login", {"email": mali.email, "password": PASSWORD}, 200).json
        read = client.call("GET", f"/api/chat/rooms/{taken['room']}/messages?limit=100", status=200, token=pair["access_token"]).json
        words = [message["content"] for message in read["messages"] if message["sender_id"] == mali.id]
        assert sorted(words) == sorted(taken["said"])
        # It goes on from there.
        client.call("POST", "/api/gigs", harness.gig(), 201, token=pair["access_token"])
        client.call("POST", f"/api/chat/rooms/{taken['room']}/messages", {"content": "on"}, 201, token=pair["access_token"])


def test_restored_into_a_new_cluster(server, place, taken):
    directory = f"{place}/new"
    began = time.monotonic()
    done = run("restore", taken["folder"], data_directory=directory, timeout_s=120)
    assert done.returncode == 0, done.stderr
    print(f"restored in {time.monotonic() - began:.2f} s: {done.stdout}")
    assert "1 journals, 2 entries: all add up" in done.stdout and "5 files of 10000 bytes" in done.stdout
    assert files_of(directory) == taken["pictures"]
    restored = Server(directory)
    try:
        check(restored, taken)
        # Rights, functions, triggers, comments: the same schema to the letter.
        assert schema_of(restored.database()) == schema_of(server.database())
        again = run("restore", taken["folder"], data_directory=directory)
        assert again.returncode == 2 and "serve" in again.stderr, again.stderr  # another server has the directory
    finally:
        restored.close()
    # It is full now: only on request, and then just as it was.
    refused = run("restore", taken["folder"], data_directory=directory)
    assert refused.returncode == 1 and "--replace" in refused.stderr, refused.stderr
    done = run("restore", taken["folder"], "--replace", data_directory=directory, timeout_s=120)
    assert done.returncode == 0, done.stderr
    restored = Server(directory)
    try:
        check(restored, taken)
        assert schema_of(restored.database()) == schema_of(server.database())
    finally:
        restored.close()


def test_a_database_of_ones_own(place, taken):
    """By HOURZ_DATABASE_URL, both ways."""
    with cluster() as database:
        settings = {**database.urls(), "data_directory": f"{place}/own", "secret": "Zk3vN8xQ1pL6tR9wY2mB5cD7fG4hJ0sA"}
        done = run("restore", taken["folder"], **settings, timeout_s=120)
        assert done.returncode == 0, done.stderr
        running = Server(f"{place}/own", **settings)
        try:
            check(running, {**taken, "database": database})
            busy = run("restore", taken["folder"], "--replace", **settings)
            assert busy.returncode == 1 and "other connections" in busy.stderr, busy.stderr
            done = run("backup", f"{place}/two", **settings)
            assert done.returncode == 0, done.stderr
        finally:
            running.close()
        with open(f"{place}/two/manifest.json", encoding="utf-8") as file:
            two = json.load(file)
        with open(f"{taken['folder']}/manifest.json", encoding="utf-8") as file:
            one = json.load(file)
        assert two["rows"]["gigs"] == one["rows"]["gigs"] + 1 and two["files"] == 5


def test_rows_without_their_files_are_told(place):
    """The restore goes through, says in one line what is missing, and exits 1; the rest is served."""
    with harness.server() as own:
        with Person(own.base, "Mali") as mali:
            made = [upload(mali, png(30 + n, 30)).json for n in range(4)]
        done = run("backup", f"{place}/pictures", data_directory=own.directory)
        assert done.returncode == 0, done.stderr
        whole = run("restore", f"{place}/pictures", data_directory=f"{place}/whole", timeout_s=120)
        assert whole.returncode == 0 and "4 uploads: all have their files" in whole.stdout, whole
        # What a broken disk may do before anybody notices.
        objects = [f"{own.directory}/files/objects/pictures/{each['id'][34:]}/{each['id']}" for each in made]
        os.unlink(objects[1])
        os.unlink(objects[2] + ".thumb")
        with open(objects[3], "r+b") as file:
            file.seek(40)
            file.write(b"!")
        done = run("backup", f"{place}/holes", data_directory=own.directory)
        assert done.returncode == 0, done.stderr
    directory = f"{place}/holes-restored"
    done = run("restore", f"{place}/holes", data_directory=directory, timeout_s=120)
    assert done.returncode == 1 and "0 journals, 0 entries: all add up" in done.stdout, done
    first = min(each["id"] for each in made[1:])
    assert done.stderr == f"hourz: of 4 uploads 2 lack a file and 1 have one with other bytes, the first of them {first}\n"
    restored = Server(directory)
    try:
        with Client(restored.base) as client:
            assert [client.call("GET", each["url"]).status for each in made[:2]] == [200, 404]
    finally:
        restored.close()
    # The earlier backup mends all three, the one that kept its size among them.
    done = run("restore", f"{place}/pictures", "--replace", data_directory=directory, timeout_s=120)
    assert done.returncode == 0 and "4 uploads: all have their files" in done.stdout, done


def damage_dump(folder):
    path = max(glob.glob(f"{folder}/database/*.gz"), key=os.path.getsize)
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def lose_a_file(folder):
    os.unlink(glob.glob(f"{folder}/files/ab/*.jpg")[0])


def add_a_file(folder):
    with open(f"{folder}/files/ab/more.jpg", "wb") as file:
        file.write(b"x")


def edit_the_sums(folder):
    with open(f"{folder}/SHA256SUMS", "a", encoding="ascii") as file:
        file.write("\n")


def lose_the_manifest(folder):
    os.unlink(f"{folder}/manifest.json")


def of_a_newer_program(folder):
    with open(f"{folder}/manifest.json", encoding="utf-8") as file:
        manifest = json.load(file)
    manifest["schema"] += 1
    with open(f"{folder}/manifest.json", "w", encoding="utf-8") as file:
        json.dump(manifest, file)


@pytest.mark.parametrize("spoil,why", [
    (damage_dump, "is damaged"), (lose_a_file, "lacks files/ab/"), (add_a_file, "not its own"), (edit_the_sums, "SHA256SUMS is not"),
    (lose_the_manifest, "whole backup"), (of_a_newer_program, "newer than this program")])
def test_a_bad_backup_is_refused(place, taken, spoil, why):
    """Before anything is touched."""
    with scratch() as folder:
        os.chmod(folder, 0o711)
        bad = f"{folder}/bad"
        subprocess.run(["cp", "-a", taken["folder"], bad], check=True)
        spoil(bad)
        directory = f"{place}/bad-{spoil.__name__}"
        done = run("restore", bad, data_directory=directory)
        assert done.returncode == 1 and why in done.stderr and len(done.stderr.splitlines()) == 1, done
        assert not os.path.exists(f"{directory}/files/objects")
        shutil.rmtree(directory, ignore_errors=True)


def test_whole_or_not_at_all(server, place):
    # What is there stays.
    os.mkdir(f"{place}/full")
    with open(f"{place}/full/mine", "w", encoding="ascii") as file:
        file.write("mine")
    done = run("backup", f"{place}/full", data_directory=server.directory)
    assert done.returncode == 1 and "not empty" in done.stderr and os.listdir(f"{place}/full") == ["mine"]
    # Nowhere to write, and no program to dump with.
    done = run("backup", f"{place}/no/such/place", data_directory=server.directory)
    assert done.returncode == 1 and "No such file" in done.stderr, done.stderr
    with scratch() as empty:
        done = run("backup", f"{place}/three", data_directory=server.directory, postgres_bin=empty)
        assert done.returncode == 1 and "pg_dump" in done.stderr, done.stderr
    assert not os.path.exists(f"{place}/three") and not os.path.exists(f"{place}/three.partial")
    # Killed in the middle, it leaves nothing under the name, and nothing in the way of the next.
    one = subprocess.Popen([harness.binary(), "backup", f"{place}/four"], env=harness.plain_environment(data_directory=server.directory),
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: os.path.isdir(f"{place}/four.partial/database") or one.poll() is not None, "it dumps")
    one.kill()
    one.wait()
    if not os.path.exists(f"{place}/four"):
        done = run("backup", f"{place}/four", data_directory=server.directory)
        assert done.returncode == 0, done.stderr
    assert os.path.exists(f"{place}/four/manifest.json") and not os.path.exists(f"{place}/four.partial")


class Short(http.server.BaseHTTPRequestHandler):
    """A store that lists ten bytes and gives five."""

    def do_GET(self):
        listing = "list-type=2" in self.path
        body = (b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>ab/cut.jpg</Key><Size>10</Size>"
                b"<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>" if listing else b"12345")
        self.send_response(200 if listing else 206)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_store_that_gives_less_than_it_listed(server, place):
    with http.server.HTTPServer(("127.0.0.1", 0), Short) as store:
        threading.Thread(target=store.serve_forever, daemon=True).start()
        done = run("backup", f"{place}/short", data_directory=server.directory, storage="s3", s3_bucket="hourz",
                   s3_endpoint=f"http://127.0.0.1:{store.server_port}", s3_access_key="key", s3_secret_key="a secret of the store")
        store.shutdown()
    assert done.returncode == 1 and "ab/cut.jpg has 10 bytes, and the store gave 5" in done.stderr, done
    assert not os.path.exists(f"{place}/short")


def command_lines(process):
    """Of a process and all that it starts, read over and over until it has ended; what has shown itself so far."""
    found = set()
    while process.poll() is None:
        for pid in harness.family_of(process.pid):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as shown:
                found.add(shown.read().replace(b"\0", b" ").decode())
        yield found


def test_no_password_is_seen(place):
    """E03: PostgreSQL's programs get it by their environment; whoever is on the machine reads command lines."""
    password = "canary" + secrets.token_hex(12)
    with cluster() as database:
        urls = {name: f"{url} password={password}" for name, url in database.urls().items()}
        assert run("migrate", "up", data_directory=f"{place}/urls", **urls).returncode == 0

        def watched(name, *arguments, once_seen=lambda: None):
            process = subprocess.Popen(
                [harness.binary(), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                env=harness.plain_environment(data_directory=f"{place}/urls", **urls))
            for seen in command_lines(process):
                if any(name in line for line in seen):
                    once_seen()
            assert process.returncode == 0, process.stderr.read()
            process.stderr.close()
            assert any(f"/{name} --" in line for line in seen), seen
            assert not any(password in line for line in seen), seen

        with Psql(database) as psql:
            psql.sql("BEGIN")
            psql.sql("LOCK TABLE reports IN ACCESS EXCLUSIVE MODE")  # the dump waits until it was looked at
            watched("pg_dump", "backup", f"{place}/seen", once_seen=lambda: psql.sql("ROLLBACK"))
        watched("pg_restore", "restore", f"{place}/seen", "--replace")


def test_use():
    for arguments in (["backup"], ["backup", "a", "b"], ["restore"], ["restore", "a", "--force"], ["restore", "a", "--replace", "b"]):
        done = run(*arguments)
        assert done.returncode == 2 and "takes a folder" in done.stderr, done
