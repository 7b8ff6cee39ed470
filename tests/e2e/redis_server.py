"""A Redis of a test's own."""

import contextlib
import secrets
import socket
import subprocess

from harness import free_port, wait_for


class Redis:
    """A server of the test's own on the loopback, behind a password, which stores nothing."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, free_port(), None
        self.password = secrets.token_hex(8)
        self.url = f"redis://:{self.password}@127.0.0.1:{self.port}"
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no", "--dir",
             self.folder, "--logfile", f"{self.folder}/redis.log", "--requirepass", self.password])
        wait_for(self.answers, "Redis answers")

    def tell(self, command):
        """Whether it was done."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as peer:
            peer.sendall(f"AUTH {self.password}\r\n{command}\r\nQUIT\r\n".encode())
            replies = b"".join(iter(lambda: peer.recv(1000), b""))
            return replies.startswith(b"+OK\r\n") and b"\r\n-" not in replies
        return False

    def answers(self):
        return self.tell("PING")

    def kill(self):
        self.process.kill()
        self.process.wait()
