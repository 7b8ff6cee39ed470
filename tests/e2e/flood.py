"""More requests than a server can do, by one thread from many connections: in an open loop, so many a second by plan
whatever becomes of those before, or as fast as answers come. No connection is used twice at once, so there must be more
of them than the server can have under way; what finds none goes out late, and its wait counts.
"""

import re
import select
import socket
import time

DRAIN_S = 10


class Peer:
    __slots__ = ("address", "socket", "kind", "key", "due", "length", "pieces", "got")

    def __init__(self, address):
        self.address = address
        self.connect()

    def connect(self):
        self.socket = socket.create_connection(self.address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.pieces, self.got, self.length = [], 0, None

    def read(self):
        """The whole answer, when this is its end."""
        piece = self.socket.recv(1 << 18)
        assert piece, f"closed within {self.kind} after {self.got} bytes"
        self.pieces.append(piece)
        self.got += len(piece)
        if self.length is None:
            data = b"".join(self.pieces)
            at = data.find(b"\r\n\r\n")
            if at < 0:
                return None
            self.length = at + 4 + int(re.search(rb"(?i)\r\ncontent-length: (\d+)", data[:at + 2])[1])
        if self.got < self.length:
            return None
        data = b"".join(self.pieces)
        assert len(data) == self.length, f"more than one answer: {data[self.length:][:200]}"
        self.pieces, self.got, self.length = [], 0, None
        return data


class Answered:
    """`seconds`: since it was due. `at`: when, since the flood began. `data`: the whole answer unless it is a 200."""

    __slots__ = ("kind", "key", "status", "seconds", "at", "data")

    def __init__(self, peer, data, now, began):
        self.kind, self.key, self.status = peer.kind, peer.key, int(data[9:12])
        self.seconds, self.at = now - peer.due, now - began
        self.data = None if self.status == 200 else data


class Flood:
    def __init__(self, address, count):
        self.peers, self.events, self.answers, self.ended = {}, select.epoll(), [], 0
        for _ in range(count):
            self.enter(Peer(address))

    def enter(self, peer):
        self.peers[peer.socket.fileno()] = peer
        self.events.register(peer.socket, select.EPOLLIN)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.events.close()
        for peer in self.peers.values():
            peer.socket.close()

    def run(self, asks, seconds, rate=None, width=None):
        """Every answer (all floods' are in `answers`), and how many requests a second went out. `asks` gives (kind, key,
        bytes); `width` connections of all take part."""
        idle, busy, answers, sent = list(self.peers.values())[:width], 0, [], 0
        began = now = time.monotonic()
        end = began + seconds
        while now < end or busy:
            assert now < end + DRAIN_S, f"{busy} were not answered"
            if now < end:
                due = int((now - began) * rate) + 1 if rate else sent + len(idle)
                while sent < due and idle:
                    peer = idle.pop()
                    peer.kind, peer.key, data = next(asks)
                    peer.due = began + sent / rate if rate else now
                    assert peer.socket.send(data) == len(data)
                    sent += 1
                    busy += 1
            until = began + sent / rate if rate and idle and now < end else end + DRAIN_S if now >= end else end
            for number, _ in self.events.poll(max(0, until - time.monotonic()), 256):
                peer = self.peers[number]
                data = peer.read()
                if data is not None:
                    answers.append(Answered(peer, data, time.monotonic(), began))
                    if b"\r\nConnection: close" in data[:1024]:
                        self.ended += 1
                        self.peers.pop(number).socket.close()
                        peer.connect()
                        self.enter(peer)
                    idle.append(peer)
                    busy -= 1
            now = time.monotonic()
        self.answers += answers
        return answers, sent / seconds
