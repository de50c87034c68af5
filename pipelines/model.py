"""The modelled tables of the warehouse, in the order they are built, and what makes a row of each need building again."""

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.transform import (
    aftersales,
    backlog,
    calendar,
    demand,
    dimensions,
    fulfilment,
    orders,
    planner,
    prices,
    service_marts,
    stock,
    stock_marts,
)
from pipelines.transform.as_of import AsOf


@dataclass(frozen=True)
class Modelled:
    """A table that is one query over `raw` and the tables before it.

    Attributes:
        name: Schema and table, declared in `pipelines.warehouse.tables`.
        query: The query for everything known at the end of a business day.
        key: Columns that name a part of the table which is built by itself: its rows depend only on rows with the same
            values in the tables that have these columns, and on small tables seen whole. Empty: always built whole.
        moved_by: Tables whose changed rows name, by the columns they share with `key`, the parts to build again; when
            they share none, any change of theirs builds it anew.
        is_nightly: Built by the daily run only; a refresh during the day leaves it as it is.

    A keyed query may not look at the as-of date but to leave out what happened after it: a row that nothing has touched
    must be the same tomorrow. What depends on today (an age, a lateness) belongs in a table that is built whole.
    """

    name: str
    query: Callable[[AsOf], str]
    key: tuple[str, ...] = ()
    moved_by: tuple[str, ...] = ()
    is_nightly: bool = False


ORDER_SOURCES = ("raw.orders", "raw.order_line", "raw.order_edit", "raw.shipment_line")
SERIES = ("sku", "location_code")

MODELLED: tuple[Modelled, ...] = (
    Modelled("core.dim_product", dimensions.dim_product),
    Modelled("core.dim_location", dimensions.dim_location),
    Modelled("core.dim_customer", dimensions.dim_customer),
    Modelled("core.dim_supplier", dimensions.dim_supplier),
    Modelled("core.dim_channel", dimensions.dim_channel),
    Modelled("core.dim_calendar", calendar.dim_calendar, is_nightly=True),
    Modelled("core.dim_holiday", calendar.dim_holiday, is_nightly=True),
    Modelled("core.fct_order_line", orders.fct_order_line, key=("order_id",), moved_by=ORDER_SOURCES),
    Modelled(  # a line that no shipment has lies at the default location
        "core.fct_line_location",
        orders.fct_line_location,
        key=("order_id",),
        moved_by=(*ORDER_SOURCES, "core.dim_location"),
    ),
    Modelled("core.fct_shipment_line", orders.fct_shipment_line, key=("order_id",), moved_by=ORDER_SOURCES),
    Modelled(
        "core.fct_order", fulfilment.fct_order, key=("order_id",), moved_by=(*ORDER_SOURCES, "core.fct_order_line")
    ),
    Modelled(
        "core.fct_shipment",
        fulfilment.fct_shipment,
        key=("shipment_id",),
        moved_by=("raw.shipment", "raw.shipment_line", "raw.package", "core.fct_shipment_line"),
    ),
    Modelled(
        "core.fct_tracking_event",
        fulfilment.fct_tracking_event,
        key=("tracking_event_id",),
        moved_by=("raw.tracking_event",),
    ),
    Modelled(
        "core.fct_return_line",
        aftersales.fct_return_line,
        key=("return_id",),
        moved_by=("raw.return_line", "raw.return_event"),
    ),
    Modelled("core.fct_ticket", aftersales.fct_ticket, key=("ticket_id",), moved_by=("raw.ticket",)),
    Modelled("core.fct_follow_up", aftersales.fct_follow_up, key=("follow_up_id",), moved_by=("raw.follow_up",)),
    Modelled(
        "core.fct_payment",
        aftersales.fct_payment,
        key=("payment_number",),
        moved_by=("raw.payment_receipt", "raw.refund"),
    ),
    Modelled("core.fct_behaviour_event", aftersales.fct_behaviour_event),
    Modelled("core.fct_price", prices.fct_price),
    Modelled("core.fct_cost", prices.fct_cost),
    Modelled("core.fct_forecast_override", planner.fct_forecast_override),
    Modelled("core.fct_demand_adjustment", planner.fct_demand_adjustment),
    Modelled(
        "core.fct_stock_movement",
        stock.fct_stock_movement,
        key=("stock_movement_id",),
        moved_by=("raw.stock_movement",),
    ),
    Modelled(
        "core.fct_stock_daily",
        stock.fct_stock_daily,
        key=SERIES,
        moved_by=(
            "core.dim_product",
            "core.dim_location",
            "core.fct_line_location",
            "core.fct_shipment_line",
            "core.fct_stock_movement",
        ),
    ),
    Modelled(
        "core.fct_out_of_stock",
        demand.fct_out_of_stock,
        key=SERIES,
        moved_by=("core.dim_product", "core.fct_line_location", "core.fct_stock_daily"),
    ),
    Modelled(
        "core.fct_demand_daily",
        demand.fct_demand_daily,
        key=SERIES,
        moved_by=("core.dim_product", "core.dim_location", "core.fct_line_location", "core.fct_out_of_stock"),
    ),
    Modelled("mart.backlog", backlog.backlog),
    Modelled("mart.on_time_in_full", service_marts.on_time_in_full, is_nightly=True),
    Modelled("mart.cycle_time", service_marts.cycle_time, is_nightly=True),
    Modelled("mart.channel_daily", service_marts.channel_daily, key=("business_date",), moved_by=("core.fct_order",)),
    Modelled("mart.customer", service_marts.customer, key=("customer_code",), moved_by=("core.fct_order",)),
    Modelled(
        "mart.return_daily", service_marts.return_daily, key=("business_date",), moved_by=("core.fct_return_line",)
    ),
    Modelled(
        "mart.satisfaction",
        service_marts.satisfaction,
        key=("business_date",),
        moved_by=("core.fct_ticket", "core.fct_follow_up"),
    ),
    Modelled("mart.turnover", stock_marts.turnover, is_nightly=True),
    Modelled("mart.excess_dead_stock", stock_marts.excess_dead_stock, is_nightly=True),
    Modelled("mart.abc_xyz", stock_marts.abc_xyz, is_nightly=True),
    Modelled("mart.override_value", planner.override_value, is_nightly=True),
)
