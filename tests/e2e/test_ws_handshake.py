"""W02: the opening handshake of RFC 6455, section 4, in raw bytes against net_probe: what opens, what is refused, what follows.

Each refused case is followed on the same connection by one more request, as in test_http_strict.py: a connection that
should have been closed shows a second answer, and one that should go on shows none.
"""

import os
import socket
import struct

import pytest

from wire import LIVE, NEXT, TE, Probe, connect, converse, get, read_all, send, split_answers, wait_for
from wire import probe  # noqa: F401 (fixture)
from ws_wire import CLOSE, KEY, TEXT, Socket, accept_of, close, figures, frame, handshake

UPGRADE, CONNECTION = "Upgrade", "Connection"
VERSION_FIELD, KEY_FIELD = "Sec-WebSocket-Version", "Sec-WebSocket-Key"


def version(value):
    return handshake("/ws", f"{VERSION_FIELD}: {value}", drop=[VERSION_FIELD])


def key(value):
    return handshake("/ws", f"{KEY_FIELD}: {value}", drop=[KEY_FIELD])


def connection(value):
    return handshake("/ws", f"{CONNECTION}: {value}", drop=[CONNECTION])


def upgrade(value):
    return handshake("/ws", f"{UPGRADE}: {value}", drop=[UPGRADE])


# name, bytes: each opens a socket
SOUND = [
    ("plain", handshake()),
    ("query", handshake("/ws?a=b")),
    ("absolute_form", handshake("http://localhost/ws")),
    ("upgrade_case", upgrade("WebSocket")),
    ("upgrade_upper_case", upgrade("WEBSOCKET")),
    ("upgrade_list", upgrade("h2c, websocket")),
    ("upgrade_list_empty_members", upgrade(",, websocket ,")),
    ("upgrade_two_fields", handshake("/ws", "Upgrade: h2c")),
    ("connection_list", connection("keep-alive, Upgrade")),
    ("connection_lower_case", connection("upgrade")),
    ("connection_tight_list", connection("keep-alive,UPGRADE,x")),
    ("connection_tab", connection("keep-alive,\tUpgrade\t")),
    ("connection_two_fields", handshake("/ws", "Connection: keep-alive")),
    ("connection_close_too", connection("Upgrade, close")),
    ("field_names_in_lower_case", get("/ws", "upgrade: websocket", "connection: upgrade",
                                      "sec-websocket-version: 13", f"sec-websocket-key: {KEY}")),
    ("key_of_zeros", key("A" * 22 + "==")),
    ("key_plus_and_slash", key("+/" * 11 + "==")),
    ("key_padded_by_spaces", key(f"  {KEY}  ")),
    ("extensions_not_taken", handshake("/ws", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")),
    ("subprotocol_unknown", handshake("/ws", "Sec-WebSocket-Protocol: chat, superchat")),
    ("origin", handshake("/ws", "Origin: https://hourz.test")),
    ("length_zero", handshake("/ws", "Content-Length: 0")),
    ("cookie", handshake("/ws", "Cookie: a=b")),
    ("host_port", handshake("/ws", host="Host: localhost:8080")),
]  # fmt: skip

# name, bytes, status, whether the connection goes on
UNSOUND = [
    ("no_fields", get("/ws"), 400, True),
    ("no_upgrade", handshake(drop=[UPGRADE]), 400, True),
    ("no_connection", handshake(drop=[CONNECTION]), 400, True),
    ("no_version", handshake(drop=[VERSION_FIELD]), 426, True),
    ("no_key", handshake(drop=[KEY_FIELD]), 400, True),
    ("upgrade_other", upgrade("h2c"), 400, True),
    ("upgrade_part_of_a_word", upgrade("websockets"), 400, True),
    ("upgrade_with_version", upgrade("websocket/13"), 400, True),
    ("upgrade_two_words", upgrade("web socket"), 400, True),
    ("upgrade_empty", upgrade(""), 400, True),
    ("connection_keep_alive", connection("keep-alive"), 400, True),
    ("connection_close", connection("close"), 400, False),
    ("connection_part_of_a_word", connection("Upgraded"), 400, True),
    ("connection_no_comma", connection("keep-alive Upgrade"), 400, False),
    ("version_8", version("8"), 426, True),
    ("version_0", version("0"), 426, True),
    ("version_14", version("14"), 426, True),
    ("version_list", version("13, 8"), 426, True),
    ("version_leading_zero", version("013"), 426, True),
    ("version_sign", version("+13"), 426, True),
    ("version_word", version("thirteen"), 426, True),
    ("version_empty", version(""), 426, True),
    ("version_two", handshake("/ws", f"{VERSION_FIELD}: 13"), 400, False),
    ("version_two_different", handshake("/ws", f"{VERSION_FIELD}: 8"), 400, False),
    ("key_three_bytes", key("YWJj"), 400, True),
    ("key_15_bytes", key("QUFBQUFBQUFBQUFBQUFB"), 400, True),
    ("key_17_bytes", key("QUFBQUFBQUFBQUFBQUFBQUE="), 400, True),
    ("key_18_bytes", key("A" * 24), 400, True),
    ("key_not_padded", key(KEY[:22]), 400, True),
    ("key_url_alphabet", key("-_" * 11 + "=="), 400, True),
    ("key_space_inside", key(KEY[:10] + " " + KEY[11:]), 400, True),
    ("key_padding_inside", key("=" + KEY[1:]), 400, True),
    ("key_empty", key(""), 400, True),
    ("key_two", handshake("/ws", f"{KEY_FIELD}: {KEY}"), 400, False),
    ("key_two_different", handshake("/ws", f"{KEY_FIELD}: {'A' * 22}=="), 400, False),
    ("protocol_two", handshake("/ws", "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b"), 400, True),
    ("extensions_two", handshake("/ws", "Sec-WebSocket-Extensions: a", "Sec-WebSocket-Extensions: b"), 400, True),
    ("method_post", handshake(method="POST"), 400, True),
    ("method_post_body", handshake("/ws", "Content-Length: 2", method="POST") + b"{}", 400, False),
    ("method_put", handshake(method="PUT"), 400, True),
    ("method_delete", handshake(method="DELETE"), 400, True),
    ("method_options", handshake(method="OPTIONS"), 400, True),
    ("method_connect", handshake("x:80", method="CONNECT"), 405, False),
    ("method_lower_case", handshake(method="get"), 400, True),
    ("http_1_0", handshake(version="1.0"), 400, False),
    ("http_1_0_kept", handshake(version="1.0", drop=[CONNECTION]).replace(
        b"\r\n\r\n", b"\r\nConnection: keep-alive, Upgrade\r\n\r\n"), 400, True),
    ("body", handshake("/ws", "Content-Length: 5") + b"hello", 400, False),
    ("body_chunked", handshake("/ws", TE) + b"0\r\n\r\n", 411, False),
    ("no_host", handshake(host=None), 400, False),
    ("host_two", handshake("/ws", "Host: y"), 400, False),
    ("origin_two", handshake("/ws", "Origin: https://a", "Origin: https://b"), 400, False),
    ("field_folded", handshake("/ws", "X-A: b\r\n c"), 400, False),
    ("gateway_refuses", handshake("/ws?refuse=403"), 403, True),
    ("gateway_refuses_401", handshake("/ws?refuse=401"), 401, True),
    # for any other target, Upgrade is an offer not taken
    ("other_target", handshake("/health/live"), 200, True),
    ("other_target_by_prefix", handshake("/wsx"), 404, True),
    ("other_target_below", handshake("/ws/x"), 404, True),
    ("other_target_bad_key", handshake("/health/live", f"{KEY_FIELD}: x", drop=[KEY_FIELD]), 200, True),
]  # fmt: skip


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in SOUND])
def test_sound(probe, data):
    with connect(probe.address) as peer:
        peer.sendall(data + frame(TEXT, "hi") + close(1000))
        head, found, frames = read_all(peer).partition(b"\r\n\r\n")
        assert found, head
        first, *lines = head.decode().split("\r\n")
        assert first == "HTTP/1.1 101 Switching Protocols"
        fields = dict(line.split(": ", 1) for line in lines)
        asked = next(line for line in data.decode().split("\r\n") if line.lower().startswith("sec-websocket-key:"))
        expected = accept_of(asked.partition(":")[2].strip())
        assert fields.pop("Date").endswith(" GMT")
        assert fields == {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": expected}
        assert frames == b"\x81\x02hi" + b"\x88\x02\x03\xe8"


@pytest.mark.parametrize(
    "data,status,goes_on", [pytest.param(data, status, goes_on, id=name) for name, data, status, goes_on in UNSOUND]
)
def test_unsound(probe, data, status, goes_on):
    answers = converse(probe.address, data)
    assert [answer.status for answer in answers] == [status] + [200] * goes_on
    first = answers[0]
    assert first.closes != goes_on
    assert "sec-websocket-accept" not in first.headers
    assert first.headers.get("sec-websocket-version") == ("13" if status == 426 else None)
    assert first.headers.get("upgrade") == ("websocket" if status == 426 else None)
    if status >= 400 and not first.headers.get("content-type", "").startswith("application/problem+json"):
        raise AssertionError(f"E01: {first}")
    kept = "Upgrade" if status == 426 else "keep-alive" if b" HTTP/1.0" in data else None
    assert first.headers.get("connection") == (kept if goes_on else "close")


def test_head_has_no_body(probe):
    (first, _) = converse(probe.address, handshake(method="HEAD"), heads=(0,))
    assert first.status == 400


def test_key_of_the_rfc(probe):
    """RFC 6455, 1.3 names key and answer."""
    with Socket(probe.address) as peer:
        assert peer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_subprotocol_is_named_when_the_gateway_says(probe):
    with Socket(probe.address, "/ws?named=1", "Sec-WebSocket-Protocol: hourz.1, token") as peer:
        assert peer.headers["sec-websocket-protocol"] == "hourz.1"


def test_byte_by_byte(probe):
    """However the head and the first frames are cut."""
    data = handshake() + frame(TEXT, "hi") + close(1000)
    with connect(probe.address) as peer:
        for at in range(len(data)):
            send(peer, data[at : at + 1])
        assert read_all(peer).endswith(b"\r\n\r\n\x81\x02hi\x88\x02\x03\xe8")


def test_cut_everywhere_between_head_and_frames(probe):
    head, frames = handshake(), frame(TEXT, "hi") + frame(TEXT, "there") + close(1000)
    for cut in range(len(head) - 3, len(head) + len(frames)):
        with connect(probe.address) as peer:
            data = head + frames
            peer.sendall(data[:cut])
            peer.sendall(data[cut:])
            assert read_all(peer).endswith(b"\r\n\r\n\x81\x02hi\x81\x05there\x88\x02\x03\xe8"), cut


def test_many_frames_in_the_handshakes_segment(probe):
    """W10, past what one read takes."""
    texts = [str(i) for i in range(3000)]
    with Socket(probe.address, glued=b"".join(frame(TEXT, text) for text in texts) + close(1000)) as peer:
        assert peer.told() == [f"text {text}" for text in texts] + ["close 1000"]


def test_frames_before_the_gateway_has_decided(probe):
    """They wait; when the gateway refuses, they are no requests either."""
    with Socket(probe.address, "/ws?wait=100", glued=frame(TEXT, "early")) as peer:
        assert peer.expect("text") == b"early"
    data = handshake("/ws?wait=50&refuse=403") + frame(TEXT, "early")
    assert [answer.status for answer in converse(probe.address, data)] == [403, 400]


def test_request_before_and_behind(probe):
    """A handshake may be a connection's second request; behind a 101 there is no HTTP any more."""
    with connect(probe.address) as peer:
        peer.sendall(LIVE + handshake() + frame(TEXT, "hi") + NEXT)
        data = read_all(peer)
        first, found, rest = data.partition(b"HTTP/1.1 101 ")
        assert found and [answer.status for answer in split_answers(first)] == [200]
        frames = rest.partition(b"\r\n\r\n")[2]
        assert frames.startswith(b"\x81\x02hi\x88") and frames[6:8] == struct.pack(">H", 1002)


def test_requests_after_refusals(probe):
    data = handshake(drop=[KEY_FIELD]) + version("8") + handshake("/ws?refuse=401") + LIVE
    assert [answer.status for answer in converse(probe.address, data)] == [400, 426, 401, 200, 200]


def test_http_limits_end_with_the_handshake():
    """W-row of stock Beast: no deadline of the HTTP phase cuts an open socket."""
    with Probe(idle_ms=200, header_ms=200, body_ms=200, write_ms=200) as own, Socket(own.address) as peer:
        peer.send(frame(TEXT, "slow 700"))
        assert peer.expect("text") == b"slow"
        assert peer.ask("still here") == "still here"


def test_sockets_are_connections():
    """They count among Limits::connections, and give their place back."""
    with Probe(connections=3, threads=1) as own:
        peers = [Socket(own.address) for _ in range(3)]
        with connect(own.address) as one_more:
            assert read_all(one_more).startswith(b"HTTP/1.1 503 ")
        peers.pop().peer.close()

        def opens():
            try:
                return figures(own.address)["sockets"] == 3
            except (AssertionError, ConnectionError):
                return False

        wait_for(opens, "the place is given back")
        for peer in peers:
            assert peer.ask("x") == "x"
            peer.peer.close()


def test_peer_gone_while_the_gateway_is_asked(probe):
    for _ in range(20):
        with connect(probe.address) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sendall(handshake("/ws?wait=30"))
    wait_for(lambda: figures(probe.address)["open"] == 1, "the connections have ended")
    wait_for(lambda: figures(probe.address)["sessions"] == 1, "their sessions have gone with them")


def test_draining_opens_no_socket():
    with Probe() as own:
        with Socket(own.address, "/ws?stay=1") as stays, connect(own.address) as slow:
            stays.ask("here")
            # In flight when the drain begins, the handshake is this connection's next request.
            slow.sendall(get("/slow?ms=300"))
            wait_for(lambda: int(stays.ask("figures").split()[0]) == 2, "both are open")
            slow.sendall(handshake())
            os.kill(own.pid, 15)
            answers = split_answers(read_all(slow))
            assert answers[0].status == 200 and answers[0].closes and len(answers) == 1
            stays.send(close(1000))
            assert stays.read()[0] == "close"


def test_draining_answers_503():
    with Probe() as own:
        with Socket(own.address, "/ws?stay=1") as stays, connect(own.address) as late:
            late.sendall(LIVE)
            data = b""
            while not data.endswith(b"ok"):
                data += late.recv(65536)
            # A head begun before the drain is a request in flight.
            late.sendall(handshake()[:-2])
            wait_for(lambda: int(stays.ask("figures").split()[0]) == 2, "both are open")
            os.kill(own.pid, 15)
            with pytest.raises((ConnectionError, AssertionError)):
                while True:
                    connect(own.address).close()  # until the port is shut
            late.sendall(b"\r\n")
            (answer,) = split_answers(read_all(late))
            assert answer.status == 503 and answer.closes
            stays.send(frame(CLOSE))
            assert stays.told() == ["close"]
