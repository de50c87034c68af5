"""How the columns of a file become our fields: a small TOML file per kind of file.

A mapping declares the columns (with every heading they are known by), the zone, the currency, whether SKUs differ by
case, what may be created on the way, and whether the rows are live business or closed history. `load_mapping` takes
the name of a built-in one (`orders`, `online-retail`, `catalogue`, `stock`, `customers`, `tracking`) or a path.
"""

from __future__ import annotations

import difflib
import re
import tomllib
import unicodedata
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from orders_core.intake.fields import parse_currency, zone_named
from orders_core.intake.problems import FileRefused, Problem

Noun = Literal["orders", "catalogue", "stock", "customers", "tracking"]
ChargeKind = Literal["shipping", "fee", "discount", "tax", "manual", "surcharge"]
Creatable = Literal["sku", "customer", "channel", "location", "category", "supplier"]

FIELDS: dict[str, tuple[str, ...]] = {
    "orders": (
        *("order_id", "line_no", "sku", "description", "qty", "unit", "price", "currency", "ordered_at", "zone"),
        *("customer", "customer_name", "recipient", "phone", "country", "region", "city", "street", "postcode"),
        *("payment", "delivery", "requested_date", "note"),
    ),
    "catalogue": (
        *("sku", "name", "name_en", "product", "category", "pack_unit", "units_per_pack", "price", "currency"),
        *("cost", "barcode", "tax_percent", "weight_g", "supply", "supplier", "lead_time_days", "moq", "status"),
        *("component", "component_qty"),
    ),
    "stock": ("sku", "location", "qty", "unit", "mode", "lot", "expiry_date", "as_of"),
    "customers": (
        *("customer", "name", "kind", "language", "currency", "level", "credit_limit", "terms_days", "tax_number"),
        *("contact", "phone", "email", "recipient", "country", "region", "city", "district", "street", "postcode"),
    ),
    "tracking": ("carrier", "tracking_number", "order_id", "status", "occurred_at", "zone", "place", "event_id"),
}


def _a_zone(zone: str) -> str:
    found = zone_named(zone)
    if isinstance(found, Problem):
        raise ValueError(found.message("en"))
    return zone


def _a_currency(currency: str) -> str:
    found = parse_currency(currency)
    if isinstance(found, Problem):
        raise ValueError(found.message("en"))
    return found


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Column(_Strict):
    """One of our fields and the headings it is found under, in any case and with or without spaces."""

    names: tuple[str, ...] = Field(min_length=1, strict=False)
    required: bool = False


class History(_Strict):
    """How old invoices are read: what marks a cancellation, which codes are charges, where it all happened."""

    location: str
    location_name: str
    country: str = "CN"  # where the location is: its festivals and shopping days move demand
    walk_in: str = "WALK-IN"  # the customer of sales without one
    cancel_prefix: str | None = None
    charges: dict[str, ChargeKind] = Field(default_factory=dict)


class Mapping(_Strict):
    """A whole mapping. Without a `zone` every time needs its offset, without a `currency` every price names its own."""

    noun: Noun
    title: str
    origin: Literal["live", "history"] = "live"
    channel: str | None = None
    channel_name: str | None = None
    zone: Annotated[str, AfterValidator(_a_zone)] | None = None
    currency: Annotated[str, AfterValidator(_a_currency)] | None = None
    language: Literal["zh", "en"] = "zh"
    date_format: str | None = None
    fold_sku_case: bool = False
    mode: Literal["absolute", "delta"] | None = None
    trailer: Literal["optional", "required"] = "optional"
    create: tuple[Creatable, ...] = Field(default=(), strict=False)
    columns: dict[str, Column]
    history: History | None = None
    statuses: dict[str, str] = Field(default_factory=dict)  # carrier's word -> our package status

    name: str = ""  # under which it was loaded


@dataclass(frozen=True)
class Layout:
    """Where each field stands in one file: field -> column index, and the headings nothing reads."""

    index: dict[str, int]
    unused: tuple[str, ...]


def load_mapping(name_or_path: str) -> Mapping:
    """The built-in mapping of that name, or the one in the TOML file at that path.

    Raises:
        FileRefused: E_CONFIG, with the path of the key, what it holds and what is expected; exit code 2.
    """
    if re.fullmatch(r"[a-z][a-z0-9-]*", name_or_path) and name_or_path in built_in_mappings():
        text = resources.files(__package__).joinpath("mappings", f"{name_or_path}.toml").read_text("utf-8")
    else:
        try:
            text = Path(name_or_path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            known = ", ".join(built_in_mappings())
            reason = getattr(error, "strerror", None) or str(error)
            raise _config(name_or_path, "-", f"{reason}; built in are {known}") from None
    return parse_mapping(text, name_or_path)


def built_in_mappings() -> list[str]:
    """Names of the mappings that come with the program."""
    folder = resources.files(__package__).joinpath("mappings")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def parse_mapping(text: str, name: str) -> Mapping:
    """The mapping written in `text`; `name` is for messages."""
    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _config(name, "-", str(error)) from None
    try:
        mapping = Mapping.model_validate({**body, "name": name})
    except ValidationError as error:
        raise _first_error(name, error.errors()[0]) from None
    known = FIELDS[mapping.noun]
    for field in mapping.columns:
        if field not in known:
            raise _unknown(name, f"columns.{field}", field, known)
    if mapping.origin == "history" and mapping.history is None:
        raise _config(name, "history", "a mapping of history needs the table [history]")
    seen: dict[str, str] = {}
    for field, column in mapping.columns.items():
        for heading in (field, *column.names):
            other = seen.setdefault(_plain(heading), field)
            if other != field:
                raise _config(name, f"columns.{field}.names", f"{heading} already means {other}")
    return mapping


def layout(mapping: Mapping, header: tuple[str, ...]) -> Layout:
    """Which column of a file holds which field.

    Raises:
        FileRefused: E_HEADER, with what is missing, what is not known, and what is there.
    """
    by_heading = {_plain(h): field for field, column in mapping.columns.items() for h in (field, *column.names)}
    index: dict[str, int] = {}
    unused: list[str] = []
    for place, heading in enumerate(header):
        field = by_heading.get(_plain(heading))
        if field is None:
            unused.append(heading)
        elif field in index:
            found = f"{header[index[field]]}, {heading}"
            raise FileRefused(Problem("E_HEADER", field, why="twice", facts={"found": found}))
        else:
            index[field] = place
    missing = [
        f"{field} ({'/'.join(c.names[:3])})"
        for field, c in mapping.columns.items()
        if c.required and field not in index
    ]
    if missing:
        facts: dict[str, str | int] = {
            "missing": ", ".join(missing),
            "unknown": ", ".join(unused) or "-",
            "found": ", ".join(header)[:500],
        }
        raise FileRefused(Problem("E_HEADER", facts=facts))
    return Layout(index, tuple(h for h in unused if h))


def template_header(mapping: Mapping, language: Literal["zh", "en"]) -> list[str]:
    """The headings of an empty file to fill in; required ones are marked with *."""
    headings = []
    for field, column in mapping.columns.items():
        chinese = next((name for name in column.names if not name.isascii()), None)
        words = chinese if language == "zh" and chinese else field
        headings.append(words + ("*" if column.required else ""))
    return headings


def _plain(heading: str) -> str:
    return re.sub(r"[\s_\-./]+|\*$", "", unicodedata.normalize("NFKC", heading).strip().casefold())


def _config(file: str, path: str, detail: str) -> FileRefused:
    return FileRefused(Problem("E_CONFIG", facts={"file": file, "path": path, "detail": detail}), exit_code=2)


def _unknown(file: str, path: str, key: str, known: tuple[str, ...]) -> FileRefused:
    nearest = next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0)), known[0])
    facts: dict[str, str | int] = {"file": file, "path": path, "nearest": nearest}
    return FileRefused(Problem("E_CONFIG", why="unknown", facts=facts), exit_code=2)


def _first_error(file: str, error: Any) -> FileRefused:
    place: tuple[str | int, ...] = error["loc"]
    path = ".".join(map(str, place))
    if error["type"] == "extra_forbidden":
        tables: dict[str, type[BaseModel]] = {"columns": Column, "history": History}
        model = tables.get(str(place[0]), Mapping) if len(place) > 1 else Mapping
        return _unknown(file, path, str(place[-1]), tuple(model.model_fields))
    value = error.get("input")
    shown = "" if isinstance(value, Dict) else f" (is {value!r})"
    return _config(file, path, f"{error['msg']}{shown}")


CREATABLE: tuple[str, ...] = get_args(Creatable)
