"""The staff's desk: `streamlit run apps/desk/main.py`, or `dinghuo serve`. Language, role and pages; the rest is pages."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from apps.components.words import say
from apps.desk.screen import COLLEAGUES, Screen, from_url, to_url
from apps.desk.views import home, order, orders, plan, policy, product, purchase, returns, warehouse
from apps.wiring import language_of, open_store
from orders_core.settings import Settings, from_env
from orders_core.store.uow import Store
from pipelines.warehouse.errors import WarehouseError

PAGES: dict[str, tuple[Callable[[Screen], None], bool]] = {
    "home": (home.show, True),
    "orders": (orders.show, True),
    "warehouse": (warehouse.show, True),
    "returns": (returns.show, True),
    "plan": (plan.show, True),
    "policy": (policy.show, True),
    "order": (order.show, False),
    "product": (product.show, False),
    "purchase": (purchase.show, False),
}
"""Page (also its address) → what draws it, and whether the menu names it. The same on every run and for every role."""


@st.cache_resource(show_spinner=False)
def _store(database_url: str, business_zone: str) -> Store:
    return open_store(Settings(database_url=database_url, business_zone=business_zone))


def main() -> None:
    """Draw one run of the desk."""
    settings = from_env()
    store = _store(settings.database_url, settings.business_zone)
    known = st.session_state.get("url_lang") or st.query_params.get("lang")
    language = language_of(known, st.context.locale, settings)
    st.set_page_config(
        page_title=f"{say(language, 'nav.home')} · 订货 Dinghuo", page_icon=":material/receipt_long:", layout="wide"
    )

    top = st.container(horizontal=True, vertical_alignment="center", gap="small")
    heading = top.container(width="stretch")
    controls = top.container(horizontal=True, width="content", vertical_alignment="center", gap="small")
    freshness = controls.container(width="content")
    with controls:
        role_key = from_url("role", "clerk", COLLEAGUES, language=language)
        st.selectbox(
            say(language, "role"),
            list(COLLEAGUES),
            key=role_key,
            format_func=lambda role: say(language, "role.shown", role=say(language, f"role.{role}")),
            label_visibility="collapsed",
            width=230,
        )
        role = to_url("role", "clerk", language=language)
        from_url("lang", language, ["zh", "en"])
        st.segmented_control(
            say(language, "language"),
            ["zh", "en"],
            key="url_lang",
            format_func={"zh": "中文", "en": "EN"}.get,
            required=True,
            label_visibility="collapsed",
        )
        to_url("lang", language_of(None, st.context.locale, settings))

    told = st.session_state.setdefault("told", [])
    screen = Screen(
        language, COLLEAGUES[role], store, settings.warehouse_dir, store.clock.now(), heading, freshness, told
    )
    for name, (draw, is_listed) in PAGES.items():
        screen.pages[name] = st.Page(
            _page(draw, screen),
            title=screen.t(f"nav.{name}"),
            url_path=name,
            default=name == "home",
            visibility="visible" if is_listed else "hidden",
        )
    st.navigation(list(screen.pages.values()), position="top").run()


def _page(draw: Callable[[Screen], None], screen: Screen) -> Callable[[], None]:
    def page() -> None:
        try:
            draw(screen)
        except WarehouseError as error:  # a damaged plan takes no order away: the other pages go on
            st.error(error.message(screen.language), icon=":material/report:")

    return page


if __name__ == "__main__":
    main()
