"""WebSocket in raw bytes, for the tests beside it: frames written right or wrong, and a reader that takes only right ones.

`Socket` is a client that can send anything; `told()` reads to the connection's end and tells what was seen, as
["text hi", "close 1000"].
"""

import base64
import hashlib
import socket
import struct

from wire import connect, get, send

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x12\xf4\x56\x01"
TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
NAMES = {1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}")


def handshake(target="/ws", *fields, drop=(), **named):
    """The bytes of a sound handshake; `drop` names fields to leave out."""
    kept = [field for field in UPGRADE if field.split(":")[0] not in drop]
    return get(target, *kept, *fields, **named)


def frame(first, payload=b"", length_bytes=None, mask=MASK, length=None):
    """One frame as a client sends it. `length` is what the header says, when that is not the truth."""
    if isinstance(payload, str):
        payload = payload.encode()
    size = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    short = {0: size, 2: 126, 8: 127}[length_bytes]
    head = bytes([first, short | (0x80 if mask is not None else 0)])
    if length_bytes:
        head += size.to_bytes(length_bytes, "big")
    if mask is None:
        return head + payload
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    turned = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + mask + turned.to_bytes(len(payload), "big")


def close(code=1000, reason=b""):
    return frame(CLOSE, struct.pack(">H", code) + reason)


def accept_of(key):
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()


class Socket:
    """A client's side; `glued` is sent in the handshake's segment."""

    def __init__(self, address, target="/ws", *fields, glued=b"", receive_bytes=None):
        self.buffer = b""
        if receive_bytes:
            self.peer = socket.socket()
            self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            self.peer.settimeout(20)
            self.peer.connect(address)
        else:
            self.peer = connect(address)
        self.peer.sendall(handshake(target, *fields) + glued)
        while b"\r\n\r\n" not in self.buffer:
            piece = self.peer.recv(65536)
            assert piece, self.buffer
            self.buffer += piece
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        assert first == "HTTP/1.1 101 Switching Protocols", head
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        assert self.headers["sec-websocket-accept"] == accept_of(KEY)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.peer.close()

    def send(self, *pieces):
        send(self.peer, b"".join(pieces))

    def take(self, size):
        """Exactly so many bytes, or EOFError at the connection's end."""
        while len(self.buffer) < size:
            piece = self.peer.recv(1 << 20)
            if not piece:
                raise EOFError(self.buffer)
            self.buffer += piece
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def read(self):
        """The next frame, held to what a server may send: (kind, payload)."""
        first, second = self.take(2)
        assert first & 0xF0 == 0x80, f"fragmented or with reserved bits: {first:#x}"
        assert second < 0x80, "masked"
        length = second
        if second == 126:
            (length,) = struct.unpack(">H", self.take(2))
            assert length > 125
        elif second == 127:
            (length,) = struct.unpack(">Q", self.take(8))
            assert length > 65535
        kind = NAMES[first & 15]
        assert length < 126 or kind in ("text", "binary")
        return kind, self.take(length)

    def ask(self, text):
        self.send(frame(TEXT, text))
        return self.expect("text").decode()

    def expect(self, kind):
        got, payload = self.read()
        assert got == kind, (got, payload[:100])
        return payload

    def told(self):
        """All frames to the connection's end, which must be a clean one."""
        seen = []
        while True:
            try:
                kind, payload = self.read()
            except EOFError as end:
                assert not end.args[0], f"cut in a frame: {end.args[0][:50]}"
                return seen
            if kind == "close":
                assert len(payload) != 1
                payload[2:].decode()
                seen.append(f"close {struct.unpack('>H', payload[:2])[0]}" if payload else "close")
            else:
                shown = payload.decode() if len(payload) < 100 else str(len(payload))
                seen.append(f"{kind} {shown}" if shown else kind)


def figures(address):
    """The probe's, over a socket of its own."""
    with Socket(address) as asking:
        names = ("open", "sockets", "outbox_bytes", "frames_in", "frames_out", "too_slow", "sessions")
        return dict(zip(names, map(int, asking.ask("figures").split())))
