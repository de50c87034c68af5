"""A prepared statement takes and gives what SQLAlchemy's own execution would."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import Connection, bindparam, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from orders_core.store.prepared import Prepared
from orders_core.store.tables import ChangeLog, Channel, Customer, CustomerAddress, Location, Price, Product, Sku
from orders_core.store.uow import Store

AT = datetime(2026, 3, 2, 1, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def conn(store: Store) -> Iterator[Connection]:
    """A connection whose writes are thrown away."""
    with store.engine.connect() as conn:
        yield conn
        conn.rollback()


def _products(conn: Connection) -> None:
    conn.execute(
        insert(Product.__table__),
        [{"id": i, "code": f"P{i}", "name": f"商品 {i}", "created_at": AT, "launched_date": None} for i in range(1, 8)],
    )
    conn.execute(
        insert(Sku.__table__),
        [
            {"id": 10 + i, "product_id": i, "sku": f"P{i}", "name": "x", "spec": {"口味": i}, "created_at": AT}
            for i in range(1, 8)
        ],
    )


_BY_CODE = (
    select(Sku.id, Sku.sku.label("code"), Sku.spec, Sku.is_stock_tracked, Sku.created_at, Product.launched_date)
    .join(Product, Product.id == Sku.product_id)
    .where(Sku.sku.in_(bindparam("codes", expanding=True)), Sku.kind.in_(["item", "kit"]), Sku.weight_g == 0)
    .order_by(Sku.id)
)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_rows_are_those_of_sqlalchemy_itself(conn: Connection, count: int) -> None:
    _products(conn)
    codes = [f"P{i}" for i in range(1, count + 1)]
    slow = conn.execute(_BY_CODE, {"codes": codes}).all()
    fast = Prepared(_BY_CODE)
    for _ in range(2):
        assert [tuple(row) for row in fast.rows(conn, {"codes": codes})] == [tuple(row) for row in slow]
    assert len(slow) == count
    row = fast.rows(conn, {"codes": codes})[0]
    assert (row.code, row.spec, row.is_stock_tracked, row.created_at) == ("P1", {"口味": 1}, True, AT)


def test_a_list_without_a_match_and_the_callers_list_stay_as_they_are(conn: Connection) -> None:
    codes = ["nothing", "nowhere", "never"]
    assert Prepared(_BY_CODE).rows(conn, {"codes": codes}) == []
    assert codes == ["nothing", "nowhere", "never"]


def test_what_is_written_is_what_sqlalchemy_itself_writes(conn: Connection) -> None:
    rows = [
        {"id": 1, "code": "SH", "name": "上海", "latitude": 31.2, "longitude": 121.5, "is_default": True},
        {"id": 2, "code": "GZ", "name": "广州", "latitude": None, "longitude": None, "is_default": False},
    ]
    Prepared(insert(Location.__table__)).write(conn, rows)
    conn.execute(
        insert(Location.__table__),
        [{**row, "id": row["id"] + 2, "code": row["code"] + "2", "is_default": False} for row in rows],
    )
    found = conn.execute(select(Location.__table__).order_by(Location.id)).all()
    mine, theirs = found[:2], found[2:]
    for a, b in zip(mine, theirs, strict=True):
        same = {"id": 0, "code": "", "is_default": False}
        assert {**a._mapping, **same} == {**b._mapping, **same}
    assert (mine[0].rank, mine[0].is_active, mine[0].version) == (0, True, 1), "defaults left out by the caller"
    assert mine[0].is_default
    assert not mine[1].is_default


def test_instants_days_flags_and_facts_come_back_as_they_went_in(conn: Connection) -> None:
    _products(conn)
    price = {"id": 1, "sku_id": 11, "kind": "list", "currency": "CNY", "unit_price_cents": 5, "created_at": AT}
    Prepared(insert(Price.__table__)).write(conn, [{**price, "valid_from_date": date(2026, 1, 2)}])
    row = Prepared(select(Price.__table__).where(Price.created_at == bindparam("at"))).rows(conn, {"at": AT})[0]
    assert (row.valid_from_date, row.valid_to_date, row.created_at, row.min_qty) == (date(2026, 1, 2), None, AT, 1)
    Prepared(insert(Channel.__table__)).write(
        conn, [{"id": 1, "code": "W", "name": "W", "kind": "web", "policy": {"b": [1], "a": "中"}, "is_active": False}]
    )
    channel = Prepared(select(Channel.__table__)).rows(conn, {})[0]
    assert (channel.policy, channel.is_active) == ({"b": [1], "a": "中"}, False)


def test_rows_of_other_columns_get_a_statement_of_their_own(conn: Connection) -> None:
    statement = Prepared(insert(ChangeLog.__table__))
    common = {"entity": "orders", "version": 1, "operation": "insert", "at": AT}
    statement.write(conn, [{**common, "entity_id": 1}])
    statement.write(conn, [{**common, "entity_id": 2, "id": 900}])
    statement.write(conn, [{**common, "entity_id": 3}, {**common, "entity_id": 4}])
    found = conn.execute(select(ChangeLog.entity_id).order_by(ChangeLog.entity_id)).scalars().all()
    assert found == [1, 2, 3, 4]


def test_a_guarded_change_gives_the_rows_it_caught(conn: Connection) -> None:
    conn.execute(
        insert(Customer.__table__),
        {"id": 1, "code": "C", "name": "C", "credit_limit_cents": 100, "created_at": AT},
    )
    claim = Prepared(
        update(Customer)
        .where(Customer.id == bindparam("customer_id"), Customer.credit_used_cents + bindparam("asked") <= 100)
        .values(credit_used_cents=Customer.credit_used_cents + bindparam("asked"))
        .returning(Customer.credit_used_cents)
    )
    assert [row.credit_used_cents for row in claim.rows(conn, {"customer_id": 1, "asked": 60})] == [60]
    assert claim.rows(conn, {"customer_id": 1, "asked": 60}) == []


def test_a_text_gives_rows_by_the_names_the_database_gives(conn: Connection) -> None:
    row = Prepared(text("SELECT :a + 1 AS more, 'x' AS word")).rows(conn, {"a": 41})[0]
    assert (row.more, row.word) == (42, "x")


def test_a_key_that_is_there_already_is_reported_as_sqlalchemy_reports_it(conn: Connection) -> None:
    statement = Prepared(insert(Channel.__table__))
    row = {"id": 1, "code": "W", "name": "W", "kind": "web"}
    statement.write(conn, [row])
    with pytest.raises(IntegrityError):
        statement.write(conn, [{**row, "id": 2}])


def test_floats_and_missing_values(conn: Connection) -> None:
    conn.execute(insert(Customer.__table__), {"id": 1, "code": "C", "name": "C", "created_at": AT})
    address = {"id": 2, "customer_id": 1, "recipient": "r", "street": "s", "latitude": 31.25, "longitude": -0.5}
    Prepared(insert(CustomerAddress.__table__)).write(
        conn, [address, {**address, "id": 3, "latitude": None, "longitude": None}]
    )
    found = Prepared(select(CustomerAddress.latitude, CustomerAddress.longitude).order_by(CustomerAddress.id)).rows(
        conn, {}
    )
    assert [tuple(row) for row in found] == [(31.25, -0.5), (None, None)]


def test_two_rows_where_one_was_expected_are_not_taken_for_one(store: Store) -> None:
    both = Prepared(text("SELECT 1 AS a UNION ALL SELECT 2"))
    with store.unit_of_work() as uow:
        assert uow.row(Prepared(text("SELECT 1 AS a WHERE 1 = 0"))) is None
        with pytest.raises(Exception, match="2 rows where one was expected"):
            uow.row(both)
