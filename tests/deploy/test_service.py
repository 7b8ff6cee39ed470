"""The unit under a systemd of its own, in a bare Debian: what installing, a crash, upgrading, removing and purging do to
the running service, and what it may touch.
"""

import contextlib
import os
import re
import signal
import subprocess

import pytest

from conftest import call
from harness import PASSWORD, ROOT, Client, Person, children_of, end, free_port, wait_for


class Machine:
    """A root with systemd as its init. The network is this machine's."""

    def __init__(self, root, packages):
        root.close()
        self.path, self.packages = root.path, packages
        self.running = subprocess.Popen([f"{ROOT}/tests/deploy/boot.sh", root.path])
        self.init = wait_for(self.find_init, "an init", 30)
        wait_for(lambda: self.tell("systemctl", "is-system-running") == "running", "the system is up", 60, 0.2)

    def find_init(self):
        assert self.running.poll() is None
        for unshare in children_of(self.running.pid):
            for init in children_of(unshare):
                with open(f"/proc/{init}/comm", encoding="ascii") as comm:
                    if comm.read().strip() == "systemd":
                        return init

    def command(self, *arguments):
        return ["nsenter", "--target", str(self.init), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd=/",
                "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8",
                "DEBIAN_FRONTEND=noninteractive", *arguments]

    def run(self, *arguments):
        return call(*self.command(*arguments), timeout_s=300)

    def tell(self, *arguments):
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=60, check=False).stdout.strip()

    def main_pid(self):
        """As this machine counts."""
        inside = self.tell("systemctl", "show", "--property=MainPID", "--value", "hourz")
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8") as status:
                text = status.read()
                if re.search(rf"^NSpid:\t{pid}\t{inside}$", text, re.M) and re.search(r"^Name:\thourz$", text, re.M):
                    return int(pid)
        return 0

    def close(self):
        end(self.running)


@pytest.fixture
def machine(root, packages):
    """With systemd and what the package needs, but not the package itself."""
    if not os.path.exists("/sys/fs/cgroup/cgroup.procs") and not os.path.exists("/sys/fs/cgroup/unified/cgroup.procs"):
        pytest.skip("no cgroups of version 2 here")
    inside = root.install(packages, "systemd", "systemd-sysv")
    root.run("dpkg", "--purge", "hourz")
    os.remove(f"{root.path}/usr/sbin/policy-rc.d")
    made = Machine(root, inside)
    try:
        yield made
    finally:
        made.close()


def test_the_service(machine):
    now, later = machine.packages
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    os.makedirs(f"{machine.path}/etc/systemd/system/hourz.service.d")
    with open(f"{machine.path}/etc/systemd/system/hourz.service.d/test.conf", "w", encoding="ascii") as file:
        file.write(f"[Service]\nEnvironment=HOURZ_LISTEN_PORT={port} HOURZ_RATE_LIMIT=off-in-production-too\n")

    def journal():
        return machine.tell("journalctl", "--unit=hourz", "--output=cat", "--no-pager")

    def ready(unlike=0):
        with contextlib.suppress(OSError), Client(base) as client:
            if client.call("GET", "/health/ready").status == 200:
                pid = machine.main_pid()
                return pid if pid != unlike else 0
        return 0

    def wait_ready(unlike=0):
        try:
            return wait_for(lambda: ready(unlike), "the service is ready", 60, 0.1)
        except AssertionError as late:
            raise AssertionError(machine.tell("systemctl", "status", "--no-pager", "--full", "hourz") + journal()[-4000:]) from late

    # Installing starts it, and it will start with the machine.
    machine.run("dpkg", "-i", now)
    pid = wait_ready()
    assert machine.tell("systemctl", "is-enabled", "hourz") == "enabled" and machine.tell("systemctl", "is-active", "hourz") == "active"
    call(f"{ROOT}/tools/tour", "--url", base)
    with Person(base, "Mali") as person:
        email = person.email

    # What it may touch, as the kernel has it; its PostgreSQL lies where hourzctl looks for it.
    user = machine.run("id", "-u", "hourz").strip()
    for each in (pid, *children_of(pid)):
        with open(f"/proc/{each}/status", encoding="utf-8") as status:
            text = status.read()
        assert re.search(rf"^Uid:\t{user}\t{user}\t{user}\t{user}$", text, re.M), text
        assert re.search(r"^CapEff:\t0+$", text, re.M) and re.search(r"^CapBnd:\t0+$", text, re.M), text
        assert "NoNewPrivs:\t1" in text and "Seccomp:\t2" in text, text
    for path in ("/usr/bin/x", "/etc/x", "/var/x", "/root/x", "/home/x"):
        tried = subprocess.run(["nsenter", "--target", str(pid), "--mount", "--root", "touch", path], capture_output=True, text=True,
                               check=False)
        assert tried.returncode != 0, path
    assert os.path.exists(f"{machine.path}/var/lib/hourz/postgres/PG_VERSION") and not os.path.exists(f"{machine.path}/var/lib/hourz/.local")
    machine.run("hourzctl", "backup", "/var/backups/hourz/one")
    assert "all add up" in machine.run("hourzctl", "admin", "audit-ledger")
    assert "HOURZ_SECRET" not in open(f"/proc/{pid}/cmdline", encoding="utf-8").read()

    # A crash: systemd starts it again, and its PostgreSQL with it.
    os.kill(pid, signal.SIGKILL)
    pid = wait_ready(pid)
    with Client(base) as client:
        client.call("POST", "/api/auth/login", {"email": email, "password": PASSWORD}, 200)
    # Stopped in order: it drains, and nothing of it is left running.
    machine.run("systemctl", "stop", "hourz")
    assert machine.tell("systemctl", "show", "--property=Result,ExecMainStatus", "--value", "hourz").split() == ["success", "0"]
    assert '"server.stopped"' in journal() and machine.tell("pgrep", "-u", "hourz") == ""
    machine.run("systemctl", "start", "hourz")
    pid = wait_ready()

    # The next version: restarted, with the same data.
    machine.run("dpkg", "-i", later)
    pid = wait_ready(pid)
    with Client(base) as client:
        client.call("POST", "/api/auth/login", {"email": email, "password": PASSWORD}, 200)

    # Removed: stopped. Installed again: it goes on.
    machine.run("dpkg", "--remove", "hourz")
    assert machine.tell("pgrep", "-u", "hourz") == ""
    machine.run("dpkg", "-i", later)
    wait_ready()
    with Client(base) as client:
        client.call("POST", "/api/auth/login", {"email": email, "password": PASSWORD}, 200)

    # Purged while it runs: stopped, and nothing is left but the backups and what was put beside the unit here.
    machine.run("dpkg", "--purge", "hourz")
    assert machine.tell("systemctl", "is-active", "hourz") != "active" and machine.tell("getent", "passwd", "hourz") == ""
    assert not os.path.exists(f"{machine.path}/var/lib/hourz") and not os.path.exists(f"{machine.path}/etc/hourz")
    assert os.path.exists(f"{machine.path}/var/backups/hourz/one/manifest.json")
    left = machine.run("find", "/etc/systemd", "/var/lib/systemd", "/lib/systemd", "-name", "*hourz*", "-not", "-path", "*/hourz.service.d")
    assert left == "", left
    assert machine.tell("systemctl", "--failed", "--plain", "--no-legend") == ""
