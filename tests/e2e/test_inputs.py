"""Bodies, paths and numbers that a parser may stumble over, and fields that are not the caller's to write."""

import json
import uuid

import pytest

import harness
from harness import Client, Person, gig, slack

JSON = {"Content-Type": "application/json"}


def raw(text):
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


WHOLE = json.dumps(gig())[1:-1]
NOT_JSON = {
    "empty": "", "space": "  ", "depth_100k": "[" * 30000, "deep_objects": '{"a":' * 6000 + "1" + "}" * 6000,
    "nested_in_field": f'{{{WHOLE}, "category": {"[" * 5000}{"]" * 5000}}}', "trailing_garbage": f"{{{WHOLE}}} x",
    "two_values": f"{{{WHOLE}}}{{}}", "byte_order_mark": "\ufeff{" + WHOLE + "}", "comment": "{" + WHOLE + " /* c */}",
    "line_comment": "{" + WHOLE + "// c\n}", "trailing_comma": "{" + WHOLE + ",}", "single_quotes": "{'title': 'x'}", "bare_words": "{title: 1}",
    "nan": '{"budget": NaN}', "infinity": '{"budget": Infinity}', "leading_zero": '{"budget": 007}', "plus": '{"budget": +1}',
    "hex": '{"budget": 0x10}', "no_fraction": '{"budget": 1.}', "lone_surrogate": '{"title": "\\ud800 abc"}', "half_pair": '{"title": "abc \\udc00"}',
    "raw_surrogate": '{"title": "\ud800 abc"}', "overlong": b'{"title": "\xc0\xaf abc"}', "latin_1": b'{"title": "caf\xe9"}',
    "cut_utf8": b'{"title": "\xe0\xb8"}', "over_unicode": b'{"title": "\xf4\x90\x80\x80 abc"}', "raw_newline": '{"title": "a\nb c"}', "raw_nul": '{"title": "a\0b c"}',
    "bad_escape": '{"title": "\\x41bc"}', "cut": '{"title": "ab', "utf_16": json.dumps(gig()).encode("utf-16"),
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_not_json(seeker, name):
    """V02."""
    answer = seeker.call("POST", "/api/gigs", raw(NOT_JSON[name]), headers=JSON)
    assert answer.status in (400, 422) and answer.seconds < slack(0.3), answer
    assert answer.status == 400 or name in ("nested_in_field",), answer


def test_many_keys_cost_little(seeker):
    body = json.dumps({f"k{n}": n for n in range(4500)}).encode()
    answer = seeker.call("POST", "/api/gigs", body, (400, 422), JSON)
    assert answer.seconds < slack(0.3) and len(answer.body) < 200_000


@pytest.mark.parametrize("body", [f'{{{WHOLE}, "budget": 1}}', f'{{"title": "One title", {WHOLE}}}', f'{{{WHOLE}, "\\u0062udget": 1}}'])
def test_duplicate_keys(seeker, body):
    """V03: however they are written."""
    assert seeker.call("POST", "/api/gigs", raw(body), headers=JSON).status in (400, 422)


@pytest.mark.parametrize("query", ["limit=1&limit=9", "limit=1&%6cimit=1", "latitude=1&longitude=1&latitude=2"])
def test_duplicate_parameters(seeker, query):
    assert seeker.call("GET", f"/api/gigs?{query}", status=400).json["code"] == "duplicate_parameter"


def test_nul_and_control_characters(seeker):
    """V04, V08."""
    for bad in ("a\0bcd", "abc\x07", "abc\x1b[31m", "abc\u202edcba", "abc\ufffe", "abc\u2066def"):
        for field in ("title", "description"):
            assert seeker.post("/api/gigs", gig(**{field: bad}), 422).json["errors"][0]["field"] == field
        seeker.put("/api/users/me", {"bio": bad}, 422)
        seeker.call("GET", "/api/gigs", query={"q": bad}, status=400 if "\0" in bad else 422)
    assert seeker.call("GET", "/api/gigs/%00").status in (400, 404, 422)
    assert seeker.call("GET", "/api/gigs?q=%00").status in (400, 422)
    assert seeker.call("GET", "/api/gigs?q=%ff%fe").status in (400, 422)
    assert seeker.call("GET", "/api/gigs?q=%zz").status in (400, 422)


@pytest.mark.parametrize("number,status", [
    ("350", 201), ("350.5", 201), ("350.50", 201), ("3.5e2", 201), ("0", 201), ("-0", 201), ("10000000", 201), ("0.01", 201), ("1E2", 201),
    ("350.555", 422), ("0.001", 422), ("1e-3", 422), ("-0.01", 422), ("10000000.01", 422), ("9007199254740993", 422), ("9223372036854775808", 422),
    ("1e400", None), ("-1e400", None), ('"100"', 422), ("true", 422), ("[1]", 422), ("null", 422), ("0.1e", 400), ("1e", 400),
    ("1" * 400, None), ("99999.99", 201), ("0.07", 201), ("1.10", 201), ("4.35", 201),
])
def test_money(seeker, number, status):
    """V05: exact, or refused. (A number too small for a double reads as 0, as everywhere in JSON.)"""
    body = f'{{{json.dumps(gig())[1:-1].replace(chr(34) + "budget" + chr(34) + ": 350", chr(34) + "budget" + chr(34) + ": " + number)}}}'
    answer = seeker.call("POST", "/api/gigs", raw(body), headers=JSON)
    assert answer.status == status if status else answer.status in (400, 422), answer
    if status == 201:
        assert answer.json["budget"] == float(number)


@pytest.mark.parametrize("field", ["latitude", "longitude"])
def test_coordinates(seeker, field):
    """G01."""
    most = 90 if field == "latitude" else 180
    for value in (most, -most, 0, -0.0, 0.000001):
        seeker.post("/api/gigs", gig(**{field: value}), 201)
    for value in (most + 0.0001, -most - 0.0001, "1", "", None, True, [1], 1e300):
        assert seeker.post("/api/gigs", gig(**{field: value}), 422).json["errors"][0]["field"] == field
    for text in ("NaN", "Infinity", "1e400", "", "0x1p3", "1,5", "1 5", "+1_0"):
        point = {"latitude": "1", "longitude": "1", field: text}
        assert seeker.call("GET", "/api/gigs", query=point).status in (400, 422)
    only = dict(gig())
    del only[field]
    assert {each["field"] for each in seeker.post("/api/gigs", only, 422).json["errors"]} == {field}
    other = {"latitude": "longitude", "longitude": "latitude"}[field]
    assert seeker.call("GET", "/api/gigs", query={other: 1}, status=422).json["errors"][0]["field"] == field


def test_sizes_and_radii_are_refused_not_clamped(seeker):
    """G02."""
    for query in ({"limit": 0}, {"limit": 101}, {"limit": 10**9}, {"limit": -1}, {"limit": "1.0"}, {"limit": ""},
                  {"radius_km": 0}, {"radius_km": -1}, {"radius_km": 100.1}, {"radius_km": 1e9}, {"radius_km": 0.05}):
        seeker.call("GET", "/api/gigs", query={"latitude": 1, "longitude": 1, **query}, status=422)


@pytest.mark.parametrize("headers,status", [
    ({"Content-Type": "text/plain"}, 415), ({}, 415), ({"Content-Type": "application/xml"}, 415), ({"Content-Type": "application/json; charset=utf-16"}, 415),
    ({"Content-Type": "application/json; charset=latin1"}, 415), ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415), ({**JSON, "Content-Encoding": "gzip"}, 415), ({**JSON, "Content-Encoding": "br"}, 415),
    ({"Content-Type": "Application/JSON; Charset=UTF-8"}, 201), ({**JSON, "Accept": "text/xml"}, {201, 406}), ({**JSON, "Content-Encoding": "identity"}, 201),
])
def test_media_types(seeker, headers, status):
    """V06."""
    seeker.call("POST", "/api/gigs", json.dumps(gig()).encode(), status, headers)


@pytest.mark.parametrize("text", ["' OR 1=1 --", "x'; DROP TABLE gigs; --", "100%", "_____", "a\\", "%' AND 1=1", "1); SELECT pg_sleep(3);--", "$1", "{0}", "\\x27"])
def test_sql_is_text(base, text):
    """V07."""
    with Person(base) as person:
        mark = uuid.uuid4().hex
        made = person.post("/api/gigs", gig(title=f"{text} {mark}", description=text), 201).json
        assert made["title"] == f"{text} {mark}" and made["description"] == text
        found = person.call("GET", "/api/gigs", query={"q": mark, "sort": "newest"}, status=200).json["gigs"]
        assert [each["id"] for each in found] == [made["id"]]
        odd = person.call("GET", "/api/gigs", query={"q": text, "sort": "newest"})
        assert odd.status in (200, 422) and odd.seconds < slack(2)
        for query in ({"sort": text}, {"cursor": text}, {"status": text}, {"starts_after": text}):
            assert person.call("GET", "/api/gigs", query=query).status in (400, 422)
        person.put("/api/users/me", {"name": text, "contact_info": {"line_id": text}})
        assert person.get("/api/users/me").json["name"] == text
        person.call("GET", "/api/gigs", query={"category": text}, status=200)


def test_text_lengths_are_characters(seeker):
    """V08."""
    for letter in ("a", "é", "ก", "😀"):
        seeker.post("/api/gigs", gig(title=letter * 120), 201)
        seeker.post("/api/gigs", gig(title=letter * 121), 422)
        seeker.post("/api/gigs", gig(title=letter * 2), 422)
    seeker.post("/api/gigs", gig(title="  a  "), 422)
    script = "<script>alert(1)</script>"
    answer = seeker.post("/api/gigs", gig(title=script), 201)
    assert answer.json["title"] == script and answer.headers["x-content-type-options"] == "nosniff"


SERVER_OWNED = ["id", "seeker_id", "helper_id", "status", "version", "created_at", "helper", "seeker", "currency_", "distance_km", "accepted_at", "owner_id"]


@pytest.mark.parametrize("field", SERVER_OWNED)
def test_fields_of_the_servers_own_on_gigs(seeker, field):
    """Z04."""
    assert seeker.post("/api/gigs", gig(**{field: "COMPLETED"}), 422).json["errors"][0]["field"] == field
    one = seeker.post("/api/gigs", gig(), 201).json
    seeker.put(f"/api/gigs/{one['id']}", {field: 2}, 422)
    assert seeker.get(f"/api/gigs/{one['id']}").json == one


@pytest.mark.parametrize("field", ["id", "role", "email", "email_verified", "is_verified", "reputation_score", "total_reviews", "completed_gigs",
                                   "is_profile_setup", "is_available", "latitude", "password_hash", "suspended_at", "created_at", "balance"])
def test_fields_of_the_servers_own_on_users(stranger, field):
    before = stranger.get("/api/users/me").json
    assert stranger.put("/api/users/me", {"bio": "new", field: 1}, 422).json["errors"][0]["field"] == field
    assert stranger.get("/api/users/me").json == before
    body = {"email": f"{uuid.uuid4().hex}@example.com", "password": harness.PASSWORD, field: "ADMIN"}
    if field != "email":
        stranger.call("POST", "/api/auth/register", body, 422)


@pytest.mark.parametrize("target", [
    "/api/gigs/../users/me", "/api/./users/me", "/api/%2e%2e/api/users/me", "/api/users%2fme", "//api/users/me", "/api//users/me", "/api/users/me;x=1",
    "/api/users/me%00", "/api/users/me.", "/API/USERS/ME", "/api/users/me%20", "/api/users/%6d%65%2f", "/api/users\\me", "/api/users/me//", "/api", "/", "/api/",
    "/health/../metrics", "/docs/../openapi.json", "/docs/%2e%2e%2fopenapi.json", "/docs/..%2f..%2fetc%2fpasswd", "/admin", "/api/admin", "/.env", "/.git/config",
    "/api/gigs/..", "/api/auth/%2e%2e/users/me",
])
def test_one_canonical_path(anyone, seeker, target):
    """T12: no spelling reaches another resource, with or without a token."""
    assert anyone.call("GET", target).status in (400, 401, 404)
    assert seeker.call("GET", target).status in (400, 404, 422), target


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"])
def test_methods_are_not_overridden(seeker, header):
    one = seeker.post("/api/gigs", gig(), 201).json["id"]
    seeker.call("GET", f"/api/gigs/{one}", status=200, headers={header: "DELETE"})
    assert seeker.get(f"/api/gigs/{one}").json["status"] == "PENDING"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "get", "FOO"])
def test_unknown_methods(base, method):
    with Client(base) as client:
        assert client.call(method, "/api/users/me").status in (400, 405, 501)


def test_strangers_see_little(seeker, helper, stranger):
    """Z05: of a gig and of a person."""
    seeker.put("/api/users/me", {"contact_info": {"phone_number": "0812345678"}})
    seeker.put("/api/users/location", {"latitude": 13.712345, "longitude": 100.512345, "address_text": "Soi 5"})
    one = seeker.post("/api/gigs", gig(latitude=13.712345, longitude=100.512345), 201).json
    seen = stranger.get(f"/api/gigs/{one['id']}").json
    assert (seen["latitude"], seen["longitude"]) != (13.712345, 100.512345)
    public = stranger.get(f"/api/users/{seeker.id}")
    for secret in (seeker.email, "0812345678", "812345678", "13.7123", "100.5123", "Soi 5", "contact_info", "password"):
        assert secret not in public.text, secret
    assert seeker.email not in stranger.get(f"/api/gigs/{one['id']}").text
    helper.post(f"/api/gigs/{one['id']}/accept", None, 200)
    assert helper.get(f"/api/users/{seeker.id}").json["contact_info"]["phone_number"] == "+66812345678"
    assert "contact_info" not in stranger.get(f"/api/users/{seeker.id}").json
