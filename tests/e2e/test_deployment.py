"""The files of deploy/: what they set is what there is to be set, the unit is as hard as the guide says, and nginx with
its configuration as it is stands before two servers. What needs a container or a bare system is in tests/deploy.
"""

import contextlib
import os
import re
import shutil
import subprocess

import pytest
import yaml

import harness
from harness import ROOT, Client, Person, Server, cluster, free_port, run, scratch, wait_for
from sockets import Socket

DEPLOY = f"{ROOT}/deploy"


def text_of(name):
    with open(f"{DEPLOY}/{name}", encoding="utf-8") as file:
        return file.read()


@pytest.fixture(scope="module")
def settings():
    """Name: default, as `hourz config` tells them."""
    told = subprocess.run([harness.binary(), "config"], env={"HOME": "/nowhere"}, capture_output=True, text=True, timeout=20, check=True)
    return dict(re.findall(r"^(HOURZ_\w+)\n.*\n    default: (.*)$", told.stdout, re.M))


def test_the_example_lists_every_setting(settings):
    listed = re.findall(r"^#(HOURZ_\w+)=(.*)$", text_of(".env.example").partition("\n# -----")[2], re.M)
    assert len(settings) > 40 and dict(listed) == {name: "" if value == "(empty)" else value for name, value in settings.items()}
    assert [name for name, _ in listed] == list(settings), "./dev format writes it anew"


def test_the_example_is_taken(settings):
    """As it stands it lacks the secret alone, and every line of it is one that the program understands."""
    with scratch() as folder:
        with open(f"{folder}/env", "w", encoding="utf-8") as file:
            file.write(text_of(".env.example"))
        refused = run("config", config=f"{folder}/env")
        assert refused.returncode == 2 and refused.stderr.count("\n") == 2 and "HOURZ_SECRET" in refused.stderr, refused.stderr
        with open(f"{folder}/env", "w", encoding="utf-8") as file:
            file.write(re.sub(r"(?m)^#(HOURZ_\w+=.+)", r"\1", text_of(".env.example").partition("\n# -----")[2].partition("\n")[2]))
        taken = run("config", config=f"{folder}/env", secret="Zk3vN8xQ1pL6tR9wY2mB5cD7fG4hJ0sA")
        assert taken.returncode == 0, taken.stderr


@pytest.mark.parametrize("name", ["Dockerfile", "docker-compose.yml", "systemd/hourz.service", "debian/hourzctl", "healthcheck"])
def test_only_settings_that_there_are(settings, name):
    apart = {"HOURZ_CONFIG", "HOURZ_OWNER_PASSWORD", "HOURZ_APP_PASSWORD", "HOURZ_PORT", "HOURZ_PROXY_PORT"}
    assert set(re.findall(r"HOURZ_[A-Z_]+", text_of(name))) <= set(settings) | apart


def test_compose():
    compose = yaml.safe_load(text_of("docker-compose.yml"))
    services = compose["services"]
    known = {"image", "build", "restart", "init", "read_only", "tmpfs", "cap_drop", "security_opt", "stop_grace_period", "ulimits",
             "depends_on", "environment", "ports", "volumes", "profiles", "deploy", "healthcheck", "command", "shm_size"}
    for name, service in services.items():
        assert set(service) <= known and ("image" in service or "build" in service), name
        for other, wish in service.get("depends_on", {}).items():
            assert other in services and set(wish) == {"condition"}, name
            # What is waited for must be able to say that it is well; the image of Hourz brings its own check.
            assert "healthcheck" in services[other] or services[other]["image"] == "hourz:latest", other
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or os.path.exists(f"{DEPLOY}/{source}"), volume
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "nothing is open to the world by accident"
    assert {name for name, service in services.items() if "profiles" not in service} == {"database", "hourz"}
    # Every variable has a default, or says what is missing.
    for found in re.findall(r"\$\{([^}]*)\}", text_of("docker-compose.yml")):
        assert ":-" in found or ":?" in found, found
    for required in re.findall(r"\$\{(\w+):\?", text_of("docker-compose.yml")):
        assert re.search(rf"^#{required}=", text_of(".env.example"), re.M), required
    assert "proxy" in services and services["node"]["deploy"]["replicas"] > 1


def test_scripts():
    for name in ("debian/postinst", "debian/prerm", "debian/postrm", "debian/hourzctl", "healthcheck", "postgres/init.sh"):
        assert os.access(f"{DEPLOY}/{name}", os.X_OK), name
        shell = text_of(name).split("\n")[0][2:]
        subprocess.run([shell, "-n", f"{DEPLOY}/{name}"], check=True, timeout=10)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_the_unit_is_hard():
    told = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", f"{DEPLOY}/systemd/hourz.service"],
                          capture_output=True, text=True, timeout=60)
    level = float(re.search(r"Overall exposure level for hourz.service: ([0-9.]+)", told.stdout)[1])
    assert level <= 1.5, told.stdout
    with open(f"{ROOT}/docs/operations.md", encoding="utf-8") as guide:
        said = re.search(r"`systemd-analyze security` gives it ([0-9]\.[0-9])", guide.read())
    assert said and float(said[1]) == level, f"docs/operations.md should say {level}"


# ---- several servers behind nginx ----------------------------------------------------------------------------------


@contextlib.contextmanager
def nginx(folder, configuration):
    """nginx with this text in its http block, in the foreground, with nothing outside of `folder`."""
    with open(f"{folder}/nginx.conf", "w", encoding="utf-8") as file:
        file.write(f"daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1; events {{}}\n"
                   + ("user root;\n" if os.geteuid() == 0 else "")
                   + "http { access_log off; "
                   + "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
                   + configuration + "}\n")
    running = subprocess.Popen(["nginx", "-p", folder, "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"],
                               env={"PATH": "/usr/sbin:/usr/bin"})
    try:
        yield running
    finally:
        harness.end(running)
        assert "[emerg]" not in open(f"{folder}/error.log", encoding="utf-8").read()


@contextlib.contextmanager
def proxied(**settings):
    """The address of nginx, and the two servers that it stands before."""
    if not shutil.which("nginx", path="/usr/sbin:/usr/bin"):
        pytest.skip("nginx is not installed")
    with cluster() as database, scratch() as folder, contextlib.ExitStack() as stack:
        settings = {**database.urls(), "secret": "Zk3vN8xQ1pL6tR9wY2mB5cD7fG4hJ0sA", **settings}
        servers = []
        for n in range(2):
            servers.append(Server(f"{folder}/{n}", **settings))
            stack.callback(servers[-1].close)
        port = free_port()
        configuration = text_of("nginx/hourz.conf")
        first, second = (f"server 127.0.0.1:{server.port} max_fails=2 fail_timeout=2s;" for server in servers)
        for here, there in (("listen 8080;", f"listen 127.0.0.1:{port};"),
                            ("server node:8000 max_fails=2 fail_timeout=2s;", f"{first} {second}")):
            assert configuration.count(here) == 1, here
            configuration = configuration.replace(here, there)
        os.mkdir(f"{folder}/nginx")
        stack.enter_context(nginx(f"{folder}/nginx", configuration))
        base = f"http://127.0.0.1:{port}"

        def answers():
            with contextlib.suppress(OSError), Client(base) as client:
                return client.call("GET", "/health/ready").status == 200
            return False

        wait_for(answers, "nginx answers")
        yield base, servers


@pytest.fixture(scope="module")
def behind():
    with proxied() as pair:
        yield pair


def warm(server, token):
    """Until its connections to the database are made, which may take a while beside other tests."""
    with Client(server.base, token) as client:
        for _ in range(8):
            client.close()
            wait_for(lambda: client.call("GET", "/api/users/me").status == 200, "it reads")
            wait_for(lambda: client.call("GET", "/api/chat/rooms").status == 200, "it reads")


def requests_in(server, endpoint):
    return [line for line in server.log().splitlines() if f'"endpoint":"{endpoint}"' in line]


def test_both_servers_answer(behind):
    base, servers = behind
    with Person(base, "Mali") as person:
        for _ in range(20):
            person.close()
            person.get("/api/users/me")
        assert person.call("GET", "/health/live", status=200).headers["x-request-id"]
    wait_for(lambda: all(requests_in(server, "users.me") for server in servers), "both served some")


def test_sockets_work_through_it(behind):
    """Two people on two servers, behind one address."""
    base, servers = behind
    with Person(base, "Mali") as seeker, Person(base, "Somchai") as helper:
        for server in servers:
            warm(server, seeker.token)
        one = seeker.post("/api/gigs", harness.gig(), 201).json["id"]
        helper.post(f"/api/gigs/{one}/accept", None, 200)
        (room,) = seeker.get("/api/chat/rooms").json["rooms"]
        # A socket at each server and one through the proxy: whoever holds it, what is said arrives.
        with Socket(servers[0].base, helper.token) as first, Socket(servers[1].base, helper.token) as second, Socket(base, seeker.token) as socket:
            for each in (first, second, socket):
                each.ask("join_room", room_id=room["id"])
            for n in range(5):
                socket.ask("send_message", room_id=room["id"], content=f"hello {n}")
            for each in (first, second):
                heard = [each.message()["content"] for _ in range(5)]
                assert heard == [f"hello {n}" for n in range(5)]


def test_what_is_not_for_the_world(behind):
    base, servers = behind
    with Client(base, check=False) as client:
        assert client.call("GET", "/metrics").status == 404
    with Client(servers[0].base) as client:
        assert client.call("GET", "/metrics").status == 200


def test_a_server_goes_and_nobody_notices(behind):
    """A rolling restart: reads go on without an error while one server after the other is drained and comes back."""
    base, servers = behind
    with Person(base, "Rolling") as person:
        token = person.token
    for server in servers:
        warm(server, token)
    for server in servers:
        assert server.stop() == 0
        with Client(base, token) as client:
            for _ in range(30):
                client.get("/api/users/me")
        server.start()
        warm(server, token)
        # The proxy leaves a server alone for its fail_timeout: the next one waits until this one is asked again.
        before = len(requests_in(server, "users.me"))
        with Client(base, token) as client:
            wait_for(lambda: client.get("/api/users/me") and len(requests_in(server, "users.me")) > before, "it is asked again")
