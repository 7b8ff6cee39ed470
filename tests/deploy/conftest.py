"""What the deployment tests share: a bare Debian, the package, and a way to run something in a root of its own.

They need root, a way to Debian's mirror and some minutes: ./dev test --deploy. Everything is made below /var/tmp and
removed; the bare Debian is kept in build/deploy, since it takes a minute to fetch.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
import harness  # noqa: E402  pylint: disable=wrong-import-position

KEPT = f"{harness.ROOT}/build/deploy"


def call(*arguments, timeout_s=1800, **named):
    """Runs to the end; its output, or all of it when it fails."""
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s,
                          stdin=subprocess.DEVNULL, **named)
    assert done.returncode == 0, f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout[-6000:]}"
    return done.stdout


@contextlib.contextmanager
def folder():
    made = tempfile.mkdtemp(prefix="hourz-deploy-", dir="/var/tmp")
    os.chmod(made, 0o755)
    try:
        yield made
    finally:
        # Never through a mount that is still there.
        shutil.rmtree(made, ignore_errors=True) if made not in open("/proc/mounts", encoding="utf-8").read() else None


@pytest.fixture(scope="session")
def bare():
    """An archive of a bare Debian 12 with the mirrors of this machine's own."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    archive = f"{KEPT}/bookworm.tar"
    if not os.path.exists(archive):
        if not shutil.which("debootstrap"):
            pytest.skip("debootstrap is not installed")
        os.makedirs(KEPT, exist_ok=True)
        with folder() as place:
            root = f"{place}/root"
            mirror = os.environ.get("HOURZ_DEBIAN_MIRROR", "http://deb.debian.org/debian")
            call("debootstrap", "--variant=minbase", "bookworm", root, mirror)
            with open(f"{root}/etc/apt/sources.list", "w", encoding="ascii") as file:
                file.write(f"deb {mirror} bookworm main\ndeb {mirror} bookworm-updates main\n"
                           f"deb {mirror}-security bookworm-security main\n")
            shutil.rmtree(f"{root}/var/cache/apt/archives", ignore_errors=True)
            os.makedirs(f"{root}/var/cache/apt/archives/partial")
            call("tar", "-C", root, "--numeric-owner", "-cf", f"{archive}.part", ".")
            os.rename(f"{archive}.part", archive)
    return archive


@pytest.fixture(scope="session")
def packages():
    """The package, and the same one called the next version."""
    made = []
    for version in (None, "99.0.0"):
        place = f"{KEPT}/{version or 'now'}"
        shutil.rmtree(place, ignore_errors=True)
        environment = {**os.environ, **({"HOURZ_PACKAGE_VERSION": version} if version else {})}
        said = call(f"{harness.ROOT}/dev", "package", place, env=environment)
        found = re.search(r"made (\S+\.deb)", said)
        assert found, said
        made.append(found[1])
    return made


class Root:
    """A system in a folder, entered by chroot."""

    def __init__(self, place, archive):
        self.path = f"{place}/root"
        self.mounted = []
        os.mkdir(self.path)
        call("tar", "-C", self.path, "--numeric-owner", "-xpf", archive)
        shutil.copy("/etc/resolv.conf", f"{self.path}/etc/resolv.conf")
        # No service is started by installing: there is no init here.
        with open(f"{self.path}/usr/sbin/policy-rc.d", "w", encoding="ascii") as file:
            file.write("#!/bin/sh\nexit 101\n")
        os.chmod(f"{self.path}/usr/sbin/policy-rc.d", 0o755)
        for kind, there in (("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "tmp")):
            call("mount", "-t", kind, kind, f"{self.path}/{there}")
            self.mounted.append(f"{self.path}/{there}")
        call("mount", "--bind", "/dev", f"{self.path}/dev")
        self.mounted.append(f"{self.path}/dev")
        call("mount", "-t", "tmpfs", "tmpfs", f"{self.path}/dev/shm")
        self.mounted.append(f"{self.path}/dev/shm")

    def command(self, *arguments):
        return ["chroot", self.path, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8",
                "DEBIAN_FRONTEND=noninteractive", *arguments]

    def run(self, *arguments, **named):
        return call(*self.command(*arguments), **named)

    def install(self, packages, *others):
        """The first of `packages`, with what it needs, PostgreSQL (but no cluster of it) and `others`; where all of them lie."""
        folder = f"{self.path}/etc/postgresql-common/createcluster.d"
        os.makedirs(folder)
        with open(f"{folder}/none.conf", "w", encoding="ascii") as file:
            file.write("create_main_cluster = false\n")
        for each in packages:
            shutil.copy(each, f"{self.path}/root/")
        inside = [f"/root/{os.path.basename(each)}" for each in packages]
        self.run("apt-get", "update")
        self.run("apt-get", "install", "-y", "--no-install-recommends", "postgresql-15-postgis-3", *others, inside[0])
        return inside

    def fails(self, *arguments):
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=120).returncode != 0

    def read(self, path):
        with open(self.path + path, encoding="utf-8") as file:
            return file.read()

    def close(self):
        for path in reversed(self.mounted):
            subprocess.run(["umount", "-l", path], check=False)
        self.mounted = []


@pytest.fixture
def root(bare):
    with folder() as place:
        made = Root(place, bare)
        try:
            yield made
        finally:
            made.close()
