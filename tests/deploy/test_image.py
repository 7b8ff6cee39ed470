"""The image, built and run here by podman without a registry: the bare Debian stands for debian:bookworm-slim."""

import contextlib
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import call, folder
from harness import ROOT, Client, cluster, free_port, wait_for

SECRET = "Zk3vN8xQ1pL6tR9wY2mB5cD7fG4hJ0sA"
# Where no limits can be set and no network made, as in another container.
RUN = ["--runtime", "runc", "--network", "host", "--no-healthcheck", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
       "--cgroups", "disabled"]


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
def image(podman, bare):
    podman("import", bare, "localhost/bare:bookworm")
    cache = subprocess.run(["ccache", "-k", "cache_dir"], capture_output=True, text=True, check=False).stdout.strip()
    shared = ["-v", f"{cache}:/root/.cache/ccache"] if cache and os.path.isdir(cache) else []
    podman("build", "--isolation", "chroot", "--pull-never", "--network", "host", "--build-arg", "DEBIAN=localhost/bare:bookworm",
           "--format", "docker", *shared, "-f", f"{ROOT}/deploy/Dockerfile", "--target", "app", "-t", "localhost/hourz", ROOT, timeout_s=3000)
    return "localhost/hourz"


def test_what_the_image_says(podman, image):
    (told,) = json.loads(podman("inspect", image))
    config = told["Config"]
    assert config["User"] == "10001:10001" and config["Entrypoint"] == ["/usr/bin/hourz"] and config["Cmd"] == ["serve"]
    assert "8000/tcp" in config["ExposedPorts"] and "/var/lib/hourz" in config["Volumes"]
    assert told["Healthcheck"]["Test"] == ["CMD", "/usr/lib/hourz/healthcheck"]
    print(f"{told['Size'] / 1e6:.0f} MB")
    # Nothing of the build, no compiler, no secret.
    listed = podman("run", "--rm", *RUN, "--entrypoint", "/bin/sh", image, "-c",
                    "id -u; ls /etc/hourz /build /usr/bin/clang* /usr/bin/node 2>&1; find / -xdev -perm -4000 -user root 2>/dev/null | wc -l")
    assert listed.startswith("10001\n") and "secret.env" not in listed and listed.count("No such file") == 3, listed
    assert podman("run", "--rm", *RUN, image, "version").startswith("hourz ")


def test_it_runs(podman, image):
    """Non-root, read-only, without capabilities, on a database by its socket; healthy; the tour; a drained end."""
    port = free_port()
    with cluster() as database:
        urls = {name: url.replace(database.sockets, "/sockets") for name, url in database.urls().items()}
        settings = {**urls, "secret": SECRET, "listen_port": port, "listen_address": "127.0.0.1", "rate_limit": "off-in-production-too"}
        name = podman("run", "--detach", *RUN, "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt",
                      "no-new-privileges", "-v", f"{database.sockets}:/sockets", "-v", "/var/lib/hourz",
                      *(word for key, value in settings.items() for word in ("-e", f"HOURZ_{key.upper()}={value}")), image).strip()[-64:]
        base = f"http://127.0.0.1:{port}"

        def ready():
            with contextlib.suppress(OSError), Client(base) as client:
                return client.call("GET", "/health/ready").status == 200
            return False

        try:
            wait_for(ready, "ready", 60)
        except AssertionError as late:
            raise AssertionError(podman("logs", name)) from late
        podman("exec", name, "/usr/lib/hourz/healthcheck")
        call(f"{ROOT}/tools/tour", "--url", base)
        pid = int(podman("inspect", "--format", "{{.State.Pid}}", name))
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            text = status.read()
        assert re.search(r"^Uid:\t10001\t", text, re.M) and re.search(r"^CapEff:\t0+$", text, re.M) and "NoNewPrivs:\t1" in text
        podman("exec", name, "/usr/bin/hourz", "backup", "/tmp/one")
        assert "all add up" in podman("exec", name, "/usr/bin/hourz", "admin", "audit-ledger")
        podman("stop", "--time", "20", name)
        assert podman("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"
        assert '"server.stopped"' in podman("logs", name)
