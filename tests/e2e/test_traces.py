"""E05: what happens to security leaves one event each, by which it can be followed: who, from where, and the id that the
client has in `instance`."""

import collections
import json

import harness
from harness import Client, Person, run
from sockets import Meeting


def events_of(server):
    """{request id: events}."""
    found = collections.defaultdict(list)
    for line in server.log().splitlines():
        event = json.loads(line)
        found[event.get("request_id")].append(event)
    return found


def test_security_events_can_be_followed():
    told = {}
    with harness.server(rate_limit="on", rate_auth="1000", rate_account="1000", trusted_proxies="127.0.0.1",
                        rate_standard="60/3600") as own:
        with Person(own.base, "Mali") as mali, Person(own.base, "Somchai") as somchai, Person(own.base) as admin:
            assert run("admin", "grant", admin.email, data_directory=own.directory).returncode == 0
            admin.login()  # the server may know the token with its former role for a second

            def seen(name, person, ip, method, target, body=None, status=None):
                """Asks as this person, from an address; notes by what it must be found in the log."""
                with Client(own.base, person.token if person else None) as client:
                    answer = client.call(method, target, body, status, {"X-Forwarded-For": ip})
                if answer.status >= 400:
                    assert answer.json["instance"] == "urn:hourz:request:" + answer.headers["x-request-id"]
                told[name] = answer.headers["x-request-id"], ip, person.id if person else None, answer.status
                return answer

            for name, email in (("wrong password", mali.email), ("nobody", "nobody@example.com")):
                seen(name, None, "9.9.9.1", "POST", "/api/auth/login", {"email": email, "password": "a guess"}, 401)
            seen("forbidden", mali, "9.9.9.2", "GET", "/api/admin/reports", None, 403)
            meeting = Meeting(mali, somchai)
            payment = mali.post("/api/transactions/escrow", {"gig_id": meeting.gig}, 201).json["id"]
            seen("refund", admin, "9.9.9.3", "PUT", f"/api/transactions/{payment}/refund", {}, 200)
            seen("forged", None, "9.9.9.4", "GET", "/api/users/me", None, 401)
            for _ in range(70):
                if seen("limit", mali, "9.9.9.5", "GET", "/api/users/me").status == 429:
                    break
            assert told["limit"][3] == 429
            mali_id = mali.id
        assert own.stop() == 0
        events = events_of(own)
    for name, (request_id, ip, user_id, status) in told.items():
        mine = events[request_id]
        (request,) = [event for event in mine if event["event"] == "request"]
        assert (request["ip"], request.get("user_id"), request["status"]) == (ip, user_id, status), (name, request)
        others = [event for event in mine if event is not request]
        if name in ("wrong password", "nobody"):
            (failed,) = others
            # Whose account it was stands there; what was typed does not.
            assert (failed["event"], failed["level"], failed["ip"]) == ("login.failed", "warn", ip)
            assert failed.get("user_id") == (mali_id if name == "wrong password" else None), failed
        else:
            assert not others, (name, others)
    assert events[told["refund"][0]][0]["endpoint"] == "payments.refund"
