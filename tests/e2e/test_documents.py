"""The document of the WebSocket's events, and the pages that show the documents to people."""

import json

import harness
import pytest
from harness import run

POLICY = ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]


def committed():
    with open(f"{harness.ROOT}/docs/asyncapi.json", encoding="utf-8") as file:
        return file.read()


def test_asyncapi_is_printed_without_settings():
    done = run("asyncapi")
    assert done.returncode == 0
    assert done.stdout == committed(), "hourz asyncapi >docs/asyncapi.json"
    assert run("asyncapi", "now").returncode == 2


def test_asyncapi_is_served_and_kept_by_its_tag(anyone):
    first = anyone.get("/asyncapi.json")
    assert first.json == json.loads(committed())
    assert first.headers["content-type"] == "application/json"
    tag = first.headers["etag"]
    again = anyone.call("GET", "/asyncapi.json", status=304, headers={"If-None-Match": tag})
    assert again.headers["etag"] == tag and again.body == b""
    anyone.call("GET", "/asyncapi.json", status=200, headers={"If-None-Match": '"another"'})


def test_operations_speak_of_messages_that_are_there():
    document = json.loads(committed())
    messages = document["components"]["messages"]
    for name, operation in document["operations"].items():
        for reference in [*operation["messages"], *operation.get("reply", {}).get("messages", [])]:
            assert reference["$ref"].rsplit("/", 1)[1] in messages, f"{name}: {reference}"
    closes = [close["code"] for close in document["channels"]["socket"]["x-close-codes"]]
    assert len(set(closes)) == len(closes) and {1001, 4401, 4501} <= set(closes)


@pytest.mark.parametrize("path, kind", [("/docs", "text/html"), ("/docs/errors", "text/html"), ("/docs/events", "text/html"), ("/docs/events.js", "text/javascript"),
                                        ("/docs/frames.js", "text/javascript"), ("/docs/events.css", "text/css")])
def test_pages_are_served_under_the_policy(anyone, path, kind):
    first = anyone.get(path)
    assert first.headers["content-type"] == f"{kind}; charset=utf-8"
    policy = first.headers["content-security-policy"].split("; ")
    assert set(POLICY) <= set(policy) and "unsafe" not in first.headers["content-security-policy"]
    assert first.headers["x-content-type-options"] == "nosniff"
    anyone.call("GET", path, status=304, headers={"If-None-Match": first.headers["etag"]})


def test_the_type_of_every_problem_leads_to_its_entry(anyone):
    page = anyone.get("/docs/errors").body.decode()
    codes = harness.document()["components"]["schemas"]["ErrorCode"]["enum"]
    assert len(codes) > 50
    for code in codes:
        assert page.count(f'<article id="{code}">') == 1, code
    problem = anyone.get("/api/users/me", status=401).json
    assert problem["type"].partition("#")[2] in codes and problem["type"].startswith("/docs/errors#")
