"""The Debian package in a bare Debian: installed, started, upgraded, removed and purged."""

import contextlib
import glob
import os
import re
import stat
import subprocess

from conftest import call
from harness import PASSWORD, ROOT, Client, Person, end, free_port, wait_for


@contextlib.contextmanager
def service(root):
    """The unit's command, as its user, with its settings; there is no systemd in a chroot."""
    unit = root.read("/lib/systemd/system/hourz.service")
    assert "\nExecStart=/usr/bin/hourz serve\n" in unit and "\nUser=hourz\n" in unit
    port = free_port()
    log = open(f"{root.path}/../service.log", "ab")
    running = subprocess.Popen(root.command(f"HOURZ_LISTEN_PORT={port}", "HOURZ_RATE_LIMIT=off-in-production-too", "hourzctl", "serve"),
                               stdout=log, stderr=log, start_new_session=True)
    try:
        def ready():
            assert running.poll() is None, open(log.name, encoding="utf-8").read()[-3000:]
            with contextlib.suppress(OSError), Client(f"http://127.0.0.1:{port}") as client:
                return client.call("GET", "/health/ready").status == 200
            return False

        wait_for(ready, "the service is ready", 60)
        yield f"http://127.0.0.1:{port}", running.pid
    finally:
        assert end(running) == 0
        log.close()


def mode_of(root, path):
    found = os.stat(root.path + path)
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def test_its_whole_life(root, packages):
    _, later = root.install(packages)
    root.run("rm", "-rf", "/var/cache/apt/archives")

    # What it depends on was computed, and is enough to run.
    depends = root.run("dpkg-query", "-W", "-f", "${Depends}", "hourz")
    for library in ("libpq5", "libc6", "libicu72", "libssl3", "adduser"):
        assert library in depends, depends
    assert re.match(r"hourz \d+\.\d+\.\d+", root.run("hourz", "version"))
    # Who may read what.
    user, group = (int(root.run("id", flag, "hourz")) for flag in ("-u", "-g"))
    assert mode_of(root, "/etc/hourz/hourz.env") == (0o640, 0, group) == mode_of(root, "/etc/hourz/secret.env")
    assert mode_of(root, "/var/lib/hourz") == (0o700, user, group) == mode_of(root, "/var/backups/hourz")
    assert mode_of(root, "/usr/bin/hourz") == (0o755, 0, 0)
    assert "/nologin" in root.run("getent", "passwd", "hourz")
    assert root.run("cat", "/var/lib/dpkg/info/hourz.conffiles").strip() == "/etc/hourz/hourz.env"
    assert "not stripped" not in call("file", f"{root.path}/usr/bin/hourz")
    secret = root.read("/etc/hourz/secret.env")
    assert len(secret) > 60
    root.run("dpkg", "--verify", "hourz")

    with service(root) as (base, pid):
        call(f"{ROOT}/tools/tour", "--url", base)
        with Person(base, "Mali") as person:
            email, mali = person.email, person.id
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            assert re.search(rf"^Uid:\t{user}\t{user}\t{user}\t{user}$", status.read(), re.M)
        assert "HOURZ_SECRET" not in open(f"/proc/{pid}/cmdline", encoding="utf-8").read()
        root.run("hourzctl", "backup", "/var/backups/hourz/one")
        assert email.split("@")[1] in "example.com" and "administrator" in root.run("hourzctl", "admin", "grant", email)

    # The next version: settings, secret and data stay as they are.
    with open(f"{root.path}/etc/hourz/hourz.env", "a", encoding="ascii") as file:
        file.write("HOURZ_ACCESS_TOKEN_S=600\n")
    root.run("dpkg", "-i", later)
    assert root.run("dpkg-query", "-W", "-f", "${Version}", "hourz") == "99.0.0"
    assert root.read("/etc/hourz/secret.env") == secret and "HOURZ_ACCESS_TOKEN_S=600" in root.read("/etc/hourz/hourz.env")
    assert mode_of(root, "/etc/hourz/hourz.env") == (0o640, 0, group)
    with service(root) as (base, _), Client(base) as client:
        pair = client.call("POST", "/api/auth/login", {"email": email, "password": PASSWORD}, 200).json
        assert pair["user"]["id"] == mali and pair["user"]["role"] == "ADMIN" if "user" in pair else pair["access_token"]
        assert pair.get("expires_in", 600) == 600

    # Restored from what the version before had saved.
    said = root.run("hourzctl", "restore", "/var/backups/hourz/one", "--replace")
    assert "all add up" in said

    # Removed: the program is gone, what people did with it is not.
    root.run("apt-get", "remove", "-y", "hourz")
    assert not os.path.exists(f"{root.path}/usr/bin/hourz") and not os.path.exists(f"{root.path}/lib/systemd/system/hourz.service")
    assert os.path.exists(f"{root.path}/var/lib/hourz/postgres/PG_VERSION") and os.path.exists(f"{root.path}/etc/hourz/hourz.env")
    # Installed again, it goes on from there.
    root.run("dpkg", "-i", later)
    with service(root) as (base, _), Client(base) as client:
        client.call("POST", "/api/auth/login", {"email": email, "password": PASSWORD}, 200)
    # Purged: nothing is left but the backups.
    root.run("dpkg", "--purge", "hourz")
    assert os.path.exists(f"{root.path}/var/backups/hourz/one/manifest.json")
    root.run("rm", "-rf", "/var/backups/hourz", *(path[len(root.path):] for path in glob.glob(f"{root.path}/root/hourz_*.deb")))
    left = root.run("find", "/", "-xdev", "(", "-path", "/var/log", "-o", "-path", "/var/cache", ")", "-prune", "-o", "-name", "*hourz*", "-print")
    assert left == "", left
    assert root.fails("getent", "passwd", "hourz") and root.fails("getent", "group", "hourz")
    assert root.fails("dpkg-query", "-W", "hourz")
