"""The image, built and run here by podman without a registry: the bare Debian stands for debian:bookworm-slim."""

import contextlib
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import call, folder
from harness import PASSWORD, ROOT, Client, Person, cluster, free_port, wait_for
from pictures import png, upload

SECRET = "Zk3vN8xQ1pL6tR9wY2mB5cD7fG4hJ0sA"
# Where no higher limits can be set and no network made, as in another container.
RUN = ["--runtime", "runc", "--network", "host", "--no-healthcheck", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]


class Podman:
    """With a storage of its own, which goes with its folder."""

    def __init__(self, place):
        self.place = place

    def command(self, *arguments):
        return ["podman", "--root", f"{self.place}/storage", "--runroot", f"{self.place}/run", "--cgroup-manager", "cgroupfs",
                "--events-backend", "file", "--tmpdir", f"{self.place}/tmp", *arguments]

    def __call__(self, *arguments, **named):
        return call(*self.command(*arguments), **named)


@pytest.fixture(scope="module")
def podman():
    if os.geteuid() != 0 or not shutil.which("podman"):
        pytest.skip("needs root and podman")
    with folder() as place:
        one = Podman(place)
        try:
            yield one
        finally:
            for arguments in (["rm", "--all", "--force", "--time", "0"], ["rmi", "--all", "--force"]):
                subprocess.run(one.command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            with contextlib.suppress(FileNotFoundError):
                for line in open("/proc/mounts", encoding="utf-8").read().splitlines()[::-1]:
                    if line.split()[1].startswith(place):
                        subprocess.run(["umount", "-l", line.split()[1]], check=False)


@pytest.fixture(scope="module")
def made(podman, bare):
    """Makes a target of the Dockerfile; the stages that two of them share are made once."""
    podman("import", bare, "localhost/bare:bookworm")
    cache = subprocess.run(["ccache", "-k", "cache_dir"], capture_output=True, text=True, check=False).stdout.strip()
    shared = ["-v", f"{cache}:/root/.cache/ccache"] if cache and os.path.isdir(cache) else []

    def make(target):
        podman("build", "--isolation", "chroot", "--pull-never", "--network", "host", "--build-arg", "DEBIAN=localhost/bare:bookworm",
               "--format", "docker", *shared, "-f", f"{ROOT}/deploy/Dockerfile", "--target", target, "-t", f"localhost/hourz-{target}",
               ROOT, timeout_s=3000)
        (told,) = json.loads(podman("inspect", f"localhost/hourz-{target}"))
        print(f"{target}: {told['Size'] / 1e6:.0f} MB")
        return f"localhost/hourz-{target}"

    return make


@pytest.fixture(scope="module")
def image(made):
    return made("app")


@contextlib.contextmanager
def running(podman, image, port, *more, **settings):
    """A container as deploy/docker-compose.yml runs it: read-only, without capabilities, not root. Its id and address."""
    settings = {"secret": SECRET, "listen_port": port, "listen_address": "127.0.0.1", "rate_limit": "off-in-production-too", **settings}
    name = podman("run", "--detach", *RUN, "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
                  *more, *(word for key, value in settings.items() for word in ("-e", f"HOURZ_{key.upper()}={value}")),
                  image).strip()[-64:]
    wait_ready(podman, name, port)
    try:
        yield name, f"http://127.0.0.1:{port}"
    finally:
        podman("rm", "--force", "--time", "20", name)


def wait_ready(podman, name, port):
    def ready():
        with contextlib.suppress(OSError), Client(f"http://127.0.0.1:{port}") as client:
            return client.call("GET", "/health/ready").status == 200
        return False

    try:
        wait_for(ready, "ready", 60)
    except AssertionError as late:
        raise AssertionError(podman("logs", name)) from late


def stop(podman, name):
    podman("stop", "--time", "20", name)
    assert podman("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"
    log = podman("logs", name)
    assert '"server.draining"' in log and '"server.stopped"' in log


def test_what_the_image_says(podman, image):
    (told,) = json.loads(podman("inspect", image))
    config = told["Config"]
    assert config["User"] == "10001:10001" and config["Entrypoint"] == ["/usr/bin/hourz"] and config["Cmd"] == ["serve"]
    assert "8000/tcp" in config["ExposedPorts"] and "/var/lib/hourz" in config["Volumes"]
    assert told["Healthcheck"]["Test"] == ["CMD", "/usr/lib/hourz/healthcheck"]
    # Nothing of the build, no compiler, no secret.
    listed = podman("run", "--rm", *RUN, "--entrypoint", "/bin/sh", image, "-c",
                    "id -u; ls /etc/hourz /build /usr/bin/clang* /usr/bin/node 2>&1; find / -xdev -perm -4000 -user root 2>/dev/null | wc -l")
    assert listed.startswith("10001\n") and "secret.env" not in listed and listed.count("No such file") == 3, listed
    assert podman("run", "--rm", *RUN, image, "version").startswith("hourz ")


def test_it_runs(podman, image):
    """Non-root, read-only, without capabilities, on a database by its socket; healthy; the tour; drained; the same afterwards."""
    port = free_port()
    with cluster() as database:
        urls = {name: url.replace(database.sockets, "/sockets") for name, url in database.urls().items()}
        with running(podman, image, port, "-v", f"{database.sockets}:/sockets", "-v", "files:/var/lib/hourz", **urls) as (name, base):
            podman("exec", name, "/usr/lib/hourz/healthcheck")
            call(f"{ROOT}/tools/tour", "--url", base)
            with Person(base, "Mali") as person:
                email, picture = person.email, upload(person, png(60, 40)).json["url"]
            pid = int(podman("inspect", "--format", "{{.State.Pid}}", name))
            with open(f"/proc/{pid}/status", encoding="ascii") as status:
                text = status.read()
            assert re.search(r"^Uid:\t10001\t", text, re.M) and re.search(r"^CapEff:\t0+$", text, re.M) and "NoNewPrivs:\t1" in text
            podman("exec", name, "/usr/bin/hourz", "backup", "/tmp/one")
            assert "all add up" in podman("exec", name, "/usr/bin/hourz", "admin", "audit-ledger")
            stop(podman, name)
            podman("start", name)
            wait_ready(podman, name, port)
            look(base, email, picture)
        # And in a new container on the same volume.
        with running(podman, image, port, "-v", f"{database.sockets}:/sockets", "-v", "files:/var/lib/hourz", **urls) as (name, base):
            look(base, email, picture)


def look(base, email, picture):
    """The account is there, and its picture."""
    with Client(base) as client:
        client.token = client.call("POST", "/api/auth/login", {"email": email, "password": PASSWORD}, 200).json["access_token"]
        assert client.get(picture).headers["content-type"].startswith("image/")


def test_the_one_with_a_database(podman, image, made):
    """`standalone` keeps its PostgreSQL in the volume: killed, stopped and replaced, it has what it had."""
    assert image
    port, standalone = free_port(), made("standalone")
    with running(podman, standalone, port, "-v", "all:/var/lib/hourz") as (name, base):
        with Person(base, "Mali") as person:
            email, picture = person.email, upload(person, png(60, 40)).json["url"]
        podman("kill", name)
        podman("start", name)
        wait_ready(podman, name, port)
        look(base, email, picture)
        stop(podman, name)
    with running(podman, standalone, port, "-v", "all:/var/lib/hourz") as (name, base):
        look(base, email, picture)
