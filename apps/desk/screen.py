"""What every page gets: the reader's language and role, the store, the warehouse folder, the other pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import streamlit as st

from apps.components.charts import DARK, LIGHT, Inks
from apps.components.sentences import error_sentence
from apps.components.words import say
from apps.readers import last_action
from orders_core.domain.permissions import Actor
from orders_core.errors import OrdersError
from orders_core.store.uow import Store, UnitOfWork

Service = Callable[[UnitOfWork, Actor, Any], Any]

# Until logins come: a colleague per role, as the demo company knows them.
COLLEAGUES = {
    "clerk": Actor("ann", frozenset({"clerk"})),
    "warehouse": Actor("wei", frozenset({"warehouse"})),
    "planner": Actor("pia", frozenset({"planner"})),
    "manager": Actor("mei", frozenset({"manager"})),
}

_TOLD_TOGETHER_SECONDS = 4  # a second click's answer stands beside the first one's

Told = tuple[datetime, str, str]  # when a message was told, its kind, its words


@dataclass(frozen=True)
class Screen:
    """One run of the desk for one reader. `now` stands still through it, so all figures of a page are of one moment."""

    language: str
    actor: Actor
    store: Store
    warehouse_dir: Path
    now: datetime
    heading: Any  # the container the title goes into
    freshness: Any  # the container that says how old the data is
    told: list[Told]  # the session's own list of messages for the next drawing of a page
    pages: dict[str, Any] = field(default_factory=dict)

    @property
    def zone(self) -> ZoneInfo:
        return self.store.zone

    @property
    def today(self) -> date:
        """The business date of now."""
        return self.now.astimezone(self.zone).date()

    @property
    def inks(self) -> Inks:
        """What charts are drawn with on the reader's light or dark page."""
        return DARK if st.context.theme.type == "dark" else LIGHT

    def t(self, key: str, **facts: object) -> str:
        """The words of a key in the reader's language."""
        return say(self.language, key, **facts)

    def title(self, text: str, *, as_of: str | None = None) -> None:
        """The page's title, and at the right how fresh its data is: live unless said otherwise."""
        self.heading.title(text, anchor=False)
        live = self.t("as_of", time=f"{self.now.astimezone(self.zone):%H:%M}")
        self.freshness.caption(as_of or live, text_alignment="right")

    def go(self, page: str, **params: str) -> None:
        """Open another page; does not come back."""
        st.switch_page(self.pages[page], query_params=params)

    # ------------------------------------------------------------------------------------------- acting

    def act(self, service: Service, command: Any, *, number: str, asked: str, done: Callable[[Any], str]) -> bool:
        """Run a command for this reader once and keep what it said for the page; whether it was done.

        For callbacks of buttons: the service is safe against a second click, which gets its own answer.
        """
        try:
            result = self.store.run(service, self.actor, command)
        except OrdersError as error:
            self.tell(*self.refusal(error, number=number, asked=asked))
            return False
        self.tell("success", done(result))
        return True

    def act_in_dialog(self, service: Service, command: Any, *, asked: str, done: Callable[[Any], str]) -> None:
        """Run a command from an open dialog; when it was done, the dialog closes and the page says so.

        A refusal is drawn in the dialog, which stays open with what was typed.
        """
        try:
            result = self.store.run(service, self.actor, command)
        except OrdersError as error:
            kind, sentence = self.refusal(error, number="", asked=asked)
            {"info": st.info, "warning": st.warning}.get(kind, st.error)(sentence)
            return
        self.tell("success", done(result))
        st.rerun()

    def refusal(self, error: OrdersError, *, number: str, asked: str) -> tuple[str, str]:
        """The kind of message and the sentence for what was refused about an order or shipment."""
        with self.store.reading() as conn:
            last = last_action(conn, number)
        return error_sentence(
            error, self.language, number=number, asked=asked, last=last, zone=self.zone, today=self.today
        )

    def may(self, permission: str) -> bool:
        return self.actor.may(permission)

    def role_help(self, permission: str) -> str | None:
        """Why a button is grey for this role, and which role to switch to; None where it may be pressed."""
        if self.may(permission):
            return None
        role = next(iter(self.actor.roles))
        who = next(name for name, colleague in COLLEAGUES.items() if colleague.may(permission))
        return self.t("not_your_role.switch", role=self.t(f"role.{role}"), who=self.t(f"role.{who}"))

    def say_role(self, permission: str) -> None:
        """Draw that sentence beside the grey button: a tooltip is not seen by who does not look for it."""
        words = self.role_help(permission)
        if words is not None:
            st.caption(f":material/lock: {words}", width="content")

    # ---------------------------------------------------------------------------------------- messages

    def tell(self, kind: str, text: str) -> None:
        """Keep a message (`success`, `info`, `warning`, `error`) for the next drawing of the page.

        What was done now takes back the refusals before it. The list is changed in place: a button's callback that reads
        `st.session_state` is cut off there when a second click already waits, and what was just done would go unsaid.
        """
        at = datetime.now().astimezone()
        young = at - timedelta(seconds=_TOLD_TOGETHER_SECONDS)
        kept = [row for row in self.told if row[0] >= young and row[2] != text]
        if kind == "success":
            kept = [row for row in kept if row[1] not in ("warning", "error")]
        self.told[:] = [*kept, (at, kind, text)]

    def show_told(self, page: str) -> None:
        """Draw the kept messages; those of another page are forgotten."""
        if st.session_state.setdefault("told_page", page) != page:
            self.told.clear()
            st.session_state["told_page"] = page
        icons = {"success": ":material/check:", "info": ":material/info:", "warning": ":material/warning:"}
        for _, kind, text in self.told:
            {"success": st.success, "info": st.info, "warning": st.warning, "error": st.error}[kind](
                text, icon=icons.get(kind, ":material/error:")
            )


def from_url(
    name: str, default: str, allowed: Mapping[str, Any] | list[str] | None = None, *, language: str | None = None
) -> str:
    """The session-state key of a widget that is bound to the URL parameter `name`; call `to_url` after drawing it.

    Streamlit's own binding writes the words a reader sees into the URL, which differ by language; this writes the code.
    Give a select box the `language`: under the same key it would go on showing the words of the language before.
    """
    key = _url_key(name, language)
    if key not in st.session_state:
        value = st.query_params.get(name, default)
        st.session_state[key] = value if allowed is None or value in allowed else default
    elif allowed is not None and st.session_state[key] not in allowed:
        st.session_state[key] = default
    return key


def to_url(name: str, default: str, *, language: str | None = None) -> str:
    """Write the widget's value to the URL (nothing when it is the default) and return it."""
    value = st.session_state.get(_url_key(name, language)) or default
    if value != default:
        st.query_params[name] = value
    elif name in st.query_params:
        del st.query_params[name]
    return str(value)


def _url_key(name: str, language: str | None) -> str:
    return f"url_{name}" if language is None else f"url_{name}_{language}"
