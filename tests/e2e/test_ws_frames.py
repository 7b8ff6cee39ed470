"""RFC 6455 as it comes over the wire, in raw bytes, against net_probe: what is answered, what closes, with which code.

Each case sends its bytes and then asks to close with 1000; so every read ends with the connection's end, nothing is
waited for, and a socket that should have been closed shows "close 1000" instead.
"""

import asyncio
import os
import select
import socket
import struct
import threading
import time

import pytest
import websockets

from harness import quantile
from wire import PATIENCE_S, Probe, connect, wait_for
from wire import probe  # noqa: F401 (fixture)
from ws_wire import BINARY, CLOSE, PING, PONG, TEXT, Socket, close, figures, frame, handshake

FIN, CONTINUE = 0x80, 0x00
THAI = "กขค"
LETTERS = THAI.encode()
FINE = ["close 1000"]
PROTOCOL, BAD_DATA, TOO_BIG = ["close 1002"], ["close 1007"], ["close 1009"]


def fragments(*parts, first=TEXT & 0x7F):
    """A message in so many frames."""
    last = len(parts) - 1
    return b"".join(
        frame((FIN if at == last else 0) | (CONTINUE if at else first), part) for at, part in enumerate(parts)
    )


def coded(code, reason=b""):
    return close(code, reason)


# name, bytes, frames that come back
CASES = [
    # whole messages and their lengths
    ("text", frame(TEXT, "hi"), ["text hi", *FINE]),
    ("text_empty", frame(TEXT), ["text", *FINE]),
    ("text_thai", frame(TEXT, THAI), [f"text {THAI}", *FINE]),
    ("text_nul", frame(TEXT, b"a\0b"), ["text a\0b", *FINE]),
    ("text_mask_zero", frame(TEXT, "hi", mask=b"\0\0\0\0"), ["text hi", *FINE]),
    ("text_two", frame(TEXT, "a") + frame(TEXT, "b"), ["text a", "text b", *FINE]),
    ("length_125", frame(TEXT, "x" * 125), ["text 125", *FINE]),
    ("length_126", frame(TEXT, "x" * 126), ["text 126", *FINE]),
    ("length_127", frame(TEXT, "x" * 127), ["text 127", *FINE]),
    ("length_65535", frame(TEXT, "x" * 65535), ["text 65535", *FINE]),
    ("length_64_kib", frame(TEXT, "x" * 65536), ["text 65536", *FINE]),
    ("length_one_past", frame(TEXT, "x" * 65537), TOO_BIG),
    ("length_past_by_header", frame(TEXT, length=65537), TOO_BIG),
    ("length_2_63_less_one", frame(TEXT, length=2**63 - 1, length_bytes=8), TOO_BIG),
    ("length_top_bit", frame(TEXT, length=2**63, length_bytes=8), PROTOCOL),
    ("length_all_bits", frame(TEXT, length=2**64 - 1, length_bytes=8), PROTOCOL),
    ("length_16_not_minimal", frame(TEXT, "x", length_bytes=2), PROTOCOL),
    ("length_16_of_125", frame(TEXT, "x" * 125, length_bytes=2), PROTOCOL),
    ("length_64_not_minimal", frame(TEXT, "x", length_bytes=8), PROTOCOL),
    ("length_64_of_65535", frame(TEXT, "x" * 65535, length_bytes=8), PROTOCOL),
    ("length_16_zero", frame(TEXT, length_bytes=2), PROTOCOL),
    ("binary_one", frame(BINARY, b"\xff\x00"), ["text binary", *FINE]),
    ("binary_empty", frame(BINARY), ["text binary", *FINE]),
    ("binary_again", frame(BINARY, b"\xff") * 3, ["text binary", "text binary", "close 1003"]),
    ("binary_is_not_utf8", fragments(b"\xff", b"\xfe", first=BINARY & 0x7F), ["text binary", *FINE]),
    # masking
    ("unmasked", frame(TEXT, "hi", mask=None), PROTOCOL),
    ("unmasked_empty", frame(TEXT, mask=None), PROTOCOL),
    ("unmasked_ping", frame(PING, mask=None), PROTOCOL),
    ("unmasked_close", frame(CLOSE, b"\x03\xe8", mask=None), PROTOCOL),
    ("unmasked_continuation", frame(0x01, "a") + frame(0x80, "b", mask=None), PROTOCOL),
    # reserved bits and opcodes
    ("rsv1_no_extension", frame(0xC1, "hi"), PROTOCOL),
    ("rsv2", frame(0xA1, "hi"), PROTOCOL),
    ("rsv3", frame(0x91, "hi"), PROTOCOL),
    ("rsv_all", frame(0xF1, "hi"), PROTOCOL),
    ("rsv_on_ping", frame(0xC9, "hi"), PROTOCOL),
    ("rsv_on_close", frame(0xB8, b"\x03\xe8"), PROTOCOL),
    ("rsv_on_continuation", frame(0x01, "a") + frame(0xC0, "b"), PROTOCOL),
    ("rsv_after_a_message", frame(TEXT, "a") + frame(0x91, "b"), ["text a", *PROTOCOL]),
    *[(f"opcode_{opcode:x}", frame(0x80 | opcode, "x"), PROTOCOL) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
    # control frames
    ("ping_empty", frame(PING), ["pong", *FINE]),
    ("ping_payload", frame(PING, "abc"), ["pong abc", *FINE]),
    ("ping_125", frame(PING, "x" * 125), ["pong 125", *FINE]),
    ("ping_126", frame(PING, "x" * 126), PROTOCOL),
    ("ping_many_one_pong", b"".join(frame(PING, str(i)) for i in range(10)), ["pong 9", *FINE]),
    ("ping_around_text", frame(PING, "a") + frame(TEXT, "t"), ["pong a", "text t", *FINE]),
    ("ping_in_fragments", frame(0x09, "a") + frame(0x80, "b"), PROTOCOL),
    ("pong_unasked", frame(PONG, "x"), FINE),
    ("pong_126", frame(PONG, "x" * 126), PROTOCOL),
    ("pong_in_fragments", frame(0x0A, "a"), PROTOCOL),
    ("ping_not_utf8", frame(PING, b"") + frame(PONG, b"\xff\xfe"), ["pong", *FINE]),
    # fragments
    ("fragments_two", fragments("a", "b"), ["text ab", *FINE]),
    ("fragments_empty", fragments("", "", ""), ["text", *FINE]),
    ("fragments_last_empty", fragments("ab", ""), ["text ab", *FINE]),
    ("fragments_of_a_byte", fragments(*"hello world"), ["text hello world", *FINE]),
    ("fragments_4000_empty", fragments("a", *[""] * 4000, "b"), ["text ab", *FINE]),
    ("fragments_ping_between", frame(1, "a") + frame(PING, "p") + frame(0x80, "b"), ["pong p", "text ab", *FINE]),
    ("fragments_pong_between", frame(1, "a") + frame(PONG, "p") + frame(0x80, "b"), ["text ab", *FINE]),
    ("fragments_close_between", frame(1, "a") + coded(1001), ["close 1001"]),
    ("fragments_64_kib", fragments(*["x" * 8192] * 8), ["text 65536", *FINE]),
    ("fragments_one_past", fragments(*["x" * 8192] * 8, "y"), TOO_BIG),
    ("continuation_first", frame(0x80, "a"), PROTOCOL),
    ("continuation_first_open", frame(0x00, "a"), PROTOCOL),
    ("continuation_after_end", fragments("a", "b") + frame(0x80, "c"), ["text ab", *PROTOCOL]),
    ("text_inside_text", frame(1, "a") + frame(TEXT, "b"), PROTOCOL),
    ("binary_inside_text", frame(1, "a") + frame(BINARY, "b"), PROTOCOL),
    ("fragments_twice", fragments("a", "b") + fragments("c", "d"), ["text ab", "text cd", *FINE]),
    # UTF-8
    ("utf8_cut_in_a_letter", fragments(LETTERS[:1], LETTERS[1:4], LETTERS[4:]), [f"text {THAI}", *FINE]),
    ("utf8_four_bytes_apart", fragments(*[bytes([b]) for b in "😀".encode()]), ["text 😀", *FINE]),
    ("utf8_last", frame(TEXT, "\U0010ffff"), ["text \U0010ffff", *FINE]),
    ("utf8_past_last", frame(TEXT, b"\xf4\x90\x80\x80"), BAD_DATA),
    ("utf8_surrogate", frame(TEXT, b"\xed\xa0\x80"), BAD_DATA),
    ("utf8_overlong", frame(TEXT, b"\xc0\xaf"), BAD_DATA),
    ("utf8_overlong_three", frame(TEXT, b"\xe0\x80\xaf"), BAD_DATA),
    ("utf8_stray", frame(TEXT, b"a\x80"), BAD_DATA),
    ("utf8_cut_at_the_end", frame(TEXT, LETTERS[:-1]), BAD_DATA),
    ("utf8_cut_at_the_last_fragment", fragments("a", LETTERS[:2]), BAD_DATA),
    ("utf8_bad_over_two_frames", frame(1, b"\xe0\xb8") + frame(0x80, b"("), BAD_DATA),
    ("utf8_told_before_the_end", frame(1, b"\xff"), BAD_DATA),
    ("utf8_told_within_a_frame", frame(1, b"ab\xff" + b"x" * 200)[:12], BAD_DATA),
    ("utf8_after_a_long_run", frame(TEXT, b"x" * 60000 + b"\xff"), BAD_DATA),
    # closing
    ("close_empty", frame(CLOSE), ["close"]),
    ("close_reason", coded(1000, b"bye"), ["close 1000"]),
    ("close_reason_123", coded(1000, b"x" * 123), ["close 1000"]),
    ("close_reason_124", coded(1000, b"x" * 124), PROTOCOL),
    ("close_half_a_code", frame(CLOSE, b"\x03"), PROTOCOL),
    ("close_reason_not_utf8", coded(1000, b"\xff"), BAD_DATA),
    ("close_reason_cut", coded(1000, LETTERS[:2]), BAD_DATA),
    ("close_in_fragments", frame(0x08, b"\x03\xe8"), PROTOCOL),
    ("close_then_text", coded(1001) + frame(TEXT, "late"), ["close 1001"]),
    ("close_twice", coded(1001) + coded(1002), ["close 1001"]),
    ("close_after_text", frame(TEXT, "a") + coded(3000), ["text a", "close 3000"]),
    *[
        (f"close_code_{code}", coded(code), [f"close {code}"])
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
    ],
    *[
        (f"close_code_{code}", coded(code), PROTOCOL)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    ],
    # what a session closes
    ("session_closes", frame(TEXT, "close 4401 why"), ["close 4401"]),
    ("session_closes_behind_what_is_queued", frame(TEXT, "flood 3 2") + frame(TEXT, "close 4410"),
     ["text ff"] * 3 + ["close 4410"]),
    ("session_closes_then_text", frame(TEXT, "close 4410") + frame(TEXT, "late") * 5, ["close 4410"]),
    ("session_throws", frame(TEXT, "throw") + frame(TEXT, "late"), ["close 1011"]),
    ("not_http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", PROTOCOL),
]  # fmt: skip


def test_no_case_is_named_twice():
    names = [name for name, _, _ in CASES]
    assert len(names) == len(set(names)) and len(names) > 100


@pytest.mark.parametrize("data,told", [pytest.param(data, told, id=name) for name, data, told in CASES])
def test_frames(probe, data, told):
    with Socket(probe.address) as peer:
        peer.send(data, close(1000))
        assert peer.told() == told


@pytest.mark.parametrize("data,told", [pytest.param(data, told, id=name) for name, data, told in CASES])
def test_frames_glued_to_the_handshake(probe, data, told):
    """W10: what comes in the handshake's segment is not lost, nor read otherwise."""
    with Socket(probe.address, glued=data + close(1000)) as peer:
        assert peer.told() == told


def test_byte_by_byte(probe):
    """Every case that is short, a segment a byte; all sockets at once, since each segment takes a while."""
    short = [(name, data, told) for name, data, told in CASES if len(data) < 80 and name != "ping_many_one_pong"]
    peers = [(Socket(probe.address), data + close(1000), told, name) for name, data, told in short]
    try:
        for at in range(max(len(data) for _, data, _, _ in peers)):
            for peer, data, _, _ in peers:
                peer.send(data[at : at + 1])
        for peer, _, told, name in peers:
            assert peer.told() == told, name
    finally:
        for peer, *_ in peers:
            peer.peer.close()


def test_cut_within_a_frame(probe):
    """A peer that goes in the midst of anything leaves nothing behind."""
    for data in (b"", frame(TEXT, "hello")[:1], frame(TEXT, "hello")[:7], frame(TEXT, "x" * 70)[:50], frame(1, "a"),
                 frame(CLOSE, b"\x03\xe8")[:3]):  # fmt: skip
        with Socket(probe.address) as peer:
            peer.send(data)
            peer.peer.shutdown(socket.SHUT_WR)
            assert peer.told() == []
    wait_for(lambda: figures(probe.address)["sessions"] == 1, "the sessions have ended")


def test_close_of_ours_is_waited_for(probe):
    """After our close frame the peer's is awaited; then the connection ends without a reset."""
    with Socket(probe.address) as peer:
        peer.send(frame(TEXT, "close 4409 why"))
        assert peer.expect("close") == struct.pack(">H", 4409) + b"why"
        peer.send(frame(TEXT, "still here"), frame(PING, "x"), close(4409))
        assert peer.told() == []


def test_close_of_ours_is_not_waited_for_long():
    with Probe(close_ms=200) as own, Socket(own.address) as peer:
        peer.send(frame(TEXT, "close 4409"))
        began = time.monotonic()
        peer.expect("close")
        assert peer.told() == []
        assert 0.1 < time.monotonic() - began < 5
        peer.send(frame(TEXT, "x"))
        wait_for(lambda: figures(own.address)["sessions"] == 1, "the session has ended")


def test_close_of_ours_under_a_flood():
    """A peer that answers a close frame with megabytes is not read to the end."""
    with Probe(close_ms=60_000) as own, Socket(own.address) as peer:
        peer.send(frame(TEXT, "close 4409"))
        peer.expect("close")
        peer.send(frame(TEXT, "x" * 60_000) * 64)
        wait_for(lambda: figures(own.address)["sessions"] == 1, "the session has ended")


def test_messages_wait_while_one_is_handled(probe):
    """One at a time: what follows waits, in order, whether it came in the same segment or a later one."""
    with Socket(probe.address) as peer:
        peer.send(frame(TEXT, "slow 150"), frame(TEXT, "a"), frame(PING, "p"), frame(TEXT, "b"))
        peer.send(frame(TEXT, "c"), close(1000))
        assert peer.told() == ["text slow", "text a", "pong p", "text b", "text c", "close 1000"]


def test_peer_gone_while_a_message_is_handled(probe):
    with Socket(probe.address) as peer:
        peer.send(frame(TEXT, "slow 150"), frame(TEXT, "a"))
    with Socket(probe.address) as peer:
        peer.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.send(frame(TEXT, "slow 150"))
    wait_for(lambda: figures(probe.address)["sessions"] == 1, "the sessions have ended")


def test_sessions_tick(probe):
    """About every second, also while a message is handled."""
    with Socket(probe.address) as peer:
        peer.send(frame(TEXT, "slow 2300"), frame(TEXT, "ticks"))
        assert peer.expect("text") == b"slow"
        assert peer.expect("text") in (b"1", b"2", b"3")


# ---- who is there, and who reads ----------------------------------------------------------------------------------


def test_pings_and_silence():
    """A peer that answers stays; one that does not is told 4409 and cut."""
    with Probe(ping_ms=1000, silence_ms=2500, close_ms=300) as own:
        with Socket(own.address) as polite, Socket(own.address) as mute:
            for _ in range(4):
                assert polite.expect("ping") == b""
                polite.send(frame(PONG))
            seen = mute.told()
            assert seen[-1] == "close 4409" and set(seen[:-1]) == {"ping"}
            assert polite.ask("there") == "there"
            wait_for(lambda: figures(own.address)["sessions"] == 2, "the mute one's session has ended")


def test_a_limit_on_frames_counts_all_kinds():
    with Probe() as own:
        for kind in (frame(PING, "x"), frame(PONG), frame(1, "") + frame(0x00, "") * 99, frame(TEXT, "a")):
            with Socket(own.address, "/ws?frames=50") as peer:
                peer.send(kind * 100)
                assert peer.told()[-1] == "close 4429"


@pytest.mark.parametrize("what", ["pings", "fragments"])
def test_floods_cost_little(what):
    """W09: 50,000 pings, 20,000 empty fragments; with no limit set they cost little, and the processor is idle after."""
    with Probe(threads=1) as own, Socket(own.address) as peer, Socket(own.address) as other:
        before = own.memory_kib()
        data = frame(PING, "x") * 50_000 if what == "pings" else frame(1, "") + frame(0x00, "") * 20_000
        sender = threading.Thread(target=peer.send, args=(data, close(1000)))
        sender.start()
        assert other.ask("still") == "still"
        seen = peer.told()
        sender.join()
        assert seen[-1] == "close 1000" and set(seen[:-1]) <= {"pong x"}
        if not own.sanitized:
            assert own.memory_kib() - before < 4096
            assert own.processor_s() < 2


def stall(own, size, rounds):
    """A socket that stops reading beside two that read on, while the shard sends `rounds` frames of `size` to all."""
    with Socket(own.address) as good, Socket(own.address) as other:
        with Socket(own.address, receive_bytes=4096) as stalled:
            assert stalled.ask("here") == "here"
            highest, took = 0, []
            for _ in range(rounds):
                began = time.monotonic()
                good.send(frame(TEXT, f"all 1 {size}"))
                assert len(good.expect("text")) == size and len(other.expect("text")) == size
                took.append(time.monotonic() - began)
                told = good.ask("figures").split()
                highest = max(highest, int(told[2]))
                if told[5] == "1":
                    break
            wait_for(lambda: figures(own.address)["too_slow"] == 1, "the stalled one was told")
            wait_for(lambda: figures(own.address)["sessions"] == 3, "the stalled one was cut")
            assert figures(own.address)["outbox_bytes"] == 0
            return quantile(took, 0.99), highest, stalled_end(stalled)


def stalled_end(peer):
    """What the stalled one finds when it reads at last: frames, whole up to where it was cut off."""
    count = 0
    try:
        while True:
            peer.read()
            count += 1
    except (EOFError, ConnectionResetError):
        return count


@pytest.mark.parametrize("size", [20_000, 200])
def test_stalled_reader(size):
    """W08: it costs at most its outbox and what the kernel takes, is cut, and the others read on."""
    with Probe(threads=1, close_ms=300) as own:
        before = own.memory_kib()
        usual_s, highest, count = stall(own, size, 12_000_000 // size if size > 1000 else 40_000)
        assert count < 12_000_000 // size
        assert highest <= 1024 * 1024
        if not own.sanitized:
            assert own.memory_kib() - before < 5 * 1024
            assert usual_s < 0.5


def test_stalled_reader_below_the_bound():
    """Less than an outbox waits, but nobody ever reads it."""
    with Probe(threads=1, stall_ms=1500, close_ms=300) as own, Socket(own.address, receive_bytes=4096) as stalled:
        with Socket(own.address) as good:
            while int(good.ask("figures").split()[2]) == 0:
                good.send(frame(TEXT, "all 1 60000"))
                good.expect("text")
            wait_for(lambda: figures(own.address)["too_slow"] == 1, "the stalled one was told")
            wait_for(lambda: figures(own.address)["sessions"] == 2, "the stalled one was cut")


def test_part_of_a_message_is_not_kept_for_ever():
    """Pings do not keep half a message alive; a whole one in between does."""
    with Probe(body_ms=1500, threads=1) as own, Socket(own.address) as half, Socket(own.address) as busy:
        half.send(frame(1, "x" * 60_000))
        began = time.monotonic()
        while time.monotonic() - began < 3.5:
            half.send(frame(PING))
            busy.send(frame(1, "a"), frame(0x80, "b"), frame(1, "c"))
            assert busy.expect("text") == b"ab"
            busy.send(frame(0x80, "d"))
            assert busy.expect("text") == b"cd"
            select.select([], [], [], 0.05)
        assert half.told()[-1] == "close 4408"


def test_a_frame_past_the_bound_goes_alone():
    with Probe(outbox_bytes=10_000) as own, Socket(own.address) as peer:
        peer.send(frame(TEXT, "flood 1 3000000"))
        assert len(peer.expect("text")) == 3_000_000
        peer.send(frame(TEXT, "flood 2 24000000"))
        assert len(peer.expect("text")) == 24_000_000
        assert figures(own.address)["too_slow"] == 1


def test_a_long_turn_is_not_slowness():
    """More frames at once than an outbox holds reach a peer that reads."""
    with Probe() as own, Socket(own.address) as peer:
        peer.send(frame(TEXT, "flood 5000 20"))
        for _ in range(5000):
            assert peer.expect("text") == b"f" * 20
        assert figures(own.address)["too_slow"] == 0


def test_idle_sockets_are_small():
    count = 1000
    with Probe(threads=1) as own:
        peers = [Socket(own.address) for _ in range(20)]
        before = own.memory_kib()
        peers += [Socket(own.address) for _ in range(count)]
        for peer in peers:
            peer.send(frame(TEXT, "x" * 3000))
        for peer in peers:
            peer.expect("text")
        grown = own.memory_kib() - before
        seen = figures(own.address)
        assert (seen["sockets"], seen["sessions"], seen["outbox_bytes"]) == (len(peers) + 1, len(peers) + 1, 0)
        if not own.sanitized:
            assert grown / count < 6, f"{grown / count} KiB an idle socket"
        for peer in peers:
            peer.peer.close()
        wait_for(lambda: figures(own.address)["open"] == 1, "all have ended")


# ---- draining -----------------------------------------------------------------------------------------------------


def test_drain_says_1001():
    """S-rows: told, waited for, and the server ends at once when all have answered."""
    with Probe() as own:
        peers = [Socket(own.address, "/ws?greet=1") for _ in range(50)]
        for peer in peers:
            assert peer.expect("text") == b"hello 0"
        os.kill(own.pid, 15)
        began = time.monotonic()
        for peer in peers:
            assert peer.expect("close")[:2] == struct.pack(">H", 1001)
            peer.send(close(1001))
        for peer in peers:
            assert peer.told() == []
            peer.peer.close()
        own.process.wait(PATIENCE_S)
        assert time.monotonic() - began < 5


def test_drain_cuts_who_stays():
    with Probe(drain_ms=300) as own:
        with Socket(own.address, "/ws?stay=1") as peer:
            assert peer.ask("here") == "here"
            os.kill(own.pid, 15)
            assert peer.told() == []
            own.process.wait(PATIENCE_S)


def test_drain_waits_for_a_message_in_hand():
    with Probe() as own, Socket(own.address, "/ws?stay=1") as peer:
        peer.send(frame(TEXT, "slow 300"), frame(TEXT, "close 1001"))
        os.kill(own.pid, 15)
        assert peer.told() == ["text slow", "close 1001"]
        own.process.wait(PATIENCE_S)


def test_drain_while_the_gateway_is_asked():
    with Probe(threads=1) as own, connect(own.address) as raw:
        raw.sendall(handshake("/ws?wait=300"))
        with Socket(own.address) as other:  # so the one before has been read
            os.kill(own.pid, 15)
            other.expect("close")
            other.send(close(1001))
        data = b""
        while piece := raw.recv(65536):
            data += piece
            if data.endswith(b"stopped."):
                raw.sendall(close(1001))
        assert data.startswith(b"HTTP/1.1 101 ") and b"\x03\xe9" in data, data
        own.process.wait(PATIENCE_S)


# ---- another implementation ---------------------------------------------------------------------------------------


def test_websockets_as_client(probe):
    """The `websockets` package: texts of all sizes, fragments, pings, both ways of closing."""
    url = f"ws://{probe.address[0]}:{probe.address[1]}/ws?named=1"

    async def talk():
        async with websockets.connect(url, subprotocols=["other", "hourz.1"], max_size=None) as peer:
            assert peer.subprotocol == "hourz.1" and not peer.extensions
            for size in (0, 1, 125, 126, 65535, 65536):
                text = "ก" * (size // 3) + "x" * (size % 3)
                await peer.send(text)
                assert await peer.recv() == text
            await peer.send(["in ", "three ", "parts"])
            assert await peer.recv() == "in three parts"
            await asyncio.wait_for(await peer.ping(), PATIENCE_S)
            await peer.send("flood 2000 1000")
            for _ in range(2000):
                assert len(await peer.recv()) == 1000
            await peer.send("close 4401 fresh token")
            with pytest.raises(websockets.ConnectionClosed) as end:
                await peer.recv()
            assert (end.value.rcvd.code, end.value.rcvd.reason) == (4401, "fresh token")
        async with websockets.connect(url, subprotocols=["hourz.1"]) as peer:
            await peer.send("hi")
            assert await peer.recv() == "hi"
            await peer.close(code=3001, reason="enough")
            assert peer.close_code == 3001
        with pytest.raises(websockets.InvalidStatusCode) as refused:
            await websockets.connect(url + "&refuse=403")
        assert refused.value.status_code == 403

    asyncio.run(asyncio.wait_for(talk(), PATIENCE_S))
