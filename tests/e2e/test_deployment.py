"""The files of deploy/: what they set is what there is to be set, the unit is as hard as the guide says, and nginx with
its configuration as it is stands before two servers. What needs a container or a bare system is in tests/deploy.
"""

import contextlib
import ipaddress
import json
import os
import re
import secrets
import shutil
import subprocess
from urllib.parse import quote

import pytest
import yaml

import harness
from harness import ROOT, Client, Person, Server, cluster, free_port, run, scratch, wait_for
from pictures import png, upload
from redis_server import Redis
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
    assert set(re.findall(r"HOURZ_[A-Z0-9_]+", text_of(name))) <= set(settings) | apart


def test_compose():
    compose = yaml.safe_load(text_of("docker-compose.yml"))
    services = compose["services"]
    known = {"image", "build", "restart", "init", "read_only", "tmpfs", "cap_drop", "security_opt", "stop_grace_period", "ulimits",
             "depends_on", "environment", "ports", "volumes", "profiles", "deploy", "healthcheck", "command", "shm_size",
             "networks"}
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


def environment_of(service, **filled):
    """What a container of this service has, with `filled` as deploy/.env; what that leaves out is not set."""
    listed = yaml.safe_load(text_of("docker-compose.yml"))["services"][service]["environment"]
    assert isinstance(listed, dict)

    def value(found):
        name, separator, rest = re.match(r"(\w+)(:[-?])?(.*)", found[1], re.S).groups()
        return filled[name] if filled.get(name) else rest if separator == ":-" else pytest.fail(f"{name} has no default")

    given = {name: filled.get(name) if text is None else re.sub(r"\$\{([^}]*)\}", value, str(text)) for name, text in listed.items()}
    return {name: text for name, text in given.items() if text is not None}


FILLED = {"HOURZ_SECRET": "Zk3vN8xQ1pL6tR9wY2mB5cD7fG4hJ0sA", "POSTGRES_PASSWORD": "one", "HOURZ_OWNER_PASSWORD": "two",
          "HOURZ_APP_PASSWORD": "three"}


@pytest.mark.parametrize("service", ["hourz", "node"])
def test_compose_gives_what_is_taken(settings, service):
    """With the secrets alone, and with every line of the example: the program takes the environment."""
    example = re.findall(r"^#(HOURZ_\w+)=(.+)$", text_of(".env.example").partition("\n# -----")[2], re.M)
    for more in ({}, dict(example), {"HOURZ_STORAGE": "s3", "HOURZ_S3_ENDPOINT": "http://store:9000", "HOURZ_S3_BUCKET": "b",
                                     "HOURZ_S3_ACCESS_KEY": "k", "HOURZ_S3_SECRET_KEY": "s"}):
        given = environment_of(service, **{**more, **FILLED})
        assert set(given) <= set(settings), set(given) - set(settings)
        told = run("config", **{name[6:].lower(): text for name, text in given.items()})
        assert told.returncode == 0, told.stderr
        assert f"now:     {more.get('HOURZ_STORAGE', 'local')}\n" in told.stdout


def test_compose_names_the_proxy():
    """Trusted are this network's gateway and the proxy's fixed address, which nobody else is given."""
    compose = yaml.safe_load(text_of("docker-compose.yml"))
    (net,) = compose["networks"]["default"]["ipam"]["config"]
    proxy = compose["services"]["proxy"]["networks"]["default"]["ipv4_address"]
    for service in ("hourz", "node"):
        assert environment_of(service, **FILLED)["HOURZ_TRUSTED_PROXIES"] == f"{net['gateway']},{proxy}"
    subnet, given = ipaddress.ip_network(net["subnet"]), ipaddress.ip_network(net["ip_range"])
    assert given.subnet_of(subnet)
    for fixed in (net["gateway"], proxy):
        assert ipaddress.ip_address(fixed) in subnet and ipaddress.ip_address(fixed) not in given


def test_compose_uses_what_the_others_listen_on(settings):
    services = yaml.safe_load(text_of("docker-compose.yml"))["services"]
    image = dict(re.findall(r"(HOURZ_\w+)=(\S+)", re.search(r"^ENV (.*)$", text_of("Dockerfile"), re.M)[1]))
    assert set(image) <= set(settings) and image["HOURZ_LISTEN_ADDRESS"] == "0.0.0.0"
    port = image["HOURZ_LISTEN_PORT"]
    assert services["hourz"]["ports"][0].endswith(f":{port}") and f"EXPOSE {port}" in text_of("Dockerfile")
    for service in ("hourz", "node"):
        assert services[service]["volumes"] == [f"files:{image['HOURZ_DATA_DIRECTORY']}"], "all of them share the files"
        assert "HOURZ_LISTEN_PORT" not in services[service]["environment"]
    configuration = text_of("nginx/hourz.conf")
    assert f"server node:{port} " in configuration
    assert services["proxy"]["ports"][0].endswith(":" + re.search(r"listen (\d+);", configuration)[1])
    assert environment_of("node", **FILLED)["HOURZ_REDIS_URL"].startswith("redis://redis:6379")
    # The database's own script makes the roles and the database that the servers name.
    script = text_of("postgres/init.sh")
    for name in ("HOURZ_DATABASE_URL", "HOURZ_MIGRATION_URL"):
        role, database = re.search(r"//(\w+):.*/(\w+)$", environment_of("node", **FILLED)[name]).groups()
        assert f"CREATE ROLE {role} " in script and f"CREATE DATABASE {database} " in script
    for variable in re.findall(r"\$(HOURZ_\w+|POSTGRES_\w+)", script):
        assert variable in services["database"]["environment"] or variable == "POSTGRES_USER", variable
    # Connections of all servers fit.
    most = int(re.search(r"max_connections=(\d+)", " ".join(services["database"]["command"]))[1])
    assert services["node"]["deploy"]["replicas"] * (int(settings["HOURZ_POOL_CONNECTIONS"]) + 8 * int(settings["HOURZ_READ_CONNECTIONS"]) + 1) < most


def test_scripts():
    for name in ("debian/postinst", "debian/prerm", "debian/postrm", "debian/hourzctl", "healthcheck", "postgres/init.sh"):
        assert os.access(f"{DEPLOY}/{name}", os.X_OK), name
        shell = text_of(name).split("\n")[0][2:]
        subprocess.run([shell, "-n", f"{DEPLOY}/{name}"], check=True, timeout=10)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_the_unit_is_hard():
    told = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", f"{DEPLOY}/systemd/hourz.service"],
                          capture_output=True, text=True, timeout=60)
    assert told.returncode == 0 and "Unknown" not in told.stderr, told.stderr
    level = float(re.search(r"Overall exposure level for hourz.service: ([0-9.]+)", told.stdout)[1])
    assert level <= 1.5, told.stdout
    with open(f"{ROOT}/docs/operations.md", encoding="utf-8") as guide:
        said = re.search(r"`systemd-analyze security` gives it ([0-9]\.[0-9])", guide.read())
    assert said and float(said[1]) == level, f"docs/operations.md should say {level}"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_the_unit_is_well_formed():
    """Every line is one that systemd knows; the program itself is elsewhere here, and stands in for it."""
    with scratch() as folder:
        with open(f"{folder}/hourz.service", "w", encoding="utf-8") as file:
            file.write(text_of("systemd/hourz.service").replace("/usr/bin/hourz", harness.binary()).replace("Documentation=", "#"))
        told = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"{folder}/hourz.service"],
                              capture_output=True, text=True, timeout=60)
        said = [line for line in (told.stdout + told.stderr).splitlines() if "hourz.service" in line]
        assert told.returncode == 0 and not said, told.stdout + told.stderr


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
def proxied(count=2, **settings):
    """The address of nginx, and the servers that it stands before."""
    if not shutil.which("nginx", path="/usr/sbin:/usr/bin"):
        pytest.skip("nginx is not installed")
    with cluster() as database, scratch() as folder, contextlib.ExitStack() as stack:
        settings = {**database.urls(), "secret": FILLED["HOURZ_SECRET"], "trusted_proxies": "127.0.0.1", **settings}
        servers = []
        for n in range(count):
            servers.append(Server(f"{folder}/{n}", **settings))
            stack.callback(servers[-1].close)
        base = stack.enter_context(nginx_before(servers, folder))
        yield base, servers


@contextlib.contextmanager
def nginx_before(servers, folder):
    """Its address, with deploy/nginx/hourz.conf as it is but for the addresses in it."""
    port = free_port()
    configuration = text_of("nginx/hourz.conf")
    nodes = " ".join(f"server 127.0.0.1:{server.port} max_fails=2 fail_timeout=2s;" for server in servers)
    for here, there in (("listen 8080;", f"listen 127.0.0.1:{port};"), ("server node:8000 max_fails=2 fail_timeout=2s;", nodes)):
        assert configuration.count(here) == 1, here
        configuration = configuration.replace(here, there)
    os.mkdir(f"{folder}/nginx")
    with nginx(f"{folder}/nginx", configuration):
        base = f"http://127.0.0.1:{port}"

        def answers():
            with contextlib.suppress(OSError), Client(base) as client:
                return client.call("GET", "/health/ready").status == 200
            return False

        wait_for(answers, "nginx answers")
        yield base


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
        asked = set()
        with Client(base, token) as client:

            def has_one():
                asked.add(client.get("/api/users/me").headers["x-request-id"])
                return any(json.loads(line)["request_id"] in asked for line in requests_in(server, "users.me"))

            wait_for(has_one, "it is asked again")


# ---- who the client is ---------------------------------------------------------------------------------------------


def tries_to_log_in(base, source, claimed=None):
    with Client(base, source=source) as client:
        return client.call("POST", "/api/auth/login", {"email": f"{secrets.token_hex(8)}@example.com", "password": "wrong words"},
                           headers={"X-Forwarded-For": claimed} if claimed else {}).status


def addresses_in(server, endpoint):
    return {json.loads(line)["ip"] for line in requests_in(server, endpoint)}


def test_the_clients_address_counts():
    """Each client of nginx has a count of its own, whatever it claims to be; what nginx heard from a trusted proxy counts."""
    with proxied(count=1, rate_limit="on", rate_auth="5/3600") as (base, (server,)):
        # Seven of one client, each time as somebody else: five are its share.
        statuses = [tries_to_log_in(base, "127.0.0.5", f"203.0.113.{n}") for n in range(7)]
        assert statuses == [401] * 5 + [429] * 2
        # It has not used up another's, nor the one it claimed.
        assert tries_to_log_in(base, "127.0.0.6", "127.0.0.5") == 401
        assert tries_to_log_in(base, "127.0.0.5", "127.0.0.6") == 429
        wait_for(lambda: addresses_in(server, "auth.login") == {"127.0.0.5", "127.0.0.6"}, "the log knows them")
        # Around the proxy nothing is believed.
        assert tries_to_log_in(server.base, "127.0.0.7", "198.51.100.7") == 401
        wait_for(lambda: "127.0.0.7" in addresses_in(server, "auth.login"), "the log knows it")
        # A trusted proxy before nginx: what it says counts, and what its client had claimed further left does not.
        statuses = [tries_to_log_in(base, "127.0.0.1", f"203.0.113.{n}, 198.51.100.7") for n in range(7)]
        assert statuses == [401] * 5 + [429] * 2
        assert tries_to_log_in(base, "127.0.0.1", "198.51.100.8") == 401
        wait_for(lambda: "198.51.100.8" in addresses_in(server, "auth.login"), "the log knows it")
        assert addresses_in(server, "auth.login") == {"127.0.0.5", "127.0.0.6", "127.0.0.7", "198.51.100.7", "198.51.100.8"}
        assert "203.0.113." not in server.log()


def test_as_compose_runs_it():
    """Three servers with the settings of the service `node`, on one database, one Redis and one folder, behind nginx."""
    if shutil.which("redis-server") is None or not shutil.which("nginx", path="/usr/sbin:/usr/bin"):
        pytest.skip("redis-server or nginx is not here")
    given = environment_of("node", **FILLED)
    with cluster(provisioned=False) as database, scratch() as folder, contextlib.ExitStack() as stack:
        # The roles and the database, made as the database's image would.
        made = subprocess.run([f"{DEPLOY}/postgres/init.sh"], capture_output=True, text=True, timeout=60, check=False,
                              env={**environment_of("database", **FILLED), "POSTGRES_USER": "postgres", "PGHOST": database.sockets,
                                   "PATH": f"{harness.POSTGRES}:/usr/bin:/bin"})
        assert made.returncode == 0, made.stderr
        redis = Redis(folder)
        stack.callback(redis.kill)
        here = {"@database:5432/hourz": f"@/hourz?host={quote(database.sockets, safe='')}&port=5432", "redis://redis:6379": redis.url,
                "172.30.0.2": "127.0.0.1"}
        for there, found in here.items():
            assert any(there in text for text in given.values()), there
            given = {name: text.replace(there, found) for name, text in given.items()}
        settings = {name[6:].lower(): text for name, text in given.items()}
        servers = []
        for n in range(3):
            servers.append(Server(f"{folder}/files", log=f"{folder}/{n}.log", **{"rate_limit": "on", **settings}))
            stack.callback(servers[-1].close)
        base = stack.enter_context(nginx_before(servers, folder))
        for server in servers:
            wait_for(lambda s=server: "hourz_bus_peers 2" in metrics(s), "each has met the others")
        with Person(base, "Mali") as seeker, Person(base, "Somchai") as helper:
            # A picture that one of them stored is served by all, and so is what one of them decided.
            picture = upload(seeker, png(60, 40)).json["url"]
            one = seeker.post("/api/gigs", harness.gig(image_urls=[picture]), 201).json["id"]
            for server in servers:
                warm(server, helper.token)
                with Client(server.base, helper.token) as client:
                    assert client.get(picture).headers["content-type"].startswith("image/")
                    assert client.get(f"/api/gigs/{one}").json["id"] == one
            helper.post(f"/api/gigs/{one}/accept", None, 200)
            (room,) = seeker.get("/api/chat/rooms").json["rooms"]
            with contextlib.ExitStack() as opened:
                sockets = [opened.enter_context(Socket(server.base, helper.token)) for server in servers]
                for each in sockets:
                    each.ask("join_room", room_id=room["id"])
                with Socket(base, seeker.token) as socket:
                    socket.ask("join_room", room_id=room["id"])
                    socket.ask("send_message", room_id=room["id"], content="hello")
                assert [each.message()["content"] for each in sockets] == ["hello"] * 3
            # One is killed: nobody is told so.
            servers[0].kill()
            for _ in range(30):
                seeker.close()
                seeker.get("/api/users/me")
        assert {address for server in servers for address in addresses_in(server, "users.me")} == {"127.0.0.1"}


def metrics(server):
    with Client(server.base, check=False) as client:
        return client.call("GET", "/metrics").body.decode()
