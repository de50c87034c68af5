"""Takes in customers, each with its main contact and default address. An empty cell leaves what is known as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import select

from orders_core.domain.permissions import Actor
from orders_core.intake.fields import parse_choice, parse_currency, parse_id, parse_money, parse_text
from orders_core.intake.files import Row
from orders_core.intake.mapping import Mapping
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import Problem
from orders_core.intake.runs import ImportOptions, Run, import_run
from orders_core.intake.sheet import Sheet, in_memory, read_sheet, write_all
from orders_core.services.master_data import CustomerIn, save_customer
from orders_core.store.tables import Customer, CustomerAddress, CustomerContact, Staff
from orders_core.store.uow import Store, UnitOfWork

KINDS = ("business", "person", "walk_in")
KINDS_ZH = {"企业": "business", "公司": "business", "个人": "person", "散客": "walk_in"}
LANGUAGES_ZH = {"中文": "zh", "英文": "en"}
TEXTS = ("contact", "recipient", "region", "city", "district", "street", "postcode", "tax_number")


@dataclass(frozen=True)
class CustomerRow:
    """What a row says about a customer; only the fields it fills."""

    code: str
    said: tuple[tuple[str, Any], ...]


def import_customers(
    store: Store, actor: Actor, path: Path, mapping: Mapping, options: ImportOptions, *, is_replay: bool = False
) -> Outcome:
    """Take in the customers in the file at `path` and say what became of every row.

    Raises:
        FileRefused: The file as a whole can't be read; nothing was written.
    """
    with import_run(store, actor, path, mapping, in_memory(options), is_replay=is_replay) as run:
        sheet = read_sheet(run, lambda row: parse_row(run, row))
        one_row_each(sheet)
        if sheet.settle():
            write_all(sheet, sorted(sheet.good), write_customers)
    return run.outcome


def parse_row(run: Run, row: Row) -> CustomerRow | list[Problem]:
    """The row as a customer, or all that is wrong with it."""
    parsed: dict[str, Any] = {"customer": parse_id(run.cell(row, "customer"), "customer")}

    def take(field: str, parse: Any, name: str | None = None) -> None:
        if (raw := run.cell(row, field)).strip():
            parsed[name or field] = parse(raw)

    if not run.cell(row, "name").strip():
        parsed["name"] = Problem("E_REQUIRED", "name")
    take("name", lambda raw: parse_text(raw, "name", max_chars=200))
    take("kind", lambda raw: KINDS_ZH.get(raw.strip()) or parse_choice(raw, "kind", KINDS))
    take("language", lambda raw: LANGUAGES_ZH.get(raw.strip()) or parse_choice(raw, "language", ("zh", "en")))
    take("currency", parse_currency)
    currency = parsed.get("currency", run.mapping.currency)
    money = currency if isinstance(currency, str) else "CNY"
    take("credit_limit", lambda raw: _not_negative(raw, "credit_limit", money), "credit_limit_cents")
    take("terms_days", _days)
    take("level", lambda raw: parse_id(raw, "level"), "level_code")
    take("country", lambda raw: parse_choice(raw, "country", tuple(map(str.casefold, phonenumbers.SUPPORTED_REGIONS))))
    if isinstance(parsed.get("country"), str):
        parsed["country"] = parsed["country"].upper()
    country = parsed.get("country")
    take("phone", lambda raw: parse_phone(raw, country if isinstance(country, str) else "CN"))
    take("email", parse_email)
    for field in TEXTS:
        take(field, lambda raw, field=field: parse_text(raw, field, max_chars=300))
    problems = [value for value in parsed.values() if isinstance(value, Problem)]
    if problems:
        return problems
    code = str(parsed.pop("customer"))
    return CustomerRow(code, tuple(sorted(parsed.items())))


def parse_phone(raw: str, country: str) -> str | Problem:
    """A phone number as written, when it can be one; a marketplace's masked number (138****1234) is left as it is."""
    text = parse_text(raw, "phone", max_chars=40)
    if isinstance(text, Problem) or "*" in text:
        return text
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return Problem("E_PHONE", "phone", raw)
    return text.strip() if phonenumbers.is_possible_number(number) else Problem("E_PHONE", "phone", raw)


def parse_email(raw: str) -> str | Problem:
    """An e-mail address that mail can be sent to; nothing is looked up."""
    try:
        return validate_email(raw.strip(), check_deliverability=False).normalized
    except EmailNotValidError:
        return Problem("E_EMAIL", "email", raw)


def _not_negative(raw: str, field: str, currency: str) -> int | Problem:
    cents = parse_money(raw, field, currency=currency)
    return Problem("E_NUMBER", field, raw) if isinstance(cents, int) and cents < 0 else cents


def _days(raw: str) -> int | Problem:
    text = raw.strip()
    return (
        int(text)
        if text.isascii() and text.isdecimal() and int(text) <= 365
        else Problem("E_NUMBER", "terms_days", raw)
    )


def one_row_each(sheet: Sheet[CustomerRow]) -> None:
    """A customer stands once; the same row again is a duplicate, another one a conflict."""
    seen: dict[str, int] = {}
    for line in sorted(sheet.good):
        row = sheet.good[line]
        other = seen.setdefault(row.code, line)
        if other == line:
            continue
        if sheet.good.get(other) == row:
            sheet.is_duplicate(line)
            continue
        for here, there in ((line, other), (other, line)):
            facts: dict[str, str | int] = {"key": row.code, "other_line": there}
            if here in sheet.good:
                sheet.reject(here, Problem("E_CONFLICT", "customer", row.code, facts=facts))


def write_customers(uow: UnitOfWork, actor: Actor, rows: Sequence[CustomerRow]) -> list[bool]:
    """One transaction; says of each row whether it changed anything."""
    changed = []
    for row in rows:
        known = _known(uow, row.code)
        said = {name: value for name, value in row.said if name in CustomerIn.__dataclass_fields__}
        wanted = replace(known, **said) if known else CustomerIn(code=row.code, **said)
        changed.append(wanted != known)
        if wanted != known:
            save_customer(uow, actor, wanted)
    return changed


def _known(uow: UnitOfWork, code: str) -> CustomerIn | None:
    """The customer as it stands, in the words of the service that changes it."""
    customer = uow.row(select(Customer.__table__).where(Customer.code == code))
    if customer is None:
        return None
    contact = uow.row(
        select(CustomerContact.__table__).where(CustomerContact.customer_id == customer.id, CustomerContact.is_primary)
    )
    address = uow.row(
        select(CustomerAddress.__table__).where(CustomerAddress.customer_id == customer.id, CustomerAddress.is_default)
    )
    salesperson = uow.conn.scalar(select(Staff.code).where(Staff.id == customer.salesperson_id))
    return CustomerIn(
        code=code,
        name=customer.name,
        kind=customer.kind,
        language=customer.language,
        currency=customer.currency,
        level_code=customer.level_code,
        credit_limit_cents=customer.credit_limit_cents,
        terms_days=customer.terms_days,
        status=customer.status,
        salesperson=salesperson,
        contact=contact.name if contact else None,
        phone=contact.phone if contact else None,
        email=contact.email if contact else None,
        recipient=address.recipient if address else None,
        street=address.street if address else None,
        city=address.city if address else None,
        district=address.district if address else None,
        region=address.region if address else None,
        postcode=address.postcode if address else None,
        country=address.country if address else "CN",
        latitude=address.latitude if address else None,
        longitude=address.longitude if address else None,
    )
