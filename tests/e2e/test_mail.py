"""Mail by a real SMTP server and by the outbox folder: links that work, retries, and no token in the log."""

import asyncio
import contextlib
import email
import email.policy
import glob
import os
import re
import secrets
import signal
import socket
import threading

import pytest
from aiosmtpd.controller import Controller

from harness import Client, free_port, run, server, wait_for

TOKEN = re.compile(r"#token=([A-Za-z0-9_-]{54})")


class Mailbox:
    """Takes mails as a server of SMTP does; `refuse` answers for recipients, as they are or by a number of tries."""

    def __init__(self, port):
        self.mails, self.attempts, self.refuse, self.refuse_all = [], [], {}, None
        self.held, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.controller = Controller(self, hostname="127.0.0.1", port=port)

    async def handle_MAIL(self, _server, _session, envelope, address, _options):
        if self.refuse_all:
            self.attempts.append(address)
            return self.refuse_all
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, _server, _session, envelope, address, _options):
        self.attempts.append(address)
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append((envelope.rcpt_tos, mail, envelope.content))
        self.held.set()
        await asyncio.to_thread(self.go_on.wait)
        return "250 OK"

    def to(self, address):
        return [mail for rcpt, mail, _ in self.mails if rcpt == [address]]


@contextlib.contextmanager
def smtp(port=None):
    mailbox = Mailbox(port or free_port())
    mailbox.controller.start()
    try:
        yield mailbox
    finally:
        mailbox.controller.stop()


def fresh():
    return f"mali-{secrets.token_hex(6)}@example.com"


def token_in(mail):
    return TOKEN.search(mail.get_content())[1]


def register(client, address, name="มะลิ"):
    return client.post("/api/auth/register", {"email": address, "password": "river crossing at noon", "name": name}, 201)


def test_a_forgotten_password_by_smtp():
    with smtp() as mailbox:
        settings = {
            "smtp_url": f"smtp://127.0.0.1:{mailbox.controller.port}",
            "mail_from": "ชั่วโมง <no-reply@hourz.example>",
            "public_url": "https://app.hourz.example",
        }
        with server(**settings) as running, Client(running.base) as client:
            address = fresh()
            register(client, address)
            mail = wait_for(lambda: mailbox.to(address), "the mail to verify")[0]
            assert mail["from"].addresses[0].display_name == "ชั่วโมง" and mail["to"] == address
            assert not mail.defects and mail["message-id"].endswith("@hourz.example>") and mail["date"].datetime
            assert "มะลิ" not in mail.get_content() and "https://app.hourz.example/verify-email#token=" in mail.get_content()
            assert "Confirm your email" in mail["subject"] and "ยืนยันอีเมล" in mail["subject"]
            verification = token_in(mail)
            client.post("/api/auth/verify-email", {"token": verification}, 204)

            client.post("/api/auth/password-reset", {"email": address.upper()}, 202)
            client.post("/api/auth/password-reset", {"email": fresh()}, 202)
            mail = wait_for(lambda: mailbox.to(address)[1:], "the mail to reset")[0]
            assert "มะลิ" in mail.get_content()
            reset = token_in(mail)
            client.post("/api/auth/password-reset/confirm", {"token": reset, "password": "a new long phrase"}, 204)
            client.post("/api/auth/password-reset/confirm", {"token": reset, "password": "a new long phrase"}, 422)
            client.post("/api/auth/login", {"email": address, "password": "river crossing at noon"}, 401)
            client.post("/api/auth/login", {"email": address, "password": "a new long phrase"}, 200)
            assert len(mailbox.mails) == 2
            log = running.log()
            assert "mail.sent" in log and verification not in log and reset not in log and address not in log


def test_a_server_that_is_down_gets_the_mail_later():
    port = free_port()
    with server(smtp_url=f"smtp://127.0.0.1:{port}", public_url="https://app.hourz.example") as running:
        with Client(running.base) as client:
            address, other = fresh(), fresh()
            register(client, address)
            wait_for(lambda: "mail.failed" in running.log(), "the first try")
            with smtp(port) as mailbox:
                mailbox.refuse[other] = "550 no such user"
                register(client, other)
                mail = wait_for(lambda: mailbox.to(address), "the mail, once the server is there", 60)[0]
                client.post("/api/auth/verify-email", {"token": token_in(mail)}, 204)
                wait_for(lambda: "mail.refused" in running.log(), "a recipient who is refused", 60)
                assert mailbox.attempts.count(other) == 3 and len(mailbox.to(address)) == 1
            assert running.stop() == 0


def test_a_refusal_of_the_session_is_not_one_of_the_mail():
    """5xx at the greeting or to the sender is said of every mail: none is given up for it."""
    with socket.create_server(("127.0.0.1", 0)) as surly:
        port = surly.getsockname()[1]

        def greet():
            with contextlib.suppress(OSError):
                while True:
                    with surly.accept()[0] as peer:
                        peer.sendall(b"554 no service here\r\n")

        threading.Thread(target=greet, daemon=True).start()
        with server(smtp_url=f"smtp://127.0.0.1:{port}", public_url="https://app.hourz.example") as running:
            with Client(running.base) as client:
                database, address = running.database(), fresh()
                register(client, address)

                def tries():
                    database.sql("UPDATE mails SET due_at = now() WHERE sent_at IS NULL")
                    return running.log().count("mail.failed")

                wait_for(lambda: tries() >= 4, "four tries at the greeting")
                surly.shutdown(socket.SHUT_RDWR)
                surly.close()
                with smtp(port) as mailbox:
                    mailbox.refuse_all = "550 not from you"
                    wait_for(lambda: tries() and len(mailbox.attempts) >= 4, "four tries to name the sender")
                    mailbox.refuse_all = None
                    wait_for(lambda: tries() and mailbox.to(address), "the mail")
                assert "mail.refused" not in running.log()


def test_a_server_that_ends_sends_nothing_twice():
    with smtp() as mailbox:
        with server(smtp_url=f"smtp://127.0.0.1:{mailbox.controller.port}") as running:
            mailbox.go_on.clear()
            addresses = [fresh() for _ in range(3)]
            with Client(running.base) as client:
                for address in addresses:
                    register(client, address)
            assert mailbox.held.wait(20), "the first mail"
            running.process.send_signal(signal.SIGTERM)
            wait_for(lambda: "server.draining" in running.log(), "the end begins")
            mailbox.go_on.set()
            assert running.process.wait(20) == 0 and running.stop() == 0  # a second signal would not wait
            assert len(mailbox.mails) == 1
            running.start()
            wait_for(lambda: running.log().count("mail.sent") == 3, "the others")
            assert sorted(rcpt[0] for rcpt, _, _ in mailbox.mails) == sorted(addresses)


def test_a_password_is_never_sent_in_the_clear():
    with smtp() as mailbox:
        settings = {"smtp_url": f"smtp://127.0.0.1:{mailbox.controller.port}", "smtp_user": "hourz"}
        with server(smtp_password="must-not-travel", **settings) as running, Client(running.base) as client:
            register(client, fresh())
            wait_for(lambda: "mail.failed" in running.log(), "the refusal to go on without TLS")
            assert not mailbox.mails and "must-not-travel" not in running.log()


def test_two_servers_send_each_mail_once():
    with smtp() as mailbox:
        settings = {"smtp_url": f"smtp://127.0.0.1:{mailbox.controller.port}"}
        with server(**settings) as one:
            secret = one.secret()
            with server(**one.database().urls(), secret=secret, **settings) as two:
                addresses = [fresh() for _ in range(24)]
                with Client(one.base) as first, Client(two.base) as second:
                    for index, address in enumerate(addresses):
                        register((first, second)[index % 2], address)
                wait_for(lambda: len(mailbox.mails) >= len(addresses), "all mails", 60)
            assert sorted(rcpt[0] for rcpt, _, _ in mailbox.mails) == sorted(addresses)


def test_without_a_mail_server_mails_are_files():
    with server() as running, Client(running.base) as client:
        address = fresh()
        register(client, address, "Bob")
        folder = f"{running.directory}/outbox"
        path = wait_for(lambda: glob.glob(f"{folder}/*.eml"), "the file")[0]
        assert os.stat(path).st_mode & 0o777 == 0o600
        with open(path, "rb") as file:
            mail = email.message_from_binary_file(file, policy=email.policy.default)
        token = re.search(r"^([A-Za-z0-9_-]{54})\r?$", mail.get_content(), re.M)[1]
        wait_for(lambda: path in running.log(), "the log says where")
        assert token not in running.log() and mail["to"] == address
        client.post("/api/auth/verify-email", {"token": token}, 204)


@pytest.mark.parametrize("wrong", [
    {"smtp_url": "http://x"}, {"smtp_url": "smtp://u:p@x"}, {"smtp_user": "u"}, {"mail_from": "nobody"},
    {"mail_from": "a <b@c"}, {"public_url": "https://x/path"}, {"public_url": "ftp://x"},
])
def test_wrong_settings_are_one_line(wrong):
    done = run("config", **wrong)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 2, done.stderr
