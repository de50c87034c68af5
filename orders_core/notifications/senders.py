"""Senders of mail: one writes files, one talks to an SMTP server. Both may be asked twice for the same message.

A delivery loop that dies between handing over and taking note hands the message over again, under the same Message-ID.
The file sender notices and does nothing; an SMTP server may get it twice (once per such death) and can tell.
"""

from __future__ import annotations

import contextlib
import os
import smtplib
import ssl
import tempfile
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import quote

from orders_core.errors import InvalidCommand
from orders_core.ports import Clock, Message


def mail(message: Message, *, sender: str, at: datetime, encoding: str) -> EmailMessage:
    """The message as a plain-text mail in UTF-8, dated `at`; `encoding` of the body is `8bit` or `base64`.

    Raises:
        InvalidCommand: Sender, recipient or Message-ID is not exactly one address (or id), or a subject has a line
            break: nothing a customer typed becomes a header of its own.
    """
    subject = message.subject
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in subject):
        raise InvalidCommand(field="subject", problem="control_character", value=subject)
    message_id = message.message_id
    if not (message_id.isascii() and message_id.isprintable() and message_id[:1] == "<" and message_id[-1:] == ">"):
        raise InvalidCommand(field="message_id", problem="not_a_message_id", value=message_id)
    letter = EmailMessage(policy=SMTP)
    letter["From"] = _address("sender", sender)
    letter["To"] = _address("recipient", message.recipient)
    letter["Subject"] = subject
    letter["Date"] = format_datetime(at)
    letter["Message-ID"] = message_id
    letter["Auto-Submitted"] = "auto-generated"  # out-of-office replies are not wanted
    letter.set_content(message.body, cte=encoding)
    letter["Content-Language"] = message.language  # after the content, which replaces all Content- headers
    return letter


def _address(field: str, text: str) -> Address:
    try:
        address = Address(addr_spec=text)
    except (ValueError, IndexError, HeaderParseError) as error:  # the parser runs off the end of some bad addresses
        raise InvalidCommand(field=field, problem="not_a_mail_address", value=text) from error
    if not (address.username and address.domain):
        raise InvalidCommand(field=field, problem="not_a_mail_address", value=text)
    return address


class FileSender:
    """Writes each message into a folder as one .eml file named by its Message-ID; never twice, never half.

    A file that is there was written whole and is on the disk. Any number of processes may share the folder.
    """

    def __init__(self, folder: Path, *, sender: str, clock: Clock) -> None:
        """Use `folder`, which is made when the first message comes; `sender` is the From address."""
        self._folder = folder
        self._sender = sender
        self._clock = clock

    def send(self, message: Message) -> None:
        """Write the message unless its file is there already.

        Raises:
            InvalidCommand: The message can't be a mail; nothing was written.
            OSError: The folder can't be written.
        """
        content = mail(message, sender=self._sender, at=self._clock.now(), encoding="8bit").as_bytes()
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / (quote(message.message_id.strip("<>"), safe="@") + ".eml")
        descriptor, unfinished = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".unfinished")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # sent before: the first one stays as it is
                os.link(unfinished, path)
        finally:
            Path(unfinished).unlink()
        # The name must survive a power cut as well as the content.
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(frozen=True)
class SmtpServer:
    """Where mail goes out. `security` is `starttls`, `tls` (from the first byte) or `none`."""

    host: str
    port: int
    security: str = "starttls"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_seconds: float = 30.0


class SmtpSender:
    """Sends each message over a connection of its own."""

    def __init__(self, server: SmtpServer, *, sender: str, clock: Clock, tls: ssl.SSLContext | None = None) -> None:
        """`sender` is the From address and the envelope's; `tls` defaults to the system's trusted certificates."""
        if server.security not in ("starttls", "tls", "none"):
            raise InvalidCommand(field="security", problem="not_a_security", value=server.security)
        if server.user and server.security == "none" and server.host not in ("localhost", "127.0.0.1", "::1"):
            raise InvalidCommand(field="security", problem="password_in_the_clear", host=server.host)
        self._server = server
        self._sender = sender
        self._clock = clock
        self._tls = tls

    def send(self, message: Message) -> None:
        """Hand the message over; returning means that the server accepted it.

        Raises:
            InvalidCommand: The message can't be a mail; nothing was sent.
            smtplib.SMTPException: The server refused.
            OSError: No connection, or it broke before the server answered.
        """
        # base64, because not every server takes 8-bit bodies; files are 8-bit, so that a person can read them
        letter = mail(message, sender=self._sender, at=self._clock.now(), encoding="base64")
        connection = self._connect()
        try:
            connection.send_message(letter)
        finally:
            # Once the server has said yes, a farewell that fails must not look as if the message had.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                connection.quit()
            connection.close()

    def _connect(self) -> smtplib.SMTP:
        server = self._server
        # Reading the system's certificates takes longer than sending a mail; in the clear nobody asks for them.
        tls = None if server.security == "none" else self._tls or ssl.create_default_context()
        connection: smtplib.SMTP
        if server.security == "tls":
            connection = smtplib.SMTP_SSL(server.host, server.port, timeout=server.timeout_seconds, context=tls)
        else:
            connection = smtplib.SMTP(server.host, server.port, timeout=server.timeout_seconds)
        try:
            if server.security == "starttls":
                connection.starttls(context=tls)  # raises when the server does not offer it: never in the clear
            if server.user:
                connection.login(server.user, server.password or "")
        except BaseException:
            connection.close()
            raise
        return connection
