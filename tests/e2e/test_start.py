"""What a server says when it cannot start, or should not: one clear line each, exit 2, and no open port."""

import contextlib
import os
import re
import socket
import time

import pytest

import harness
from harness import NotStarted, Server, free_port, run, scratch

GOOD_SECRET = "Zk3vN8xQ1pL6tR9wY2mB5cD7fG4hJ0sA"


def refusal(**settings):
    """The lines on standard error of a start that fails."""
    port = free_port()
    with scratch() as folder:
        done = run("serve", timeout_s=20, **{"listen_port": port, "data_directory": f"{folder}/data", **settings})
        assert not os.path.exists(f"{folder}/data/postgres"), "went to work before looking at its settings"
    assert done.returncode == 2, done
    assert "listening" not in done.stdout
    with socket.socket() as peer:
        assert peer.connect_ex(("127.0.0.1", port)) != 0
    return done.stderr.splitlines()


@pytest.mark.parametrize("secret,why", [
    (None, "is needed in production"),
    ("", "is needed in production"),
    ("short", "at least 32 bytes"),
    ("x" * 31, "at least 32 bytes"),
    ("x" * 64, "sample value"),
    ("change-me-change-me-change-me-change-me", "sample value"),
    ("this-is-an-example-of-a-long-enough-one", "sample value"),
    ("my-very-secret-secret-that-is-long-enough", "sample value"),
], ids=["missing", "empty", "short", "31_bytes", "one_letter", "change", "example", "secret"])
def test_production_needs_a_secret(secret, why):
    """A06."""
    settings = {} if secret is None else {"secret": secret}
    lines = refusal(environment="production", rate_limit="on", **settings)
    assert len(lines) == 2 and lines[1].startswith("HOURZ_SECRET: ") and why in lines[1], lines


@pytest.mark.parametrize("keys", ["k", "k:short", ":" + GOOD_SECRET, f"a:{GOOD_SECRET},b:{GOOD_SECRET},c:{GOOD_SECRET}",
                                  "a:" + "x" * 40], ids=["bare", "short", "nameless", "three", "one_letter"])
def test_production_needs_good_token_keys(keys):
    lines = refusal(environment="production", secret=GOOD_SECRET, token_keys=keys)
    assert any(line.startswith("HOURZ_TOKEN_KEYS: ") for line in lines[1:]), lines


def test_short_secret_is_refused_in_development_too():
    assert any("HOURZ_SECRET" in line for line in refusal(secret="short"))


def test_limits_are_not_lifted_in_production_by_accident():
    lines = refusal(environment="production", secret=GOOD_SECRET, rate_limit="off")
    assert lines[1:] == ["HOURZ_RATE_LIMIT: off is refused in production; off-in-production-too says it twice"]


def test_every_wrong_setting_has_its_line():
    wrong = {"listen_port": "65536", "threads": "many", "environment": "staging", "log_level": "loud", "pool_connections": "0",
             "hash_memory_kib": "1024", "raet_limit": "off", "drain_timeout_ms": "-1", "idle_timeout_ms": "1e3"}
    done = run("serve", timeout_s=20, **wrong)
    assert done.returncode == 2
    named = [line.split(":")[0] for line in done.stderr.splitlines()[1:]]
    assert sorted(named) == sorted(f"HOURZ_{name.upper()}" for name in wrong), done.stderr


def test_settings_from_a_file(tmp_path):
    file = tmp_path / "settings"
    file.write_text("# a comment\nHOURZ_THREADS=3\nHOURZ_LOG_LEVEL=loud\nnonsense\n")
    lines = refusal(config=str(file))
    assert len(lines) == 3 and "HOURZ_LOG_LEVEL" in "".join(lines) and f"{file}:4" in "".join(lines)
    assert any("HOURZ_CONFIG" in line for line in refusal(config="/nowhere/at/all"))


def test_config_prints_everything_and_masks_secrets():
    shown = run("config", secret=GOOD_SECRET, database_url="postgres://me:hunter2@db/x", threads=3)
    assert shown.returncode == 0
    assert GOOD_SECRET not in shown.stdout and "hunter2" not in shown.stdout
    assert "HOURZ_THREADS" in shown.stdout and "now:     3" in shown.stdout
    assert len(re.findall(r"^HOURZ_\w+$", shown.stdout, re.M)) > 30


def test_help_and_mistakes():
    assert run("--help").returncode == 0
    for mistake in (["sevre"], ["serve", "now"], ["migrate"], ["migrate", "down"], ["admin", "grant"], ["demo", "--users"]):
        done = run(*mistake)
        assert done.returncode == 2 and done.stderr.startswith("hourz: ") and len(done.stderr.splitlines()) == 1, done


def test_openapi_is_printed_without_settings():
    done = run("openapi")
    assert done.returncode == 0
    with open(f"{harness.ROOT}/docs/openapi.json", encoding="utf-8") as committed:
        assert done.stdout == committed.read(), "hourz openapi >docs/openapi.json"


# ---- one server a data directory, one server a port ----------------------------------------------------------------


def test_second_server_on_the_same_data_is_refused(server):
    done = run("serve", data_directory=server.directory, listen_port=free_port())
    assert done.returncode == 2
    assert str(server.pid) in done.stderr and "hourz serve" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert server.process.poll() is None and server.postmaster()


def test_taken_port_is_refused(server):
    with scratch() as folder:
        with pytest.raises(NotStarted) as refused:
            Server(f"{folder}/data", listen_port=server.port)
    assert refused.value.code in (1, 2)
    assert str(server.port) in refused.value.errors and "in use" in refused.value.errors, refused.value.errors


def test_foreign_directory_is_left_alone(tmp_path):
    with scratch() as folder:
        os.mkdir(f"{folder}/data")
        with open(f"{folder}/data/letter", "w", encoding="ascii") as letter:
            letter.write("Dear all")
        with pytest.raises(NotStarted) as refused:
            Server(f"{folder}/data")
        assert refused.value.code == 2 and f"{folder}/data" in refused.value.errors
        assert os.listdir(f"{folder}/data") == ["letter"]


def test_secret_of_development_is_private(server):
    state = os.stat(f"{server.directory}/secret")
    assert state.st_mode & 0o777 == 0o600 and os.stat(server.directory).st_mode & 0o777 == 0o700
    assert state.st_uid == harness.run_as().pw_uid
    assert server.secret() not in server.log()


def test_server_is_not_root(server):
    with open(f"/proc/{server.pid}/status", encoding="ascii") as status:
        owners = re.search(r"Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)", status.read()).groups()
    assert set(owners) == {str(harness.run_as().pw_uid)} and "0" not in owners


def test_database_listens_on_its_socket_alone(server):
    database = server.database()
    assert database.sql("SHOW listen_addresses") in ([], [[""]])
    assert database.sql("SHOW fsync") == database.sql("SHOW full_page_writes") == [["on"]]
    assert database.sql("SHOW synchronous_commit") == [["on"]]


def test_newer_schema_is_refused():
    """X03."""
    with harness.server() as own:
        own.database().sql("INSERT INTO schema_migrations (version, name, checksum, oldest_program) "
                           "SELECT 9999, 'from the future', checksum, 9999 FROM schema_migrations LIMIT 1")
        assert own.stop() == 0
        with pytest.raises(NotStarted) as refused:
            own.start()
        assert refused.value.code == 2 and "9999" in refused.value.errors, refused.value.errors
        line = [each for each in refused.value.errors.splitlines() if each.startswith("hourz: ")][-1]
        assert "newer" in line, line


def test_starts_within_the_promise(server):
    """A second start with nothing changed: serving within 5 s."""
    assert server.stop() == 0
    began = time.monotonic()
    server.start()
    assert time.monotonic() - began < harness.slack(5)


def test_newer_schema_that_allows_for_us_is_served():
    """X03: a step that only adds says so, and the servers of the version before go on until they are replaced."""
    with harness.server() as own:
        own.database().sql("INSERT INTO schema_migrations (version, name, checksum, oldest_program) "
                           "SELECT 9999, 'only adds', checksum, 1 FROM schema_migrations LIMIT 1")
        assert own.stop() == 0
        own.start()
        with harness.Person(own.base) as person:
            person.post("/api/gigs", harness.gig(), 201)


@contextlib.contextmanager
def programs(before):
    """A folder of PostgreSQL's programs, of which `postgres` first does what the line of shell says."""
    with scratch() as folder:
        for name in os.listdir(harness.POSTGRES):
            os.symlink(f"{harness.POSTGRES}/{name}", f"{folder}/{name}")
        os.unlink(f"{folder}/postgres")
        with open(f"{folder}/postgres", "w", encoding="ascii") as script:
            script.write(f'#!/bin/sh\n[ "$1" = --version ] || {before}\nexec {harness.POSTGRES}/postgres "$@"\n')
        os.chmod(f"{folder}/postgres", 0o755)
        yield folder


def test_lives_while_its_database_comes_back(server):
    """Whoever asks whether it lives must not have to wait for a log that is replayed; who asks for more hears 503."""
    gate = f"{server.directory}.gate"
    with programs(f"until [ -e {gate} ]; do sleep 0.02; done") as folder:
        server.kill()
        began = time.monotonic()
        server.settings["postgres_bin"] = folder
        server.start(wait_ready=False)
        try:
            with harness.Client(server.base) as client:
                client.call("GET", "/health/live", status=200)
                assert time.monotonic() - began < harness.slack(5)
                client.call("GET", "/health/ready", status=503)
                client.call("POST", "/api/auth/login", {"email": "a@example.com", "password": harness.PASSWORD}, 503)
                client.call("GET", "/health/live", status=200)
        finally:
            del server.settings["postgres_bin"]
            with open(gate, "w", encoding="ascii"):
                pass
        harness.wait_for(server.is_ready.is_set, "ready", harness.slack(30))


def test_stops_while_its_database_does_not_come(server):
    with programs("exec sleep 1000") as folder:
        assert server.stop() == 0
        server.settings["postgres_bin"] = folder
        server.start(wait_ready=False)
        assert server.stop() == 0
        del server.settings["postgres_bin"]
        server.start()
