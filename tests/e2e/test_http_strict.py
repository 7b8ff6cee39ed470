"""HTTP/1.1 as it comes over the wire, in raw bytes: what is refused, what closes, what stays in step.

Each case is followed on the same connection by one more request, which asks to close: so every read ends with the
connection's end, nothing is waited for, and a connection that should have been closed shows a second answer.
"""

import os
import socket
import time

import pytest

from wire import LIVE, NEXT, TE, Barrier, Probe, connect, converse, get, post, read_all, read_all_after_shutdown
from wire import send, split_answers
from wire import address, probe  # noqa: F401 (fixtures)

CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"
HIDDEN = b"0\r\n\r\nGET /api/me HTTP/1.1\r\nHost: x\r\n\r\n"

# name, bytes, statuses that are right, whether the connection goes on
CASES = [
    # framing: lengths (T01)
    ("cl_then_te", post("Content-Length: 5", TE, body=CHUNKED), {400}, False),
    ("te_then_cl", post(TE, "Content-Length: 5", body=CHUNKED), {400}, False),
    ("te_other_then_cl", post("Transfer-Encoding: identity", "Content-Length: 5", body=b"hello"), {400}, False),
    ("cl_two_different", post("Content-Length: 5", "Content-Length: 6", body=b"hello!"), {400}, False),
    ("cl_two_equal", post("Content-Length: 5", "Content-Length: 5", body=b"hello"), {400}, False),
    ("cl_list", post("Content-Length: 5, 5", body=b"hello"), {400}, False),
    ("cl_plus", post("Content-Length: +5", body=b"hello"), {400}, False),
    ("cl_minus", post("Content-Length: -1"), {400}, False),
    ("cl_hex", post("Content-Length: 0x5", body=b"hello"), {400}, False),
    ("cl_over_64_bits", post("Content-Length: 18446744073709551621", body=b"hello"), {400}, False),
    ("cl_empty", post("Content-Length: "), {400}, False),
    ("cl_fraction", post("Content-Length: 5.0", body=b"hello"), {400}, False),
    ("cl_space_inside", post("Content-Length: 1 0", body=b"0123456789"), {400}, False),
    # framing: transfer codings (T02, T03, T04)
    ("te_chunked", post(TE, body=CHUNKED), {411}, False),
    ("te_chunked_case", post("tRANSFER-eNCODING: CHUNKED", body=CHUNKED), {411}, False),
    ("te_unknown", post("Transfer-Encoding: xchunked", body=HIDDEN), {400, 501}, False),
    ("te_chunked_identity", post("Transfer-Encoding: chunked, identity", body=HIDDEN), {400, 501}, False),
    ("te_gzip_chunked", post("Transfer-Encoding: gzip, chunked", body=HIDDEN), {400, 501}, False),
    ("te_twice", post(TE, TE, body=HIDDEN), {400}, False),
    ("te_empty", post("Transfer-Encoding: ", body=HIDDEN), {400, 501}, False),
    ("te_folded", post("Transfer-Encoding:\r\n chunked", body=HIDDEN), {400}, False),
    ("te_on_get", get("/health/live", TE) + HIDDEN, {411}, False),
    ("te_http_1_0", post(TE, body=CHUNKED, version="1.0"), {400, 411}, False),
    ("te_space_before_colon", post("Transfer-Encoding : chunked", body=HIDDEN), {400}, False),
    ("trailer_fields", post(TE, body=b"0\r\nAuthorization: Bearer good\r\n\r\n", target="/api/gigs"), {411}, False),
    # Host and target (T06, T12)
    ("host_none", get(host=None), {400}, False),
    ("host_two", get("/health/live", "Host: y"), {400}, False),
    ("host_bad", get(host="Host: a b/@"), {400}, False),
    ("host_userinfo", get(host="Host: me@x"), {400}, False),
    ("host_empty", get(host="Host:"), {400}, False),
    ("host_port_too_big", get(host="Host: x:65536"), {400}, False),
    ("host_port_word", get(host="Host: x:http"), {400}, False),
    ("host_bad_escape", get(host="Host: %zz"), {400}, False),
    ("host_open_bracket", get(host="Host: [::1"), {400}, False),
    ("host_ipv6", get(host="Host: [::1]:80"), {200}, True),
    ("host_port", get(host="Host: example.test:8080"), {200}, True),
    ("host_none_1_0", get(host=None, version="1.0"), {200}, False),
    ("absolute_form", get("http://localhost/health/live"), {200}, True),
    ("absolute_form_no_host", get("http://localhost/health/live", host=None), {400}, False),
    ("absolute_form_userinfo", get("http://me@localhost/health/live"), {400}, False),
    ("absolute_form_scheme", get("ftp://localhost/health/live"), {400}, False),
    ("absolute_form_empty", get("http:///health/live"), {400}, False),
    ("target_relative", get("health/live"), {400}, False),
    ("target_star", get("*"), {400}, False),
    ("target_fragment", get("/health/live#top"), {400}, False),
    ("target_high_byte", get("/health/\xff"), {400}, False),
    ("target_nul", get("/health/\0"), {400}, False),
    ("target_delete", get("/health/\x7f"), {400}, False),
    ("target_tab", get("/health/\tlive"), {400}, False),
    ("target_empty", b"GET  HTTP/1.1\r\nHost: x\r\n\r\n", {400}, False),
    # fields (T07, T08)
    ("obs_fold", get("/health/live", "X-A: b\r\n c"), {400}, False),
    ("obs_fold_first", b"GET /health/live HTTP/1.1\r\n Host: x\r\n\r\n", {400}, False),
    ("authorization_two", get("/api/me", "Authorization: Bearer good", "Authorization: Bearer bad"), {400}, False),
    ("content_type_two", post("Content-Type: text/plain", "Content-Length: 2", body=b"{}"), {400}, False),
    ("idempotency_key_two", post("Idempotency-Key: a", "Idempotency-Key: a", "Content-Length: 0"), {400}, False),
    ("if_match_two", get("/health/live", 'If-Match: "a"', 'If-Match: "b"'), {400}, False),
    ("if_none_match_two", get("/health/live", 'If-None-Match: "a"', 'If-None-Match: "b"'), {400}, False),
    ("origin_two", get("/health/live", "Origin: http://a", "Origin: http://b"), {400}, False),
    ("request_id_two", get("/health/live", "X-Request-Id: a", "x-request-id: b"), {400}, False),
    ("expect_two", post("Expect: 100-continue", "Expect: 100-continue", "Content-Length: 2"), {400}, False),
    ("lists_may_repeat", get("/health/live", "Accept: text/html", "Accept: */*"), {200}, True),
    ("field_space_before_colon", get("/health/live", "X-A : b"), {400}, False),
    ("field_no_colon", get("/health/live", "X-A"), {400}, False),
    ("field_no_name", get("/health/live", ": b"), {400}, False),
    ("field_nul", get("/health/live", "X-A: a\0b"), {400}, False),
    ("field_bare_cr", get("/health/live", "X-A: a\rX-B: c"), {400}, False),
    ("field_bare_lf", b"GET /health/live HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n", {400}, False),
    ("fields_9_kib", get("/health/live", *[f"X-{i}: {'a' * 1000}" for i in range(9)]), {431}, False),
    ("fields_one_long", get("/health/live", "X-A: " + "a" * 9000), {431}, False),
    ("fields_1000", get("/health/live", *["A: b"] * 1000), {431}, False),
    ("fields_100", get("/health/live", *["A: b"] * 99), {200}, True),
    ("fields_101", get("/health/live", *["A: b"] * 100), {431}, False),
    ("target_10_kib", get("/" + "a" * 10240), {414}, False),
    ("target_10_mib", get("/" + "a" * (10 << 20)), {414}, False),
    ("target_6_kib", get("/health/live?q=" + "a" * 6000), {200, 400}, True),
    # the request line
    ("bare_lf_line", b"GET /health/live HTTP/1.1\nHost: x\n\n", {400}, False),
    ("http_2_0", get(version="2.0"), {400, 505}, False),
    ("http_0_9", b"GET /health/live\r\n\r\n", {400}, False),
    ("http_1_2", get(version="1.2"), {400, 505}, False),
    ("http_lower_case", b"GET /health/live http/1.1\r\nHost: x\r\n\r\n", {400}, False),
    ("http_2_preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}, False),
    ("tls_hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}, False),
    ("space_first", b" GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", {400}, False),
    ("two_spaces", b"GET  /health/live HTTP/1.1\r\nHost: x\r\n\r\n", {400}, False),
    ("method_not_token", b"G(T /health/live HTTP/1.1\r\nHost: x\r\n\r\n", {400}, False),
    ("empty_line_first", b"\r\n" + LIVE, {200, 400}, None),
    ("empty_lines_first", b"\r\n\r\n\r\n" + LIVE, {400}, False),
    # methods (T11)
    ("method_unknown", get(method="BREW"), {501}, True),
    ("method_lower_case", get(method="get"), {501}, True),
    ("method_trace", get(method="TRACE"), {405, 501}, True),
    ("method_connect", get("example.test:443", method="CONNECT"), {400, 405, 501}, False),
    ("method_wrong", get(method="DELETE"), {405}, True),
    ("options_star", get("*", method="OPTIONS"), {200, 204, 404, 405}, True),
    # bodies and expectations (T09, T10)
    ("cl_too_large", post("Content-Length: 200000000", target="/api/auth/login"), {413}, False),
    ("cl_too_large_expect", post("Content-Length: 200000000", "Expect: 100-continue"), {413}, False),
    ("cl_largest", post("Content-Length: 18446744073709551615"), {413}, False),
    ("expect_unauthorised", post("Content-Length: 5", "Expect: 100-continue", target="/api/gigs"), {401}, False),
    ("expect_unknown", post("Content-Length: 5", "Expect: 200-ok"), {417}, False),
    ("body_unauthorised", post("Content-Length: 5", body=b"hello", target="/api/gigs"), {401}, True),
    ("half_body_unauthorised", post("Content-Length: 5000", body=b"hello", target="/api/gigs"), {401}, False),
    ("get_with_body", get("/health/live", "Content-Length: 5") + b"hello", {200, 400, 413}, None),
    # ends and goings-on (T14)
    ("plain", LIVE, {200}, True),
    ("close_asked", get("/health/live", "Connection: close"), {200}, False),
    ("close_in_list", get("/health/live", "Connection: foo, Close"), {200}, False),
    ("http_1_0_closes", get(version="1.0"), {200}, False),
    ("http_1_0_keeps", get("/health/live", "Connection: keep-alive", version="1.0"), {200}, True),
    ("http_1_0_both", get("/health/live", "Connection: keep-alive, close", version="1.0"), {200}, False),
    ("upgrade_unknown", get("/health/live", "Connection: Upgrade", "Upgrade: h2c"), {200}, True),
]


@pytest.mark.parametrize("data,statuses,goes_on", [pytest.param(*c[1:], id=c[0]) for c in CASES])
def test_case(address, data, statuses, goes_on):
    answers = converse(address, data)
    assert answers and answers[0].status in statuses, answers
    if goes_on is None:
        assert len(answers) == 1 or answers[1].status == 200, answers
    elif goes_on:
        assert [a.status for a in answers[1:]] == [200], answers
    else:
        assert len(answers) == 1 and answers[0].closes, answers
    first = answers[0]
    assert "date" in first.headers
    if first.status >= 400:
        assert first.headers["content-type"].startswith("application/problem+json"), first


def test_refusals_are_quick(address):
    """T08: what is too long is told so before its end has come."""
    for data, status in ((b"GET /" + b"a" * 9000, 414), (LIVE[:-2] + b"X-A: " + b"a" * 9000, 431)):
        started = time.monotonic()
        with connect(address) as peer:
            send(peer, data)
            (answer,) = split_answers(read_all_after_shutdown(peer))
        assert answer.status == status and answer.closes
        assert time.monotonic() - started < 1


def test_half_closed_peer_is_answered(address):
    with connect(address) as peer:
        send(peer, LIVE)
        answers = split_answers(read_all_after_shutdown(peer))
    assert [a.status for a in answers] == [200]


@pytest.mark.parametrize("data", [b"", b"GET /health", LIVE[:-1], post("Content-Length: 10", body=b"{")])
def test_peer_gone_in_the_middle(address, data):
    with connect(address) as peer:
        send(peer, data)
        assert all(a.status >= 400 for a in split_answers(read_all_after_shutdown(peer)))


def test_method_not_allowed_names_the_others(address):
    answer = converse(address, get(method="DELETE"))[0]
    assert answer.status == 405 and "GET" in answer.headers["allow"]


# ---- in step -------------------------------------------------------------------------------------------------------


def test_head_stays_in_step(address):
    data = get(method="HEAD") + LIVE + get("/nowhere", method="HEAD") + LIVE
    answers = converse(address, data, heads=(0, 2))
    assert [a.status for a in answers] == [200, 200, 404, 200, 200]
    assert answers[0].headers["content-length"] == answers[1].headers["content-length"] != "0"


def test_refused_head_has_no_body(address):
    (answer,) = converse(address, get(method="HEAD", host=None), heads=(0,))
    assert answer.status == 400


def mixed_requests():
    kinds = [
        (LIVE, 200),
        (get("/nowhere"), 404),
        (get("/api/users/me"), 401),
        (post("Content-Length: 2", body=b"{}"), None),
        (get(method="HEAD"), 200),
    ]
    return [kinds[i % len(kinds)] for i in range(50)]


def test_fifty_pipelined(address):
    """T13: answers come in the order of the requests."""
    requests = mixed_requests()
    heads = tuple(i for i, (data, _) in enumerate(requests) if data.startswith(b"HEAD"))
    answers = converse(address, b"".join(data for data, _ in requests), heads)
    if any(a.status == 429 for a in answers):
        pytest.skip("the server limits rates")
    assert len(answers) == 51
    for answer, (_, status) in zip(answers, requests):
        assert answer.status == status or (status is None and 400 <= answer.status < 500), answer


SPLIT = post("Content-Length: 2", body=b"{}", target="/api/auth/login")


def test_split_anywhere(address):
    """T13: a request cut in two at any byte is the same request."""
    (expected, _) = converse(address, SPLIT)
    if expected.status == 429:
        pytest.skip("the server limits rates")
    peers = [connect(address) for _ in range(1, len(SPLIT))]
    for at, peer in enumerate(peers, 1):
        send(peer, SPLIT[:at])
    with Barrier(address) as barrier:
        barrier.pass_through()
    for at, peer in enumerate(peers, 1):
        send(peer, SPLIT[at:] + NEXT)
    for peer in peers:
        with peer:
            answers = split_answers(read_all(peer))
        assert [a.status for a in answers] == [expected.status, 200]
        assert len(answers[0].body) == len(expected.body)


def test_split_anywhere_gives_the_same_bytes(probe):
    data = post("Content-Length: 11", body=b"hello world", target="/echo") + get(method="HEAD") + get("/nowhere")
    expected = [a.without_clock() for a in converse(probe.address, data, heads=(1,))]
    peers = [connect(probe.address) for _ in range(1, len(data))]
    for at, peer in enumerate(peers, 1):
        send(peer, data[:at])
    with Barrier(probe.address) as barrier:
        barrier.pass_through()
    for at, peer in enumerate(peers, 1):
        send(peer, data[at:] + NEXT)
        with peer:
            assert [a.without_clock() for a in split_answers(read_all(peer), heads=(1,))] == expected


@pytest.mark.parametrize("name", ["plain", "cl_then_te", "te_unknown", "host_two", "obs_fold", "bare_lf_line"])
def test_byte_by_byte(address, name):
    """T13: a refusal does not depend on segments either."""
    data = next(c[1] for c in CASES if c[0] == name)
    expected = converse(address, data)
    with connect(address) as peer, Barrier(address) as barrier:
        for byte in data + NEXT:
            send(peer, bytes([byte]))
            barrier.pass_through()
        answers = split_answers(read_all(peer))
    assert [a.status for a in answers] == [a.status for a in expected]


# ---- what a handler sees, through the probe ------------------------------------------------------------------------


def fields_seen(probe, *arguments, **named):
    return converse(probe.address, get(*arguments, **named))[0].body.decode().splitlines()


def test_absolute_form_wins_over_host(probe):
    seen = fields_seen(probe, "http://Other.test:81/fields?a=1", host="Host: x")
    assert seen[0] == "/fields?a=1" and [s for s in seen if s.startswith("host=")] == ["host=other.test:81"]


def test_names_are_lower_case_and_values_trimmed(probe):
    assert "x-odd=a  b" in fields_seen(probe, "/fields", "X-ODD: \t a  b \t ")


def test_no_answer_header_is_forged(probe):
    answer = converse(probe.address, get("/forge"))[0]
    assert "x-forged" not in answer.headers and answer.headers["x-value"] == "a  X-Forged: 1"


def test_no_content_has_no_length(probe):
    answers = converse(probe.address, get("/empty"))
    assert [a.status for a in answers] == [204, 200] and "content-length" not in answers[0].headers


def test_foreign_authority_is_misdirected():
    with Probe(authority="hourz.test") as own:
        ask = lambda authority: converse(own.address, get(f"http://{authority}/health/live"))[0].status
        assert ask("evil.test") == ask("hourz.test.evil.test") == 421
        assert ask("hourz.test") == ask("HOURZ.test:444") == ask("localhost") == ask("127.0.0.1:80") == ask("[::1]") == 200


def test_continue_only_when_wanted(probe):
    """T10."""
    with connect(probe.address) as peer:
        send(peer, post("Content-Length: 5", "Expect: 100-Continue", target="/echo"))
        assert peer.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        send(peer, b"hello" + NEXT)
        answers = split_answers(read_all(peer))
    assert [a.status for a in answers] == [200, 200] and answers[0].body == b"hello"
    answers = converse(probe.address, post("Content-Length: 0", "Expect: 100-continue", target="/echo"))
    assert [a.status for a in answers] == [200, 200]
    answers = converse(
        probe.address, post("Content-Length: 2", "Expect: 100-continue", target="/echo", version="1.0", body=b"ab"), after=b""
    )
    assert [a.status for a in answers] == [200]


@pytest.mark.parametrize("size,status", [(0, 200), (1, 200), (65536, 200), (65537, 413), (300_000, 413)])
def test_body_limit(probe, size, status):
    body = os.urandom(size)
    answer = converse(probe.address, post(f"Content-Length: {size}", target="/echo", body=body))[0]
    assert answer.status == status
    if status == 200:
        assert answer.body == body


@pytest.mark.parametrize(
    "data",
    [
        post("Content-Length: 60000", body=b"a" * 60000, target="/api/gigs"),
        post(TE, body=b"a" * 60000),
        get("/health/live", "Connection: close") + LIVE * 1000,
        get(host=None) + LIVE * 1000,
    ],
    ids=["refused_body", "refused_coding", "close_asked", "refused_head"],
)
def test_last_answer_is_not_lost_to_a_reset(address, data):
    """The connection ends in order though not all that was sent has been read."""
    with connect(address) as peer:
        peer.sendall(data)
        received = b""
        while piece := peer.recv(65536):  # a reset would raise
            received += piece
        peer.shutdown(socket.SHUT_WR)
    assert len(split_answers(received)) == 1
