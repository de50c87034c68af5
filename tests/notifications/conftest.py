"""A real SMTP server on this machine."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from orders_core.notifications.senders import SmtpServer


def text_of(letter: EmailMessage) -> str:
    """The body with the line ends a Python string has."""
    content: str = letter.get_content()
    return content.replace("\r\n", "\n")


class Mailbox:
    """Keeps what a local SMTP server accepted; `refuse` is its answer while it is not None."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []
        self.envelopes: list[tuple[str, list[str]]] = []
        self.refuse: str | None = None

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if self.refuse is not None:
            return self.refuse
        letter = email.message_from_bytes(envelope.content, policy=email.policy.SMTP)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        self.envelopes.append((envelope.mail_from, envelope.rcpt_tos))
        return "250 OK"


class _OnAnyPort(Controller):
    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


StartServer = Callable[..., SmtpServer]


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def start_server(mailbox: Mailbox) -> Iterator[StartServer]:
    """Starts a local SMTP server that fills the mailbox; says where it is."""
    with ExitStack() as running:

        def start(handler: Any = mailbox, **options: Any) -> SmtpServer:
            controller = _OnAnyPort(handler, hostname="127.0.0.1", port=0, **options)
            controller.start()
            running.callback(controller.stop)
            return SmtpServer("127.0.0.1", controller.port, security="none")

        yield start
