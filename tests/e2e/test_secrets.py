"""E03: what the machine shows of the server and its database while everybody works, beside the log (e2e.logs): processes,
the statements that PostgreSQL shows, and what a crash would leave behind."""

import contextlib
import itertools
import os
import resource
import secrets
import signal
import threading

import pytest

import harness
from harness import PASSWORD, Person, children_of, family_of, slack, together, wait_for
from psql import Psql
from sockets import Meeting


def core_limits(pids):
    """Soft and hard, of those that are still there."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/limits", encoding="ascii") as limits:
            found.update({pid: tuple(line.split()[4:6]) for line in limits if line.startswith("Max core file size")})
    return found


def test_no_core_is_left():
    """Neither of the server nor of its PostgreSQL, though who started it allows any; the unit allows none."""
    with open(f"{harness.ROOT}/deploy/systemd/hourz.service", encoding="utf-8") as unit:
        assert "LimitCORE=0" in unit.read().splitlines()
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    most = "unlimited" if os.geteuid() == 0 or most == resource.RLIM_INFINITY else most
    with harness.server(wrap=["prlimit", f"--core={most}"]) as own:
        with Person(own.base):
            found = core_limits(family_of(own.pid))
        assert {own.pid, own.postmaster()} < set(found) and set(found.values()) == {("0", "0")}, found
        if harness.sanitized():
            pytest.skip("a sanitizer's runtime takes the signal")
        os.kill(own.pid, signal.SIGABRT)
        _, status = os.waitpid(own.pid, 0)
        assert os.WTERMSIG(status) == signal.SIGABRT and not os.WCOREDUMP(status)


class Watch:
    """Looks all the time: at the statements of all connections, and at the processes."""

    def __init__(self, server):
        self.server, self.statements, self.processes, self.rounds, self.over = server, set(), set(), 0, False
        self.thread = threading.Thread(target=self.look)

    def look(self):
        with Psql(self.server.database()) as psql:
            while not self.over:
                self.statements |= {text for (text,) in psql.sql(
                    "SELECT to_json(concat_ws(' ', query, application_name, client_hostname)) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND query <> ''")}
                for pid in (self.server.pid, *children_of(self.server.postmaster())):
                    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as shown:
                        self.processes.add(shown.read().decode("utf-8", "replace"))
                self.rounds += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join()


def test_neither_processes_nor_statements_tell(server, base):
    """Values never stand in a statement: PostgreSQL shows them to whoever may look at its activity, and logs the slow ones."""
    words, password, phone = f"canary-{secrets.token_hex(8)}", f"canary {secrets.token_hex(8)}", "0898765432"
    people = [Person(base, words, email=f"canary{secrets.token_hex(6)}@example.com") for _ in range(4)]
    canaries = {PASSWORD, password, words, phone, phone[1:], "13.7234567", "100.5987654", server.secret()}
    canaries |= {text for person in people for text in (person.email, person.token, person.refresh_token)}

    def work(person, other):
        for turn in range(5):
            old, new = (PASSWORD, password) if turn % 2 == 0 else (password, PASSWORD)
            person.put("/api/auth/password", {"current_password": old, "new_password": new}, 204)
            person.login(password=new)
            person.login(401, password=words)
            pair = person.call("POST", "/api/auth/refresh", {"refresh_token": person.refresh_token}, 200).json
            canaries.update((person.token, person.refresh_token))
            person.token, person.refresh_token = pair["access_token"], pair["refresh_token"]
            canaries.update((person.token, person.refresh_token))
            person.put("/api/users/location", {"latitude": 13.7234567, "longitude": 100.5987654, "address_text": words})
            person.put("/api/users/me", {"bio": words, "contact_info": {"phone_number": phone, "line_id": words}})
            person.get("/api/gigs", latitude=13.7234567, longitude=100.5987654, q=words)
            person.call("POST", "/api/auth/password-reset", {"email": person.email}, 202)
            canaries.add(person.post("/api/ws/ticket", None, {200, 201}).json["ticket"])
            meeting = Meeting(person, other, title=words, latitude=13.7234567, longitude=100.5987654)
            meeting.say(other, words)
            with meeting.joined(person) as socket:
                socket.ask("send_message", room_id=meeting.room, content=words)

    try:
        with Watch(server) as watch:
            together(*(lambda one=one, other=other: work(one, other.again()) for one, other in
                       zip(people[::2], people[1::2])))
            # What a connection did last stays visible, so a little more is enough to have seen the end.
            wait_for(lambda at=watch.rounds: watch.rounds > at + 2, "another look", slack(10))
    finally:
        for person in people:
            person.close()
    told = "\n".join(itertools.chain(watch.statements, watch.processes))
    # It was looked at the right things: statements of the server, with places for values, and PostgreSQL's processes.
    assert sum("$1" in text for text in watch.statements) > 15 and watch.rounds > 20, (watch.rounds, watch.statements)
    assert any("FROM users WHERE email = $1" in text for text in watch.statements), watch.statements
    assert any("hourz_app" in text for text in watch.processes), watch.processes
    for canary in canaries:
        assert canary not in told, canary
