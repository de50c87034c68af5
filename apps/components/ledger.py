"""A small printed table: words at the left, figures lined up right. For what is read, not for what is sorted or ticked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st


def ledger(
    rows: Sequence[Mapping[str, Any]],
    *,
    figures: Mapping[str, Callable[[float], str]] | None = None,
    has_header: bool = True,
    alt: str | None = None,
) -> None:
    """Draw `rows`; columns named in `figures` hold numbers and are written by their function, right-aligned.

    Words may hold Markdown. A missing figure (None) stays empty.
    """
    frame = pd.DataFrame(rows)
    writers = {name: _blank_or(write) for name, write in (figures or {}).items()}
    for name in writers:
        frame[name] = pd.to_numeric(frame[name])
    st.table(frame.style.format(writers), border="horizontal", hide_index=True, hide_header=not has_header, alt=alt)


def _blank_or(write: Callable[[float], str]) -> Callable[[Any], str]:
    return lambda number: "" if pd.isna(number) else write(number)
