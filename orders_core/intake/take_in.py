"""The one door: a file, a mapping, and the importer that belongs to it."""

from __future__ import annotations

from pathlib import Path

from orders_core.domain.permissions import Actor
from orders_core.intake.catalogue import import_catalogue
from orders_core.intake.customers import import_customers
from orders_core.intake.history import import_history
from orders_core.intake.mapping import Mapping
from orders_core.intake.orders import import_orders
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import FileRefused, Problem
from orders_core.intake.runs import ImportOptions
from orders_core.intake.stock import import_stock
from orders_core.intake.tracking import import_tracking
from orders_core.store.uow import Store

IMPORTERS = {
    "orders": import_orders,
    "catalogue": import_catalogue,
    "stock": import_stock,
    "customers": import_customers,
    "tracking": import_tracking,
}


def take_in(
    store: Store,
    actor: Actor,
    noun: str,
    path: Path,
    mapping: Mapping,
    options: ImportOptions,
    *,
    is_replay: bool = False,
) -> Outcome:
    """Take in the file at `path`, which must be of kind `noun` (orders, catalogue, stock, customers, tracking).

    Example:
        outcome = take_in(store, SYSTEM, "orders", path, load_mapping("online-retail"), ImportOptions(quarantine=True))
        print(outcome.summary("zh")); raise SystemExit(outcome.exit_code)

    Raises:
        FileRefused: The file as a whole stays out; `exit_code` is 2, 3 or 5, `text(language)` the reason.
        PermissionDenied: The actor may not.
    """
    if mapping.noun != noun:
        facts: dict[str, str | int] = {"expected": noun}
        raise FileRefused(Problem("E_CHOICE", "mapping", mapping.noun, facts=facts), exit_code=2)
    if mapping.origin == "history":
        return import_history(store, actor, path, mapping, options, is_replay=is_replay)
    return IMPORTERS[noun](store, actor, path, mapping, options, is_replay=is_replay)
