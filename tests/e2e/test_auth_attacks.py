"""What somebody tries who wants in: forged and confused tokens, replayed ones, odd passwords, guessing who has an account."""

import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import os
import secrets
import socket
import time
import uuid

import pytest

import harness
from harness import PASSWORD, Client, Person, quantile, slack


def b64(data):
    if isinstance(data, dict):
        data = json.dumps(data, separators=(",", ":"))
    if isinstance(data, str):
        data = data.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


HEADER = {"alg": "HS256", "kid": "1", "typ": "at+jwt"}


class Forge:
    """Tokens signed with the server's own key: a signature that is right does not make a token right."""

    def __init__(self, server, person):
        self.key = hmac.new(server.secret().encode(), b"hourz:access-token", hashlib.sha256).digest()
        self.real = person.token
        header, payload, _ = person.token.split(".")
        assert json.loads(base64.urlsafe_b64decode(header + "==")) == HEADER
        self.claims = json.loads(base64.urlsafe_b64decode(payload + "=="))

    def sign(self, text, digest=hashlib.sha256):
        return text + "." + b64(hmac.new(self.key, text.encode(), digest).digest())

    def token(self, header=None, digest=hashlib.sha256, payload=None, **claims):
        kept = {name: value for name, value in {**self.claims, **claims}.items() if value is not None}
        return self.sign(b64(header or HEADER) + "." + (payload or b64(kept)), digest)


@pytest.fixture(scope="module")
def victim(base):
    with Person(base, "Victim") as person:
        yield person


@pytest.fixture(scope="module")
def forge(server, victim):
    return Forge(server, victim)


def status_with(base, token, target="/api/users/me"):
    with Client(base) as client:
        answer = client.call("GET", target, headers={"Authorization": "Bearer " + token})
        assert answer.seconds < slack(1)
        return answer.status


def test_the_forge_works(base, forge):
    """Else the refusals below would prove nothing."""
    assert status_with(base, forge.token()) == 200
    assert status_with(base, forge.token(jti=str(uuid.uuid4()))) == 200


@pytest.mark.parametrize("header", [
    *({**HEADER, "alg": alg} for alg in ("none", "None", "NONE", "nOnE", "HS384", "HS512", "RS256", "ES256", "EdDSA", "", None, 256)),
    {"kid": "1", "typ": "at+jwt"}, {"alg": "HS256", "kid": "1"}, {"alg": "HS256", "typ": "at+jwt"},
    {**HEADER, "typ": "JWT"}, {**HEADER, "typ": "rt+jwt"}, {**HEADER, "crit": ["x"], "x": 1}, {**HEADER, "b64": False, "crit": ["b64"]},
    {**HEADER, "kid": "../../dev/null"}, {**HEADER, "kid": "' OR 1=1 --"}, {**HEADER, "kid": "2"}, {**HEADER, "kid": 1},
    {**HEADER, "zip": "DEF"}, [], {},
], ids=lambda header: json.dumps(header)[:50])
def test_headers_are_pinned(base, forge, header):
    """A01, A04."""
    digest = hashlib.sha512 if isinstance(header, dict) and header.get("alg") == "HS512" else hashlib.sha256
    whole = forge.token(header=header if header else json.dumps(header), digest=digest)
    assert status_with(base, whole) == 401
    assert status_with(base, whole.rpartition(".")[0] + ".") == 401
    assert status_with(base, whole.rpartition(".")[0]) == 401


def test_nobody_is_called_for_a_key(base, forge):
    """A04: neither jku nor an embedded key is looked at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.3)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/keys"
        own = {"kty": "oct", "k": b64(forge.key)}
        for extra in ({"jku": url}, {"x5u": url}, {"jwk": own}, {"x5c": [b64("no certificate")]}):
            assert status_with(base, forge.token(header={**HEADER, **extra})) == 401
        with pytest.raises(TimeoutError):
            listener.accept()


NOW = int(time.time())
CLAIMS = [
    *({name: None} for name in ("iss", "aud", "sub", "sid", "iat", "exp", "jti")),
    {"iss": "other"}, {"iss": ""}, {"aud": "other"}, {"aud": ["hourz-api"]}, {"iss": "HOURZ"},
    {"exp": NOW - 1}, {"exp": NOW - 3600}, {"exp": str(NOW + 600)}, {"exp": 1e30}, {"exp": -1}, {"exp": NOW + 600.5}, {"exp": True},
    {"exp": [NOW + 600]}, {"exp": 2**63}, {"exp": 2**64 + NOW + 600}, {"iat": NOW + 3600, "exp": NOW + 7200}, {"iat": str(NOW)},
    {"iat": NOW, "exp": NOW}, {"sub": "not a uuid"}, {"sub": ""}, {"sub": str(uuid.uuid4())}, {"sid": str(uuid.uuid4())},
    {"sub": 1}, {"jti": "x"}, {"nbf": NOW + 3600}, {"role": "ADMIN"}, {"typ": "at+jwt"},
]


@pytest.mark.parametrize("claims", CLAIMS, ids=[json.dumps(claims) for claims in CLAIMS])
def test_claims_are_checked(base, forge, claims):
    """A02."""
    assert status_with(base, forge.token(**claims)) == 401


def test_other_peoples_claims_do_not_mix(base, forge):
    with Person(base) as other:
        claims = json.loads(base64.urlsafe_b64decode(other.token.split(".")[1] + "=="))
        assert status_with(base, forge.token(sub=claims["sub"])) == 401
        assert status_with(base, forge.token(sid=claims["sid"])) == 401


def odd_tokens(forge):
    real = forge.real
    header, payload, signature = real.split(".")
    unused = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = unused[unused.index(signature[-1]) ^ 1]  # 32 bytes leave bits that say nothing
    claims = json.dumps(forge.claims)
    yield "empty", ""
    yield "dots", ".."
    yield "two_parts", f"{header}.{payload}"
    yield "four_parts", real + "." + signature
    yield "five_parts", f"{header}.{payload}.{payload}.{payload}.{signature}"
    yield "padding", real + "="
    yield "padded_parts", f"{header}==.{payload}==.{signature}="
    yield "not_canonical", f"{header}.{payload}.{signature[:-1]}{last}"
    yield "tab_inside", f"{header}.{payload}\t.{signature}"
    yield "space_inside", f"{header} .{payload}.{signature}"
    yield "plus_and_slash", real.replace("-", "+").replace("_", "/") if "-" in real or "_" in real else real + "+"
    yield "signature_cut", real[:-4]
    yield "no_signature", f"{header}.{payload}."
    yield "other_signature", f"{header}.{payload}.{b64(secrets.token_bytes(32))}"
    yield "two_tokens", f"{real},{real}"
    yield "eight_kilobytes", forge.token(pad="x" * 5000)
    yield "duplicate_key", forge.token(payload=b64(claims[:-1] + f', "sub": "{forge.claims["sub"]}"}}'))
    yield "not_json", forge.token(payload=b64("{"))
    yield "array", forge.token(payload=b64("[]"))
    yield "trailing", forge.token(payload=b64(claims + " {}"))
    yield "bom", forge.token(payload=b64("\ufeff" + claims))
    yield "nested", forge.token(payload=b64("[" * 700))
    yield "nul", forge.token(payload=b64(claims + "\0"))


def test_parser_is_strict(base, forge):
    """A05."""
    for name, token in odd_tokens(forge):
        assert status_with(base, token) == 401, name


def test_scheme_and_place(base, victim):
    for value, status in ((f"bearer {victim.token}", 200), (victim.token, 401), (f"Basic {victim.token}", 401), ("Bearer", 401),
                          (f"Bearer  {victim.token}", 401), (f"Token {victim.token}", 401)):
        with Client(base) as client:
            assert client.call("GET", "/api/users/me", headers={"Authorization": value}).status == status, value[:12]


def test_huge_token_costs_nothing(base):
    with socket.create_connection(harness.urlsplit(base).netloc.split(":")) as peer:
        peer.settimeout(10)
        with contextlib.suppress(ConnectionError):
            peer.sendall(b"GET /api/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"e" * (1 << 20))
        assert peer.recv(100).startswith(b"HTTP/1.1 431")


# ---- kinds of token, sessions --------------------------------------------------------------------------------------


def test_kinds_do_not_mix(base, victim, anyone):
    """A03."""
    assert status_with(base, victim.refresh_token) == 401
    for token in (victim.token, victim.refresh_token + "x", victim.refresh_token[:-1], "hzr1.", "hzr1.a.1.b", "x" * 400):
        answer = anyone.call("POST", "/api/auth/refresh", {"refresh_token": token})
        assert answer.status == 401 and answer.json["code"] == "token_invalid", token[:20]
    assert anyone.post("/api/auth/refresh").json["code"] == "unauthenticated"
    # The counter inside cannot be turned.
    prefix, session, counter, signature = victim.refresh_token.split(".")
    for other in ("2", "0", "-1", "01", "+1", "1e0", str(2**64)):
        assert anyone.call("POST", "/api/auth/refresh", {"refresh_token": f"{prefix}.{session}.{other}.{signature}"}, 401)


def test_refresh_rotates_and_theft_ends_the_session(base, anyone):
    """A12."""
    def refresh(token):
        return anyone.call("POST", "/api/auth/refresh", {"refresh_token": token})

    with Person(base) as person:
        first = person.refresh_token
        second = refresh(first).json["refresh_token"]
        assert refresh(first).json["refresh_token"] == second  # the answer was lost: the same successor again
        by_header = anyone.call("POST", "/api/auth/refresh", headers={"Authorization": f"Bearer {second}"}, status=200).json
        third, access = by_header["refresh_token"], by_header["access_token"]
        assert status_with(base, access) == 200
        stolen = refresh(first)
        assert stolen.status == 401 and stolen.json["code"] == "token_reused"
        for token in (first, second, third):
            assert refresh(token).status == 401
        assert status_with(base, access) == status_with(base, person.token) == 401
        person.login()
        person.get("/api/users/me")


def test_logout_ends_at_once(base, anyone):
    """A13."""
    for verb in ("POST", "DELETE"):
        with Person(base) as person:
            other = Client(base)
            other.token = other.call("POST", "/api/auth/login", {"email": person.email, "password": PASSWORD}, 200).json["access_token"]
            assert len(other.get("/api/auth/sessions").json["sessions"]) == 2
            person.call(verb, "/api/auth/logout", status=204)
            assert person.get("/api/users/me", 401).json["code"] == "session_ended"
            anyone.call("POST", "/api/auth/refresh", {"refresh_token": person.refresh_token}, 401)
            other.get("/api/users/me")


def test_ending_sessions(base):
    with Person(base) as person, Person(base) as other:
        clients = []
        for _ in range(4):
            client = Client(base)
            client.token = client.call("POST", "/api/auth/login", {"email": person.email, "password": PASSWORD}, 200,
                                       {"User-Agent": "Phone"}).json["access_token"]
            clients.append(client)
        listed = clients[0].get("/api/auth/sessions").json["sessions"]
        assert len(listed) == 5 and [each["device"] for each in listed].count("Phone") == 4
        (current,) = [each["id"] for each in listed if each["is_current"]]
        other.call("DELETE", f"/api/auth/sessions/{current}", status=404)  # not theirs
        clients[1].call("DELETE", f"/api/auth/sessions/{current}", status=204)
        clients[0].get("/api/users/me", 401)
        clients[1].call("DELETE", "/api/auth/sessions", status=204)
        for client, status in ((clients[1], 200), (clients[2], 401), (clients[3], 401), (person, 401)):
            client.get("/api/users/me", status)


def test_password_change_ends_the_others(base, anyone):
    """A09, A13."""
    with Person(base) as person, Client(base) as phone:
        pair = phone.call("POST", "/api/auth/login", {"email": person.email, "password": PASSWORD}, 200).json
        phone.token = pair["access_token"]
        wrong = {"current_password": "not this one", "new_password": "another river to cross"}
        assert person.put("/api/auth/password", wrong, 403).json["code"] == "wrong_password"
        for weak in ("password1234", "12345678", person.email, "short"):
            person.put("/api/auth/password", {"current_password": PASSWORD, "new_password": weak}, 422)
        person.put("/api/auth/password", {**wrong, "current_password": PASSWORD}, 204)
        person.get("/api/users/me")
        phone.get("/api/users/me", 401)
        anyone.call("POST", "/api/auth/refresh", {"refresh_token": pair["refresh_token"]}, 401)
        person.login(401)
        person.login(password="another river to cross")


# ---- passwords -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["x7" + "é" * 126, "😀🦜🚲🌊🎷🪴🧵🛶🎲🪁🥁🧊", "a" * 71 + "Xy", " leading and trailing ", "\u1e9b\u0323 combining"],
                         ids=["long", "emoji", "73_bytes", "spaces", "unicode"])
def test_any_unicode_password(base, anyone, password):
    """A08: all of it counts."""
    email = f"u{secrets.token_hex(6)}@example.com"
    anyone.call("POST", "/api/auth/register", {"email": email, "password": password}, 201)
    anyone.call("POST", "/api/auth/login", {"email": email, "password": password}, 200)
    for other in (password[:-1], password[:72] if len(password) > 72 else password + "!", password.swapcase() + "?"):
        assert anyone.call("POST", "/api/auth/login", {"email": email, "password": other}).status in (401, 422)


def test_passwords_that_are_refused(anyone):
    """A08, A09: and no hash is made of them."""
    email = f"u{secrets.token_hex(6)}@example.com"
    for password in ("", "short", "password", "password1", "12345678", "qwertyuiop", "x" * 129, email, "nul\0inside it", 12345678901,
                     None, "y" * 60000):
        answer = anyone.call("POST", "/api/auth/register", {"email": email, "password": password})
        assert answer.status in (400, 422), password
    big = anyone.call("POST", "/api/auth/register", b'{"password": "' + b"z" * (1 << 20) + b'"}',
                      headers={"Content-Type": "application/json"})
    assert big.status == 413 and big.seconds < slack(0.5)


def test_emails_are_one_whatever_their_case(base, anyone):
    with Person(base) as person:
        for form in (person.email.upper(), f"  {person.email} ", person.email.capitalize()):
            taken = anyone.call("POST", "/api/auth/register", {"email": form, "password": PASSWORD})
            assert taken.status == 409 and taken.json["code"] == "email_taken"
            anyone.call("POST", "/api/auth/login", {"email": form.strip(), "password": PASSWORD}, 200)
        for bad in ("", "a", "@", "a@", "@b.c", "a b@c.d", "a@b@c.d", "a@b..c", "x" * 250 + "@e.com", "a@b.c\r\nBcc: d@e.f", "a\0@b.c"):
            assert anyone.call("POST", "/api/auth/register", {"email": bad, "password": PASSWORD}).status == 422, bad


def test_hashes_in_the_database(server, base):
    """A07."""
    with Person(base) as one, Person(base) as two:
        rows = server.database().sql(f"SELECT password_hash FROM users WHERE id IN ('{one.id}', '{two.id}')")
    hashes = [row[0] for row in rows]
    assert len(set(hashes)) == 2
    assert all(each.startswith("$argon2id$v=19$m=19456,t=2,p=1$") for each in hashes)
    assert not server.database().sql("SELECT 1 FROM sessions s WHERE s::text LIKE '%hzr1%' OR s::text LIKE '%eyJ%'")


# ---- who has an account --------------------------------------------------------------------------------------------


def alike(anyone, path, status, bodies, rounds=3, count=40 if harness.sanitized() else 200):
    """Asks for somebody who is there and for nobody in turns, `count` times each: every answer has the same bytes but for
    the request's id, and the medians differ by less than 5 %, or a fifth where a sanitizer watches each access. The best
    of a few rounds counts, since noise differs and a difference would not. The median, in seconds."""
    def bare(answer):
        fields = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "date")}
        return answer.body.replace(answer.headers["x-request-id"].encode(), b"*"), fields

    told = []
    for _ in range(rounds):
        times = {True: [], False: []}
        for n in range(count):
            # Who comes first changes: what is remembered of the one before helps neither.
            for is_known in (n % 2 == 0, n % 2 == 1):
                answer = anyone.call("POST", path, next(bodies[is_known]), status)
                times[is_known].append(answer.seconds)
                told = told or bare(answer)
                assert bare(answer) == told
        known, unknown = (quantile(times[which], 0.5) for which in (True, False))
        print(f"{path}: {known * 1000:.2f} ms for somebody, {unknown * 1000:.2f} ms for nobody")
        if abs(known - unknown) < (0.2 if harness.sanitized() else 0.05) * known:
            return unknown
    raise AssertionError(f"{path}: {known * 1000:.2f} ms for somebody, {unknown * 1000:.2f} ms for nobody")


def test_wrong_email_and_wrong_password_are_alike(base, anyone):
    """A10."""
    with Person(base) as person:
        bodies = {known: itertools.repeat({"email": email, "password": "surely not the one"})
                  for known, email in ((True, person.email), (False, f"nobody{secrets.token_hex(4)}@example.com"))}
        assert alike(anyone, "/api/auth/login", 401, bodies) > 0.005, "no hash was made"


def test_asking_for_a_new_password_tells_nothing(server, anyone):
    """A10: each address once, as a guesser would."""
    people = [f"asked{secrets.token_hex(8)}@example.com" for _ in range(600)]
    server.database().sql("INSERT INTO users (id, email, password_hash) VALUES " +
                          ", ".join(f"(gen_random_uuid(), '{email}', '-')" for email in people))
    nobody = (f"asked{secrets.token_hex(8)}@example.com" for _ in itertools.count())
    alike(anyone, "/api/auth/password-reset", 202,
          {True: ({"email": email} for email in people), False: ({"email": email} for email in nobody)})


def test_guessing_is_limited():
    """A11, R01, R02: five a minute, and no header makes somebody new."""
    with harness.server(rate_limit="on") as own, Client(own.base) as client:
        statuses, remaining = [], []
        for n in range(8):
            answer = client.call("POST", "/api/auth/login", {"email": ("A@Example.com", "a@example.com")[n % 2], "password": "a guess"},
                                 headers={"X-Forwarded-For": f"9.9.9.{n}", "Forwarded": f"for=9.9.8.{n}", "X-Real-IP": f"9.9.7.{n}"})
            statuses.append(answer.status)
            assert answer.headers["ratelimit-policy"].endswith(";q=5;w=60")
            remaining.append(int(harness.re.search(r";r=(\d+);t=\d+$", answer.headers["ratelimit"])[1]))
        assert statuses == [401] * 5 + [429] * 3 and remaining == [4, 3, 2, 1, 0, 0, 0, 0]
        assert 0 < int(answer.headers["retry-after"]) <= 60
        client.get("/health/live")


# ---- where tokens and secrets end up -------------------------------------------------------------------------------


def test_tokens_in_the_url_are_ignored(base, victim, anyone):
    """A14."""
    for name in ("access_token", "token"):
        assert anyone.call("GET", f"/api/users/me?{name}={victim.token}").status == 401
    for body in ({"email": "other@example.com"}, {"email": "other@example.com", "password": PASSWORD}):
        assert victim.put("/api/users/me", body, 422).json["errors"][0]["field"] in ("email", "password")
    assert victim.get("/api/users/me").json["email"] == victim.email


def test_processes_show_no_secret(server):
    with open(f"/proc/{server.pid}/cmdline", "rb") as shown:
        assert server.secret().encode() not in shown.read()
    assert os.stat(f"/proc/{server.pid}/environ").st_mode & 0o077 == 0
