"""Networks that fail: a way between two processes that goes dark, cuts after so many bytes, or passes on crumbs."""

import contextlib
import ctypes
import os
import socket
import struct
import threading

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27


def mute(peer):
    """From now on the kernel drops every packet that comes for this TCP socket, unseen and without an acknowledgement:
    the other side meets a black hole, on loopback and without root."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0
    peer.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(drop_all)))


def unmute(peer):
    peer.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def reset(peer):
    """Ends a TCP connection by RST; whatever was not sent is gone."""
    with contextlib.suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def tcp_states(port):
    """Of all connections to this port of the loopback, those that no process has any more among them: the kernel's states.
    Not of those that both sides have ended, whose port the kernel keeps for a minute."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    states = [int(row[3], 16) for row in rows if row[2] == f"0100007F:{port:04X}"]
    return [state for state in states if state != TIME_WAIT]


ESTABLISHED, FIN_WAIT1, TIME_WAIT = 1, 4, 6


class Way:
    """Listens in front of `behind` (an address, or the path of a socket) and passes on what comes, both ways.

    dark() and light(): nothing gets through, and nobody is told; what was lost breaks a connection for good, as after a
    cable that was cut. cut(to_front, to_back, by_reset): every connection ends once so many bytes went to who connected,
    or to what is behind. `crumbs`: so many bytes at a time at most."""

    def __init__(self, behind, front=None, crumbs=65536):
        """`front`: the path of a socket; else a port of the loopback."""
        self.behind, self.crumbs = behind, crumbs
        self.is_dark, self.ended = threading.Event(), False
        self.lock, self.budgets, self.by_reset, self.passed = threading.Lock(), [None, None], False, [0, 0]
        self.is_tcp = front is None
        self.listener = socket.socket(socket.AF_INET if self.is_tcp else socket.AF_UNIX)
        self.listener.bind(("127.0.0.1", 0) if self.is_tcp else front)
        if not self.is_tcp:
            os.chmod(front, 0o777)
        self.listener.listen(256)
        self.pairs, self.back_ports = [], []
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def port(self):
        return self.listener.getsockname()[1]

    def accept(self):
        while not self.ended:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            there = socket.socket(socket.AF_UNIX if isinstance(self.behind, str) else socket.AF_INET)
            try:
                there.connect(self.behind)
            except OSError:
                here.close()
                there.close()
                continue
            for one in (here, there):
                if one.family == socket.AF_INET:
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if there.family == socket.AF_INET:
                self.back_ports.append(there.getsockname()[1])
            self.pairs.append((here, there))
            for source, target, to in ((there, here, 0), (here, there, 1)):
                threading.Thread(target=self.pass_on, args=(source, target, to), daemon=True).start()

    def allowed(self, to, data):
        """How much of it may pass before the cut, which is then due."""
        with self.lock:
            budget = self.budgets[to]
            if budget is not None:
                data = data[:budget]
                self.budgets[to] = budget - len(data)
            self.passed[to] += len(data)
            return data, self.budgets[to] == 0

    def pass_on(self, source, target, to):
        swallowed = False
        with contextlib.suppress(OSError):
            while data := source.recv(self.crumbs):
                swallowed = swallowed or self.is_dark.is_set()
                if swallowed:
                    continue
                data, is_cut = self.allowed(to, data)
                target.sendall(data)
                if is_cut:
                    if self.by_reset:
                        for one in (source, target):
                            reset(one)
                            one.shutdown(socket.SHUT_RD)  # ends the other thread's recv(), and says nothing to the peer
                            one.close()
                    break
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def cut(self, to_front=None, to_back=None, by_reset=False):
        with self.lock:
            self.budgets, self.by_reset, self.passed = [to_front, to_back], by_reset, [0, 0]

    def dark(self):
        self.is_dark.set()
        if self.is_tcp:
            for one in (self.listener, *(here for here, _ in self.pairs)):
                with contextlib.suppress(OSError):
                    mute(one)

    def light(self):
        if self.is_tcp:
            unmute(self.listener)
        self.is_dark.clear()

    def close(self):
        self.ended = True
        for one in [self.listener, *(one for pair in self.pairs for one in pair)]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.thread.join()
