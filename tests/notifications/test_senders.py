"""Senders keep the Message-ID, never write a file twice, and let no header in by a back door."""

from __future__ import annotations

import email
import email.policy
import multiprocessing
import smtplib
import ssl
import subprocess
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword

from orders_core.errors import InvalidCommand
from orders_core.notifications.senders import FileSender, SmtpSender, SmtpServer
from orders_core.ports import FixedClock, Message
from tests.notifications.conftest import Mailbox, StartServer, text_of

MESSAGE = Message("<3f9c1d@shop.example>", "lin@example.com", "订单 SO-1 已发货", "林小姐，您好！\n\n已发货。\n", "zh")


def _read(file: Path) -> EmailMessage:
    letter = email.message_from_bytes(file.read_bytes(), policy=email.policy.SMTP)
    assert isinstance(letter, EmailMessage)
    return letter


@pytest.fixture
def outbox_folder(tmp_path: Path) -> Path:
    return tmp_path / "mail"


@pytest.fixture
def file_sender(outbox_folder: Path, clock: FixedClock) -> FileSender:
    return FileSender(outbox_folder, sender="orders@shop.example", clock=clock)


def test_a_file_is_a_whole_mail_named_by_its_message_id(file_sender: FileSender, outbox_folder: Path) -> None:
    file_sender.send(MESSAGE)
    (file,) = outbox_folder.iterdir()
    assert file.name == "3f9c1d@shop.example.eml"
    letter = _read(file)
    assert (letter["From"], letter["To"]) == ("orders@shop.example", "lin@example.com")
    assert letter["Subject"] == "订单 SO-1 已发货"
    assert letter["Message-ID"] == "<3f9c1d@shop.example>"
    assert letter["Date"].datetime.isoformat() == "2026-03-02T01:00:00+00:00"
    assert letter["Content-Language"] == "zh"
    assert text_of(letter) == MESSAGE.body
    assert "林小姐" in file.read_text(encoding="utf-8"), "a person can read the file as it is"


def test_a_message_sent_again_leaves_the_first_file_as_it_was(
    file_sender: FileSender, outbox_folder: Path, clock: FixedClock
) -> None:
    file_sender.send(MESSAGE)
    (file,) = outbox_folder.iterdir()
    before = file.read_bytes(), file.stat().st_mtime_ns
    clock.advance(hours=1)
    file_sender.send(MESSAGE)
    assert [file] == list(outbox_folder.iterdir())
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before


def _send_many(folder: Path, clock: FixedClock) -> None:
    for number in range(50):
        FileSender(folder, sender="orders@shop.example", clock=clock).send(
            replace(MESSAGE, message_id=f"<{number}@shop.example>")
        )


def test_processes_that_send_the_same_messages_write_each_once_and_whole(
    outbox_folder: Path, clock: FixedClock
) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_send_many, args=(outbox_folder, clock)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    files = sorted(outbox_folder.iterdir())
    assert sorted(file.name for file in files) == sorted(f"{number}@shop.example.eml" for number in range(50))
    assert all(text_of(_read(file)) == MESSAGE.body for file in files)


def test_a_message_id_cannot_leave_the_folder(file_sender: FileSender, outbox_folder: Path) -> None:
    file_sender.send(replace(MESSAGE, message_id="<../../../etc/passwd@x>"))
    assert [file.name for file in outbox_folder.iterdir()] == ["..%2F..%2F..%2Fetc%2Fpasswd@x.eml"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recipient", "lin@example.com\r\nBcc: all@example.com"),
        ("recipient", "lin@example.com, all@example.com"),
        ("recipient", "lin"),
        ("recipient", ""),
        ("recipient", "Lin <lin@example.com>"),
        ("subject", "hello\r\nBcc: all@example.com"),
        ("subject", "hello\nBcc: all@example.com"),
        ("subject", "hello\x00"),
        ("message_id", "<1@x>\r\nBcc: all@example.com"),
        ("message_id", "1@x"),
    ],
)
def test_nothing_a_customer_typed_becomes_a_header(
    file_sender: FileSender, outbox_folder: Path, field: str, value: str
) -> None:
    with pytest.raises(InvalidCommand) as refused:
        file_sender.send(replace(MESSAGE, **{field: value}))
    assert refused.value.field == field
    assert not outbox_folder.exists() or not list(outbox_folder.iterdir())


def test_smtp_hands_over_the_mail_and_keeps_its_id(
    start_server: StartServer, mailbox: Mailbox, clock: FixedClock
) -> None:
    sender = SmtpSender(start_server(), sender="orders@shop.example", clock=clock)
    sender.send(MESSAGE)
    sender.send(MESSAGE)
    assert [letter["Message-ID"] for letter in mailbox.letters] == [MESSAGE.message_id] * 2
    letter = mailbox.letters[0]
    assert letter["Subject"] == MESSAGE.subject and text_of(letter) == MESSAGE.body
    assert mailbox.envelopes[0] == ("orders@shop.example", ["lin@example.com"])


def test_a_server_that_refuses_is_an_error_that_names_its_answer(
    start_server: StartServer, mailbox: Mailbox, clock: FixedClock
) -> None:
    sender = SmtpSender(start_server(), sender="orders@shop.example", clock=clock)
    mailbox.refuse = "451 try later"
    with pytest.raises(smtplib.SMTPDataError, match="try later"):
        sender.send(MESSAGE)
    mailbox.refuse = None
    sender.send(MESSAGE)
    assert len(mailbox.letters) == 1


def test_a_farewell_that_fails_does_not_undo_an_accepted_mail(
    start_server: StartServer, mailbox: Mailbox, clock: FixedClock
) -> None:
    class Rude:
        handle_DATA = mailbox.handle_DATA

        async def handle_QUIT(self, server: Any, _session: Any, _envelope: Any) -> str:
            server.transport.abort()
            return "221 never seen"

    SmtpSender(start_server(Rude()), sender="orders@shop.example", clock=clock).send(MESSAGE)
    assert len(mailbox.letters) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate with its key for 127.0.0.1."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    made = subprocess.run([*command.split(), "-keyout", "-", "-out", "-"], capture_output=True, check=True)
    file.write_bytes(made.stdout)
    return file


def test_starttls_and_login_come_before_the_mail(
    start_server: StartServer, mailbox: Mailbox, clock: FixedClock, certificate: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=(data.login, data.password) == (b"dinghuo", b"secret"), handled=False)

    server = start_server(tls_context=context, require_starttls=True, authenticator=check, auth_required=True)
    server = replace(server, security="starttls", user="dinghuo", password="secret")
    trusting = ssl.create_default_context(cafile=str(certificate))
    SmtpSender(server, sender="orders@shop.example", clock=clock, tls=trusting).send(MESSAGE)
    assert len(mailbox.letters) == 1
    with pytest.raises(ssl.SSLCertVerificationError):
        SmtpSender(server, sender="orders@shop.example", clock=clock).send(MESSAGE)
    with pytest.raises(smtplib.SMTPAuthenticationError):
        wrong = replace(server, password="guess")
        SmtpSender(wrong, sender="orders@shop.example", clock=clock, tls=trusting).send(MESSAGE)
    assert len(mailbox.letters) == 1
    assert "secret" not in repr(server)


def test_a_server_without_tls_gets_no_mail_when_tls_was_asked_for(
    start_server: StartServer, mailbox: Mailbox, clock: FixedClock
) -> None:
    server = replace(start_server(), security="starttls")
    with pytest.raises(smtplib.SMTPNotSupportedError):
        SmtpSender(server, sender="orders@shop.example", clock=clock).send(MESSAGE)
    assert mailbox.letters == []


def test_a_password_never_goes_to_another_machine_in_the_clear(clock: FixedClock) -> None:
    server = SmtpServer("mail.example.com", 25, security="none", user="dinghuo", password="secret")
    with pytest.raises(InvalidCommand, match="in the clear"):
        SmtpSender(server, sender="orders@shop.example", clock=clock)
    with pytest.raises(InvalidCommand, match="ssl"):
        SmtpSender(replace(server, security="ssl"), sender="orders@shop.example", clock=clock)
