"""Customers as they are saved."""

from __future__ import annotations

from sqlalchemy import select

from orders_core.services.master_data import CustomerIn, save_customer
from orders_core.store.tables import ChangeLog
from orders_core.store.uow import Store
from tests.support import build


def test_a_new_mail_address_is_a_change_of_the_customer(store: Store) -> None:
    known = CustomerIn("BETA", "乙公司", phone="13800138000", recipient="王五", street="人民路 1 号")
    saved = [
        store.run(save_customer, build.MANAGER, command).operation
        for command in (known, known, CustomerIn(**{**vars(known), "email": "b@beta.cn"}))
    ]
    assert saved == ["insert", "same", "update"]
    with store.reading() as conn:
        logged = conn.execute(
            select(ChangeLog.version, ChangeLog.operation).where(ChangeLog.entity == "customer")
        ).all()
    assert [tuple(row) for row in logged] == [(1, "insert"), (2, "update")]
