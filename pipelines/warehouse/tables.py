"""Every column and every table of the warehouse, declared once.

A column below has one meaning wherever it stands; `or_null` says where it may be unknown and why. Layers: `raw` as
extracted from the order core, `core` modelled as it was known at the end of the as-of date, `mart` for screens and
exports, `meta` about the generation itself.
"""

from itertools import pairwise

from pipelines.warehouse.contract import Column, Rule, Table

TEXT, INT, REAL, DAY, BOOL = "VARCHAR", "BIGINT", "DOUBLE", "DATE", "BOOLEAN"
INSTANT = "TIMESTAMP WITH TIME ZONE"


def _words(name: str, *words: str) -> str:
    return f"{name} IN ({', '.join(repr(word) for word in words)})"


def _id(name: str, of: str) -> Column:
    return Column(name, INT, f"Row id of the {of} in the order core.")


def _qty(name: str, meaning: str, *, rule: str = "{name} >= 0") -> Column:
    return Column(name, INT, meaning, "units", rule.format(name=name))


def _cents(name: str, meaning: str, rule: str = "") -> Column:
    return Column(name, INT, meaning, "cents", rule)


def _at(name: str, meaning: str) -> Column:
    return Column(name, INSTANT, meaning, "UTC")


# ------------------------------------------------------------------------------------------------ meta
generation = Column("generation", INT, "Number of the generation; grows with each publication.", "", "generation > 0")
run_id = Column("run_id", TEXT, "The run that built this generation.")
as_of_date = Column("as_of_date", DAY, "Last business day whose facts were used.")
business_zone = Column("business_zone", TEXT, "IANA time zone of the business day.")
published_at = _at("published_at", "When the generation went live.")
contract_hash = Column("contract_hash", TEXT, "Fingerprint of the contract the generation was checked against.")
table_name = Column("table_name", TEXT, "Schema and table.")
row_count = Column("row_count", INT, "Rows in the table when it was published.", "rows", "row_count >= 0")
source_name = Column("source_name", TEXT, "Which order database was read: its kind and name, without password.")
position = Column("position", INT, "How far the change log was read: row id on SQLite, transaction id on PostgreSQL.")
last_change_id = _id("last_change_id", "newest row of the change log that was seen; 0 when it was empty")
last_change_at = _at("last_change_at", "When that change was made.")
after_id = Column("after_id", INT, "No change that is still to be read has this row id or a lower one.")
later_position = Column("later_position", INT, "A position not reached yet.")
later_id = Column("later_id", INT, "What `after_id` will be once the later position has been reached.")
entity = Column("entity", TEXT, "Table of the order core that the changed row stands in.", "", "entity <> ''")
entity_id = _id("entity_id", "changed row")

PUBLICATION = Table(
    "meta",
    "publication",
    "One row per generation, which is one row in each file.",
    ("generation",),
    (generation, run_id, as_of_date, business_zone, published_at, contract_hash),
)
built_by_run_id = Column(
    "built_by_run_id", TEXT, "The run that last built the table: its own, or an earlier daily run."
)
TABLE_ROWS = Table(
    "meta",
    "table_rows",
    "One row per table outside meta.",
    ("table_name",),
    (table_name, row_count, built_by_run_id.or_null("while no run has built it")),
)
PLAN_DAY = Table(
    "meta",
    "plan_day",
    "One row per day whose forecast and suggestions are kept as they were known at its end.",
    ("as_of_date",),
    (as_of_date, run_id, _at("planned_at", "When the run that kept it was published.").or_null("until then")),
)
WATERMARK = Table(
    "meta",
    "watermark",
    "One row per order database that was read.",
    ("source_name",),
    (
        source_name,
        position,
        last_change_id,
        last_change_at.or_null("when the change log was empty"),
        after_id,
        later_position,
        later_id,
    ),
)
CHANGED_KEY = Table(
    "meta",
    "changed_key",
    "One row per row of the order core that the last load read again because it had changed; none after a full load.",
    ("entity", "entity_id"),
    (entity, entity_id),
)
META_TABLES = (PUBLICATION, TABLE_ROWS, PLAN_DAY)

# ------------------------------------------------------------------------------------------------ what things are
sku_id = _id("sku_id", "SKU")
sku = Column("sku", TEXT, "What is stocked and sold.", "", "sku <> ''")
sku_name = Column("sku_name", TEXT, "Name of the SKU.")
sku_name_en = Column("sku_name_en", TEXT, "Name of the SKU in English.").or_null("when none was given")
product_code = Column("product_code", TEXT, "The product the SKU is a variant of.")
category_code = Column("category_code", TEXT, "Category of the product.").or_null("when it has none")
category_name = Column("category_name", TEXT, "Name of the category.").or_null("when it has none")
category_name_en = Column("category_name_en", TEXT, "Name of the category in English.").or_null("when none was given")
sku_kind = Column("sku_kind", TEXT, "Stocked itself, sold as a kit of others, or a service.", "",
                  _words("sku_kind", "item", "kit", "service"))  # fmt: skip
supply_mode = Column("supply_mode", TEXT, "Bought to stock or made.", "", _words("supply_mode", "stock", "make"))
is_sku_stock_tracked = Column("is_sku_stock_tracked", BOOL, "Stock of the SKU is recorded at all.")
base_unit = Column("base_unit", TEXT, "What one unit is.")
units_per_pack = Column("units_per_pack", INT, "Units in the selling unit (箱规).", "units", "units_per_pack > 0")
sku_status = Column("sku_status", TEXT, "Whether it is still sold.", "", _words("sku_status", "active", "discontinued"))
launched_date = Column("launched_date", DAY, "First day it was sold.").or_null("when not recorded")
discontinued_date = Column("discontinued_date", DAY, "Last day it is sold.").or_null("while it is sold")
created_at = _at("created_at", "When the row was made in the order core.")
changed_at = _at("changed_at", "When the change log last names the row's entity.").or_null("when it never does")

location_id = _id("location_id", "location")
location_code = Column("location_code", TEXT, "Where it is stocked, or asked for.", "", "location_code <> ''")
location_name = Column("location_name", TEXT, "Name of the location.")
location_name_en = Column("location_name_en", TEXT, "Name of the location in English.").or_null("when none was given")
location_kind = Column("location_kind", TEXT, "What the location is; `history` holds imported orders.", "",
                       _words("location_kind", "warehouse", "store", "factory", "history"))  # fmt: skip
country = Column("country", TEXT, "ISO country.")
region = Column("region", TEXT, "Province or state.").or_null("when not given")
location_rank = Column("location_rank", INT, "Order of preference where nothing else decides; lowest first.")
is_default = Column("is_default", BOOL, "Serves what no other location was chosen for.")
can_ship = Column("can_ship", BOOL, "Orders may be sent from it.")
is_location_stock_tracked = Column("is_location_stock_tracked", BOOL, "Stock at the location is recorded.")
is_active = Column("is_active", BOOL, "Still in use.")

channel_id = _id("channel_id", "channel")
channel_code = Column("channel_code", TEXT, "How the order came in.")
channel_name = Column("channel_name", TEXT, "Name of the channel.")
channel_name_en = Column("channel_name_en", TEXT, "Name of the channel in English.").or_null("when none was given")
channel_kind = Column("channel_kind", TEXT, "Web, store, phone and so on.")

customer_id = _id("customer_id", "customer")
customer_code = Column("customer_code", TEXT, "Who ordered.")
customer_name = Column("customer_name", TEXT, "Name of the customer.")
customer_kind = Column("customer_kind", TEXT, "Business, person, or an unknown walk-in.", "",
                       _words("customer_kind", "business", "person", "walk_in"))  # fmt: skip
customer_status = Column("customer_status", TEXT, "Whether the customer may order.", "",
                         _words("customer_status", "active", "on_hold", "closed"))  # fmt: skip
language = Column("language", TEXT, "Language the customer is written to in.", "", _words("language", "zh", "en"))
level_code = Column("level_code", TEXT, "Price level.").or_null("without one")

supplier_id = _id("supplier_id", "supplier")
supplier_code = Column("supplier_code", TEXT, "From whom it is bought.")
supplier_name = Column("supplier_name", TEXT, "Name of the supplier.")
supplier_name_en = Column("supplier_name_en", TEXT, "Name of the supplier in English.").or_null("when none was given")
supplier_rank = Column("supplier_rank", INT, "Lowest is bought from first.")
currency = Column("currency", TEXT, "ISO currency of the amounts in the row.", "", "length(currency) = 3")
lead_time_days = Column("lead_time_days", INT, "Supplier order to shelf.", "days", "lead_time_days >= 0")
lead_time_sd_days = Column("lead_time_sd_days", REAL, "Spread of the lead time.", "days", "lead_time_sd_days >= 0")
review_period_days = Column("review_period_days", INT, "Days between two looks.", "days", "review_period_days > 0")
moq_qty = _qty("moq_qty", "Least units the supplier sells.", rule="{name} > 0")
pack_qty = _qty("pack_qty", "Units the supplier packs together.", rule="{name} > 0")
price_breaks = Column("price_breaks", TEXT, "Lower prices of all units from a quantity on, as JSON: min_qty, "
                      "unit_cost_cents.")  # fmt: skip
min_order_cents = _cents("min_order_cents", "Least value of an order; 0 when any will do.", "min_order_cents >= 0")
closed_date = Column("closed_date", DAY, "Business day on which the supplier is closed.")
shelf_life_days = Column("shelf_life_days", INT, "Days that goods keep.", "days", "shelf_life_days >= 0")
unit_cost_cents = _cents("unit_cost_cents", "Cost of one unit.", "unit_cost_cents >= 0")
cost_id = _id("cost_id", "cost")
cost_kind = Column("cost_kind", TEXT, "How the cost was found.", "", _words("cost_kind", "standard", "moving_average"))
valid_from_date = Column("valid_from_date", DAY, "First day it holds.")
valid_to_date = Column("valid_to_date", DAY, "Last day it holds.")
lost_date = Column("lost_date", DAY, "Business day on which units were given up for lack of stock.").or_null(
    "when none were"
)
shipped_date = Column("shipped_date", DAY, "Business day on which it left.")

# ------------------------------------------------------------------------------------------------ what happened
order_id = _id("order_id", "order")
order_number = Column("order_number", TEXT, "Number of the order.")
origin = Column("origin", TEXT, "Placed here, or imported as closed fact.", "", _words("origin", "live", "history"))
order_kind = Column("order_kind", TEXT, "Why it exists.", "",
                    _words("order_kind", "sale", "exchange", "resend", "standing"))  # fmt: skip
order_status = Column("order_status", TEXT, "Headline status when extracted.")
total_cents = _cents("total_cents", "Goods less discounts plus charges and tax.")
business_date = Column("business_date", DAY, "Business day it belongs to.")
placed_at = _at("placed_at", "When the order was placed.")
approved_at = _at("approved_at", "When it was approved.").or_null("until then")
rejected_at = _at("rejected_at", "When it was rejected.").or_null("unless it was")
cancelled_at = _at("cancelled_at", "When it was cancelled.").or_null("unless it was")
cancel_reason = Column("cancel_reason", TEXT, "Why it was cancelled.").or_null("unless it was")
promised_by_date = Column("promised_by_date", DAY, "At the customer's door by.").or_null("without a promise")
version = Column("version", INT, "Version of the row in the order core.", "", "version > 0")
order_line_id = _id("order_line_id", "order line")
parent_line_id = _id("parent_line_id", "kit or trigger line").or_null("for a line of its own")
line_no = Column("line_no", INT, "Position in the order.")
line_kind = Column("line_kind", TEXT, "A kit carries money, its components stock; a gift comes with its trigger.", "",
                   _words("line_kind", "item", "kit", "component", "gift", "service"))  # fmt: skip
unit_price_cents = _cents("unit_price_cents", "Price of one selling unit.")
net_cents = _cents("net_cents", "Value of the line, or of the lines of the row, after discounts.")
ordered_qty = _qty("ordered_qty", "Units asked for.")
cancelled_qty = _qty("cancelled_qty", "Units no longer wanted or no longer promised.")
backordered_qty = _qty("backordered_qty", "Units accepted without stock, waiting.")
shipped_qty = _qty("shipped_qty", "Units sent.")
delivered_qty = _qty("delivered_qty", "Units that arrived.")
returned_qty = _qty("returned_qty", "Units that came back.")
order_edit_id = _id("order_edit_id", "audit entry of an edit")
edited_at = _at("edited_at", "When the order was edited.")
edit_action = Column("edit_action", TEXT, "Lines changed, or all cancelled.", "",
                     _words("edit_action", "order.edit", "order.cancel"))  # fmt: skip
edit_facts = Column("edit_facts", TEXT, "Reason, and the lines as they stood before, as JSON.")
shipment_line_id = _id("shipment_line_id", "shipment line")
shipment_id = _id("shipment_id", "shipment")
shipment_status = Column("shipment_status", TEXT, "Status of the shipment when extracted.")
planned_qty = _qty("planned_qty", "Units planned to leave.", rule="{name} > 0")
shipped_at = _at("shipped_at", "When it left.").or_null("until then")
delivered_at = _at("delivered_at", "When it arrived.").or_null("until then")
stock_movement_id = _id("stock_movement_id", "stock movement")
movement_qty = _qty("movement_qty", "Signed change; in is positive.", rule="{name} <> 0")
stock_state = Column("stock_state", TEXT, "On hand, or waiting for inspection.", "",
                     _words("stock_state", "on_hand", "inspection"))  # fmt: skip
movement_reason = Column("movement_reason", TEXT, "Why stock changed.")
source_entity = Column("source_entity", TEXT, "What caused it.").or_null("when typed in")
source_id = _id("source_id", "cause").or_null("when typed in")
moved_at = _at("moved_at", "When the movement was recorded.")
lot_id = _id("lot_id", "lot")
lot_code = Column("lot_code", TEXT, "Code of the lot.")
expiry_date = Column("expiry_date", DAY, "Last day on which the lot can be used.").or_null("where it keeps")
rules_version = Column("rules_version", INT, "Version of the business rules.")
rules_body = Column("rules_body", TEXT, "The business rules, as JSON.")
purchase_order_line_id = _id("purchase_order_line_id", "purchase order line")
purchase_order_id = _id("purchase_order_id", "purchase order")
purchase_order_number = Column("purchase_order_number", TEXT, "Number of the purchase order.")
purchase_order_status = Column("purchase_order_status", TEXT, "Status when extracted.")
purchased_qty = _qty("purchased_qty", "Units ordered from the supplier.")
received_qty = _qty("received_qty", "Units that arrived from the supplier.")
ordered_at = _at("ordered_at", "When the purchase order was sent.")
expected_date = Column("expected_date", DAY, "Day the goods should arrive.").or_null("without a date")
goods_receipt_line_id = _id("goods_receipt_line_id", "goods receipt line")
received_at = _at("received_at", "When the goods arrived.")
production_order_id = _id("production_order_id", "production order")
production_status = Column("production_status", TEXT, "Status when extracted.")
production_qty = _qty("production_qty", "Units to make.")
done_qty = _qty("done_qty", "Units made.")
scrap_qty = _qty("scrap_qty", "Units spoilt.")
due_date = Column("due_date", DAY, "Day it should be done.").or_null("without a date")
transfer_line_id = _id("transfer_line_id", "transfer line")
from_location_id = _id("from_location_id", "sending location")
to_location_id = _id("to_location_id", "receiving location")
carrier_id = _id("carrier_id", "carrier")
carrier_code = Column("carrier_code", TEXT, "Who carries it.").or_null("when nobody was named")
carrier_name = Column("carrier_name", TEXT, "Name of the carrier.")
carrier_name_en = Column("carrier_name_en", TEXT, "Name of the carrier in English.").or_null("when none was given")
price_id = _id("price_id", "price")
price_kind = Column("price_kind", TEXT, "Contract beats level beats list; below a floor a second person decides.", "",
                    _words("price_kind", "list", "level", "contract", "promotion", "floor"))  # fmt: skip
selling_unit = Column("selling_unit", TEXT, "Unit that is sold: each, box.")
min_packs = Column("min_packs", INT, "The price holds from so many selling units on.", "selling units", "min_packs > 0")
shipment_number = Column("shipment_number", TEXT, "Number of the shipment.").or_null("when it was imported")
delivery_method = Column("delivery_method", TEXT, "How it travels.", "",
                         _words("delivery_method", "courier", "own_truck", "pick_up"))  # fmt: skip
freight_cents = _cents("freight_cents", "What carrying it costs by the carrier's rates.").or_null("without a rate")
released_at = _at("released_at", "When it was handed to the warehouse.").or_null("until then")
package_id = _id("package_id", "package")
package_no = Column("package_no", INT, "Which box of its shipment.", "", "package_no > 0")
tracking_number = Column("tracking_number", TEXT, "The carrier's number.").or_null("without one")
weight_g = Column("weight_g", INT, "Weight.", "grams", "weight_g >= 0").or_null("when not weighed")
tracking_event_id = _id("tracking_event_id", "carrier's event")
tracking_status = Column("tracking_status", TEXT, "What the carrier's word means here.").or_null("when nobody said yet")
carrier_status = Column("carrier_status", TEXT, "The carrier's own word.")
occurred_at = _at("occurred_at", "When it happened, by the carrier.").or_null("when it gave no possible time")
reported_at = _at("reported_at", "When the carrier told us.")
place = Column("place", TEXT, "Where it happened, as the carrier wrote it.").or_null("when not told")
tracking_outcome = Column("tracking_outcome", TEXT, "What the event did: it moved a package, was older than what is known,"
                          " is not understood, or cannot be true.", "",
                          _words("tracking_outcome", "applied", "late", "unmapped", "quarantined"))  # fmt: skip
return_line_id = _id("return_line_id", "return line")
return_id = _id("return_id", "return")
return_number = Column("return_number", TEXT, "Number of the return.")
return_kind = Column("return_kind", TEXT, "What the customer wants; a credit is imported without a known order.", "",
                     _words("return_kind", "return", "exchange", "refund_only", "resend", "repair",
                            "credit"))  # fmt: skip
return_reason = Column("return_reason", TEXT, "Why it comes back.").or_null("when not said")
requested_at = _at("requested_at", "When the return was asked for.")
closed_at = _at("closed_at", "When nothing was left to do.").or_null("until then")
asked_qty = _qty("asked_qty", "Units the customer wants to give back.", rule="{name} > 0")
restocked_qty = _qty("restocked_qty", "Of the units that came back, put on sale again.")
repair_qty = _qty("repair_qty", "Of the units that came back, sent to repair.")
scrapped_qty = _qty("scrapped_qty", "Of the units that came back, written off.")
refund_cents = _cents("refund_cents", "What the units that came back are worth to the customer.", "refund_cents >= 0")
return_event_id = _id("return_event_id", "audit entry of a return")
return_action = Column("return_action", TEXT, "What was done with the return.")
return_facts = Column("return_facts", TEXT, "Units by line, as JSON.")
happened_at = _at("happened_at", "When it was done.")
ticket_id = _id("ticket_id", "ticket")
ticket_number = Column("ticket_number", TEXT, "Number of the ticket.")
ticket_kind = Column("ticket_kind", TEXT, "What the problem is.", "",
                     _words("ticket_kind", "damaged", "missing", "wrong_item", "late", "quality", "low_score",
                            "invoice", "other"))  # fmt: skip
opened_at = _at("opened_at", "When the ticket was opened.")
due_at = _at("due_at", "Our first answer is due by then.")
first_answer_at = _at("first_answer_at", "When we first answered.").or_null("until then")
solved_at = _at("solved_at", "When it was solved.").or_null("until then")
follow_up_id = _id("follow_up_id", "question how it was")
asked_at = _at("asked_at", "When the customer was asked.")
answered_at = _at("answered_at", "When the customer answered.").or_null("until then")
score = Column("score", INT, "How content, 1 to 5, 5 best.", "", "score BETWEEN 1 AND 5").or_null("without an answer")
payment_receipt_id = _id("payment_receipt_id", "receipt")
refund_id = _id("refund_id", "refund")
payment_number = Column("payment_number", TEXT, "Number of the receipt or refund.")
amount_cents = _cents("amount_cents", "Money received, or granted back; never negative.", "amount_cents > 0")
payment_method = Column("payment_method", TEXT, "How it was paid.").or_null("of a refund")
refund_reason = Column("refund_reason", TEXT, "Why money goes back.").or_null("of a receipt")
booked_at = _at("booked_at", "When the receipt was booked, or the refund granted.")
paid_at = _at("paid_at", "When the money moved.").or_null("until then")
behaviour_event_id = _id("behaviour_event_id", "behaviour event")
EVENT_KINDS = ("view", "search", "cart_add", "cart_remove", "checkout", "mail_open", "mail_click")
event_kind = Column("event_kind", TEXT, "What the customer did.", "", _words("event_kind", *EVENT_KINDS))
cart_line_id = _id("cart_line_id", "cart line")
cart_id = _id("cart_id", "cart")
added_at = _at("added_at", "When it was put into the cart.")
override_id = _id("override_id", "override of a forecast")
adjustment_id = _id("adjustment_id", "adjustment of past demand")
from_date = Column("from_date", DAY, "First day it speaks of.")
through_date = Column("through_date", DAY, "Last day it speaks of.")
expires_date = Column("expires_date", DAY, "Plans as of this day and later know nothing of it.")
override_kind = Column("override_kind", TEXT, "Sets the units of each day, multiplies them, or adds units a week.", "",
                       _words("override_kind", "set_daily", "multiply", "add_weekly"))  # fmt: skip
override_amount = Column("override_amount", REAL, "Units a day, a ratio, or units a week: see `override_kind`.")
adjustment_kind = Column("adjustment_kind", TEXT, "Takes the days for unknown, or replaces their demand.", "",
                         _words("adjustment_kind", "ignore", "replace"))  # fmt: skip
daily_qty = Column("daily_qty", REAL, "Units that each day counts as.", "units", "daily_qty >= 0").or_null(
    "when the days are ignored"
)
author = Column("author", TEXT, "Who made the change.")
reason = Column("reason", TEXT, "Why, in the author's words.")
withdrawn_at = _at("withdrawn_at", "When it was taken back.").or_null("unless it was")
days_in_order = Rule("from_date <= through_date", "a stretch of days does not end before it begins")

_no_order = "without a known order"
RAW_TABLES = (
    Table("raw", "sku", "One row per SKU.", ("sku_id",), (
        sku_id, sku, sku_name, sku_name_en, product_code, category_code, category_name, category_name_en, sku_kind,
        supply_mode, is_sku_stock_tracked, base_unit, units_per_pack.or_null("when only sold by the unit"),
        shelf_life_days.or_null("when it keeps"), sku_status, launched_date, discontinued_date, created_at, changed_at,
    )),
    Table("raw", "location", "One row per location.", ("location_id",), (
        location_id, location_code, location_name, location_name_en, location_kind, country, region, location_rank,
        is_default, is_location_stock_tracked, is_active, can_ship,
    )),
    Table("raw", "channel", "One row per channel.", ("channel_id",), (
        channel_id, channel_code, channel_name, channel_name_en, channel_kind,
    )),
    Table("raw", "customer", "One row per customer.", ("customer_id",), (
        customer_id, customer_code, customer_name, customer_kind, customer_status, language, level_code, created_at,
    )),
    Table("raw", "supplier", "One row per supplier.", ("supplier_id",), (
        supplier_id, supplier_code, supplier_name, supplier_name_en, currency, lead_time_days, lead_time_sd_days,
        review_period_days, min_order_cents, is_active,
    )),
    Table("raw", "supplier_closed_day", "One row per supplier and day on which it neither works nor ships.",
          ("supplier_id", "closed_date"), (supplier_id, closed_date)),
    Table("raw", "supplier_sku", "One row per supplier and SKU it offers.", ("supplier_id", "sku_id"), (
        supplier_id, sku_id, supplier_rank, moq_qty, pack_qty, unit_cost_cents,
        price_breaks.or_null("when every quantity costs the same"), lead_time_days.or_null("when the supplier's own holds"),
    )),
    Table("raw", "cost", "One row per cost of a unit and period.", ("cost_id",), (
        cost_id, sku_id, location_id.or_null("when it holds everywhere"), cost_kind, currency, unit_cost_cents,
        valid_from_date, valid_to_date.or_null("while it holds"), created_at,
    )),
    Table("raw", "orders", "One row per order.", ("order_id",), (
        order_id, order_number, channel_id, customer_id, origin, order_kind, order_status, currency, total_cents,
        business_date, placed_at, approved_at, rejected_at, cancelled_at, cancel_reason, promised_by_date, version,
        changed_at,
    )),
    Table("raw", "order_line", "One row per order line.", ("order_line_id",), (
        order_line_id, order_id, line_no, parent_line_id, line_kind, sku_id, unit_price_cents, units_per_pack,
        net_cents, unit_cost_cents.or_null("when not known"), ordered_qty, cancelled_qty, backordered_qty, shipped_qty,
        delivered_qty, returned_qty,
    ), (Rule("cancelled_qty <= ordered_qty", "what is cancelled was ordered"),
        Rule("delivered_qty <= shipped_qty", "what arrived was sent"))),
    Table("raw", "order_edit", "One row per edit or cancellation of an order.", ("order_edit_id",), (
        order_edit_id, order_id, edit_action, edited_at, edit_facts.or_null("when not recorded"),
    )),
    Table("raw", "shipment_line", "One row per order line in a shipment.", ("shipment_line_id",), (
        shipment_line_id, shipment_id, order_id, order_line_id, sku_id, location_id, shipment_status, planned_qty,
        shipped_qty, created_at, shipped_at, delivered_at, changed_at,
    )),
    Table("raw", "stock_movement", "One row per immutable change of stock.", ("stock_movement_id",), (
        stock_movement_id, sku_id, location_id, movement_qty, stock_state, movement_reason, source_entity, source_id,
        lot_id.or_null("where the SKU is not kept by lot"), moved_at, business_date,
    )),
    Table("raw", "lot", "One row per traceable group of goods.", ("lot_id",), (lot_id, sku_id, lot_code, expiry_date)),
    Table("raw", "purchase_order_line", "One row per SKU in a sent purchase order.", ("purchase_order_line_id",), (
        purchase_order_line_id, purchase_order_id, purchase_order_number, supplier_id, location_id,
        purchase_order_status, sku_id, purchased_qty, cancelled_qty, received_qty, ordered_at, expected_date,
        changed_at,
    )),
    Table("raw", "goods_receipt_line", "One row per SKU and lot received.", ("goods_receipt_line_id",), (
        goods_receipt_line_id, purchase_order_line_id.or_null("without a purchase order"), location_id, sku_id,
        received_qty, received_at,
    )),
    Table("raw", "production_order", "One row per production order.", ("production_order_id",), (
        production_order_id, sku_id, location_id, production_status, production_qty, done_qty, scrap_qty, due_date,
        created_at, changed_at,
    )),
    Table("raw", "transfer_line", "One row per SKU in a transfer that has left.", ("transfer_line_id",), (
        transfer_line_id, from_location_id, to_location_id, sku_id, shipped_qty, shipped_at,
        received_at.or_null("until then"),
    )),
    Table("raw", "carrier", "One row per carrier.", ("carrier_id",), (
        carrier_id, carrier_code, carrier_name, carrier_name_en,
    )),
    Table("raw", "price", "One row per price and period.", ("price_id",), (
        price_id, sku_id, price_kind, level_code, customer_id.or_null("unless it is one customer's"), currency,
        selling_unit, min_packs, unit_price_cents, valid_from_date, valid_to_date.or_null("while it holds"), created_at,
    )),
    Table("raw", "shipment", "One row per shipment from a place of our own, planned or gone.", ("shipment_id",), (
        shipment_id, shipment_number, location_id, carrier_id.or_null("when nobody was named"), delivery_method,
        freight_cents, currency.or_null("without a rate"), created_at, released_at, shipped_at, delivered_at,
    )),
    Table("raw", "package", "One row per box that has left.", ("package_id",), (
        package_id, shipment_id, package_no, carrier_id.or_null("when nobody was named"), tracking_number, weight_g,
        created_at,
    )),
    Table("raw", "tracking_event", "One row per event a carrier reported.", ("tracking_event_id",), (
        tracking_event_id, carrier_id, package_id.or_null("when no package has the number"),
        shipment_id.or_null("when no package has the number"), tracking_number, tracking_status, carrier_status,
        occurred_at, reported_at, place, tracking_outcome,
    )),
    Table("raw", "return_line", "One row per SKU in a return.", ("return_line_id",), (
        return_line_id, return_id, return_number, order_id.or_null(_no_order), order_line_id.or_null(_no_order),
        line_no.or_null(_no_order), line_kind.or_null(_no_order), customer_id, channel_id.or_null("when not known"),
        location_id.or_null("before it came back"), return_kind, origin, return_reason, currency, business_date,
        requested_at, received_at.or_null("until then"), closed_at, sku_id, asked_qty, returned_qty, restocked_qty,
        repair_qty, scrapped_qty, refund_cents, changed_at,
    ), (Rule("returned_qty <= asked_qty", "what came back was asked for"),
        Rule("restocked_qty + repair_qty + scrapped_qty <= returned_qty", "what was decided on came back"))),
    Table("raw", "return_event", "One row per decision on a return, arrival and inspection.", ("return_event_id",), (
        return_event_id, return_id, return_action, happened_at, return_facts,
    )),
    Table("raw", "ticket", "One row per problem reported.", ("ticket_id",), (
        ticket_id, ticket_number, customer_id, order_id.or_null("when it is about none"), ticket_kind, opened_at,
        due_at, first_answer_at, solved_at,
    )),
    Table("raw", "follow_up", "One row per time a customer was asked how it was.", ("follow_up_id",), (
        follow_up_id, order_id, customer_id, asked_at, answered_at, score,
    )),
    Table("raw", "payment_receipt", "One row per payment received.", ("payment_receipt_id",), (
        payment_receipt_id, payment_number, customer_id, amount_cents, currency, payment_method, booked_at,
        business_date,
    )),
    Table("raw", "refund", "One row per refund granted.", ("refund_id",), (
        refund_id, payment_number, order_id.or_null(_no_order), return_id.or_null("when nothing came back"),
        customer_id, amount_cents, currency, refund_reason, booked_at, paid_at, business_date,
    )),
    Table("raw", "behaviour_event", "One row per thing a customer did that is not an order.", ("behaviour_event_id",), (
        behaviour_event_id, customer_id.or_null("when not known"), sku_id.or_null("when it is about none"),
        channel_id.or_null("when not known"), event_kind, happened_at,
    )),
    Table("raw", "cart_line", "One row per SKU and unit that lies in a cart, or went into an order.",
          ("cart_line_id",), (
        cart_line_id, cart_id, customer_id.or_null("when not known"), channel_id, sku_id, added_at,
    )),
    Table("raw", "forecast_override", "One row per change a planner made to coming days of a forecast.",
          ("override_id",), (
        override_id, sku_id, location_id, from_date, through_date, override_kind, override_amount, author, reason,
        expires_date, created_at, withdrawn_at,
    ), (days_in_order,)),
    Table("raw", "demand_adjustment", "One row per stretch of past days a planner knows to mislead.",
          ("adjustment_id",), (
        adjustment_id, sku_id, location_id, from_date, through_date, adjustment_kind, daily_qty, author, reason,
        created_at, withdrawn_at,
    ), (days_in_order,)),
    Table("raw", "rule_set", "One row per version of the business rules.", ("rules_version",),
          (rules_version, rules_body, created_at)),
)  # fmt: skip

# ------------------------------------------------------------------------------------------------ modelled
is_stock_tracked = Column("is_stock_tracked", BOOL, "Stock of this SKU is recorded at this location.")
is_gift = Column("is_gift", BOOL, "Came free with a trigger line.")
is_part = Column("is_part", BOOL, "Component of a kit: the kit line has the money, this one the stock.")
demand_qty = _qty("demand_qty", "Units asked for, shipped or not, gifts included, kits as their components.")
gift_qty = _qty("gift_qty", "Of the demand, units that were gifts.")
lost_qty = _qty("lost_qty", "Of the demand, units cancelled because there was no stock.")
demand_date = Column("demand_date", DAY, "Business day of the demand.")
is_censored = Column("is_censored", BOOL, "Stock ran out that day, so demand is a lower bound.").or_null(
    "where stock is not recorded"
)
out_from_date = Column("out_from_date", DAY, "First day without stock.")
out_through_date = Column(
    "out_through_date",
    DAY,
    "Last day on which stock was out, or the day it came again. Of a period that goes on, the last day on which the empty "
    "place still counts as carrying the product: half a year on, or the day the product was discontinued.",
)
stock_date = Column("stock_date", DAY, "First business day at whose end this was so.")
on_hand_qty = Column("on_hand_qty", INT, "Units physically there, reserved ones included.", "units")
outstanding_qty = Column("outstanding_qty", INT, "Units asked for here, not cancelled, not yet sent.", "units")
available_qty = Column("available_qty", INT, "On hand less outstanding; zero or less is a stock-out.", "units")

calendar_date = Column("calendar_date", DAY, "The day.")
iso_year = Column(
    "iso_year", INT, "Year of the ISO week; in the first and last days of January and December another one."
)
iso_week = Column("iso_week", INT, "ISO week, Monday first.", "", "iso_week BETWEEN 1 AND 53")
weekday = Column("weekday", INT, "1 Monday to 7 Sunday.", "", "weekday BETWEEN 1 AND 7")
month = Column("month", DAY, "First day of the month.")
quarter = Column("quarter", DAY, "First day of the quarter.")
is_month_end = Column("is_month_end", BOOL, "Last day of its month.")
is_weekend = Column("is_weekend", BOOL, "Saturday or Sunday.")
is_holiday = Column("is_holiday", BOOL, "Public holiday in China, days moved next to one included.")
holiday_name = Column("holiday_name", TEXT, "Name of the holiday.").or_null("on other days")
holiday_name_en = Column("holiday_name_en", TEXT, "Name of the holiday in English.").or_null("on other days")
is_makeup_workday = Column("is_makeup_workday", BOOL, "A weekend day that China works (调休).")
is_double_eleven = Column("is_double_eleven", BOOL, "11 November, 双11.")
is_six_eighteen = Column("is_six_eighteen", BOOL, "18 June, 618.")
days_to_lunar_new_year = Column("days_to_lunar_new_year", INT, "Days to the nearest lunar new year; after it negative.",
                                "days")  # fmt: skip
holiday_date = Column("holiday_date", DAY, "The day.")
first_released_at = _at("first_released_at", "When its first shipment was handed to the warehouse.").or_null(
    "until then"
)
first_shipped_at = _at("first_shipped_at", "When its first shipment left.").or_null("until then")
last_shipped_at = _at("last_shipped_at", "When its last shipment so far left.").or_null("until then")
last_delivered_at = _at("last_delivered_at", "When its last shipment so far arrived.").or_null("until then")
lines_count = Column("lines_count", INT, "Lines, components of kits not counted.", "lines", "lines_count >= 0")
open_qty = _qty("open_qty", "Units not sent and not cancelled.")
is_in_full = Column("is_in_full", BOOL, "All units that are still wanted have arrived.")
orders_on_board = Column("orders_on_board", INT, "Orders it carries goods of.", "orders", "orders_on_board > 0")
packages_count = Column("packages_count", INT, "Boxes; 0 when they were not recorded.", "boxes", "packages_count >= 0")
decided_at = _at("decided_at", "When the return was approved or refused.").or_null("until then")
is_refused = Column("is_refused", BOOL, "The return was refused.")
payment_kind = Column("payment_kind", TEXT, "Money in, or money back.", "", _words("payment_kind", "receipt", "refund"))
event_source = Column("event_source", TEXT, "Where it was read: the log of events, or what lies in carts.", "",
                      _words("event_source", "behaviour_event", "cart_line"))  # fmt: skip
event_id = _id("event_id", "event")
known_from_at = _at("known_from_at", "When it was entered; before that nobody knew it.")

CORE_TABLES = (
    Table("core", "dim_product", "One row per SKU known on the as-of date.", ("sku",), (
        sku, sku_name, sku_name_en, product_code, category_code, category_name, category_name_en, sku_kind, supply_mode,
        is_sku_stock_tracked, base_unit, units_per_pack.or_null("when only sold by the unit"), launched_date,
        discontinued_date,
    )),
    Table("core", "dim_location", "One row per location.", ("location_code",), (
        location_code, location_name, location_name_en, location_kind, country, region, is_default,
        is_location_stock_tracked,
    )),
    Table("core", "dim_customer", "One row per customer known on the as-of date.", ("customer_code",), (
        customer_code, customer_name, customer_kind, language, level_code,
    )),
    Table("core", "dim_supplier", "One row per supplier.", ("supplier_code",), (
        supplier_code, supplier_name, supplier_name_en, currency, lead_time_days, lead_time_sd_days, review_period_days,
    )),
    Table("core", "fct_order_line", "One row per order line, as known at the end of the as-of date.",
          ("order_line_id",), (
        order_line_id, order_id, order_number, line_no, line_kind, sku, customer_code, channel_code, origin,
        business_date, placed_at, ordered_qty, cancelled_qty, lost_qty, lost_date, shipped_qty, net_cents, currency,
        is_gift, is_part,
    ), (Rule("cancelled_qty <= ordered_qty", "what is cancelled was ordered"),
        Rule("lost_qty <= cancelled_qty", "what is lost was cancelled"))),
    Table("core", "fct_line_location", "One row per order line that takes stock and location it is asked of.",
          ("order_line_id", "location_code"), (
        order_line_id, order_id, location_code, sku, business_date, demand_qty, gift_qty, lost_qty, lost_date,
    ), (Rule("gift_qty <= demand_qty", "gifts are demand"), Rule("lost_qty <= demand_qty", "lost sales are demand"))),
    Table("core", "fct_shipment_line", "One row per order line in a shipment that had left by the as-of date.",
          ("shipment_line_id",), (
        shipment_line_id, shipment_id, order_id, order_line_id, sku, location_code, shipped_qty,
        Column("shipped_at", INSTANT, "When it left.", "UTC"), shipped_date,
    )),
    Table("core", "fct_stock_movement", "One row per immutable change of stock.", ("stock_movement_id",), (
        stock_movement_id, sku, location_code, movement_qty, stock_state, movement_reason, moved_at, business_date,
    )),
    Table("core", "fct_stock_daily",
          "One row per SKU, location and business day on which its stock or its open demand changed; "
          "it stays so through `valid_to_date`.",
          ("sku", "location_code", "stock_date"), (
        sku, location_code, stock_date, valid_to_date.or_null("while it is still so"), on_hand_qty, outstanding_qty,
        available_qty,
    ), (Rule("available_qty = on_hand_qty - outstanding_qty", "available is what is left"),
        Rule("stock_date <= valid_to_date", "a period does not end before it begins"))),
    Table("core", "fct_demand_daily",
          "One row per SKU, location and business day with demand; the other days since the first are days of zero "
          "demand, or without stock (`core.fct_out_of_stock`).",
          ("sku", "location_code", "demand_date"), (
        sku, location_code, demand_date, demand_qty, gift_qty, lost_qty, is_censored,
    ), (Rule("gift_qty <= demand_qty", "gifts are demand"), Rule("lost_qty <= demand_qty", "lost sales are demand"),
        Rule("demand_qty > 0", "a day without demand has no row"))),
    Table("core", "fct_out_of_stock",
          "One row per SKU, tracked location and period without stock, from the first demand on; periods do not overlap.",
          ("sku", "location_code", "out_from_date"), (
        sku, location_code, out_from_date, out_through_date,
    ), (Rule("out_from_date <= out_through_date", "a period does not end before it begins"),)),
    Table("core", "dim_channel", "One row per channel.", ("channel_code",), (
        channel_code, channel_name, channel_name_en, channel_kind,
    )),
    Table("core", "dim_calendar", "One row per day, from the first business day to over a year after the as-of date.",
          ("calendar_date",), (
        calendar_date, iso_year, iso_week, weekday, month, quarter, is_month_end, is_weekend, is_holiday, holiday_name,
        holiday_name_en, is_makeup_workday, is_double_eleven, is_six_eighteen, days_to_lunar_new_year,
    )),
    Table("core", "dim_holiday", "One row per country where we have a location, and public holiday.",
          ("country", "holiday_date"), (
        country, holiday_date, holiday_name.or_null("when nobody wrote it in Chinese"), holiday_name_en,
    )),
    Table("core", "fct_order", "One row per order, as known at the end of the as-of date; rejected ones are not orders.",
          ("order_id",), (
        order_id, order_number, customer_code, channel_code, origin, order_kind, currency, business_date, placed_at,
        approved_at, first_released_at, first_shipped_at, last_shipped_at, last_delivered_at, cancelled_at, lines_count,
        ordered_qty, cancelled_qty, lost_qty, shipped_qty, open_qty, delivered_qty, net_cents, is_in_full,
    ), (Rule("cancelled_qty <= ordered_qty", "what is cancelled was ordered"),
        Rule("lost_qty <= cancelled_qty", "what is lost was cancelled"),
        Rule("delivered_qty <= shipped_qty", "what arrived was sent"),
        Rule("first_shipped_at <= last_shipped_at", "the first is not after the last"))),
    Table("core", "fct_shipment", "One row per shipment that had left by the as-of date.", ("shipment_id",), (
        shipment_id, shipment_number, location_code, carrier_code, delivery_method.or_null("when it was imported"),
        released_at, Column("shipped_at", INSTANT, "When it left.", "UTC"), shipped_date, delivered_at, orders_on_board,
        lines_count, packages_count, shipped_qty, freight_cents, currency.or_null("without a rate"),
    )),
    Table("core", "fct_tracking_event", "One row per event a carrier had reported by the as-of date.",
          ("tracking_event_id",), (
        tracking_event_id, shipment_id.or_null("when no package has the number"),
        package_id.or_null("when no package has the number"), carrier_code, tracking_number, tracking_status,
        carrier_status, occurred_at, reported_at, business_date, place, tracking_outcome,
    )),
    Table("core", "fct_return_line", "One row per SKU in a return asked for by the as-of date.", ("return_line_id",), (
        return_line_id, return_id, return_number, order_id.or_null(_no_order), order_line_id.or_null(_no_order), sku,
        customer_code, channel_code.or_null("when not known"), location_code.or_null("before it came back"),
        return_kind, return_reason, origin, currency, business_date, requested_at, decided_at, is_refused,
        received_at.or_null("until then"), closed_at, asked_qty, returned_qty, restocked_qty, repair_qty, scrapped_qty,
        refund_cents,
    ), (Rule("returned_qty <= asked_qty", "what came back was asked for"),
        Rule("restocked_qty + repair_qty + scrapped_qty <= returned_qty", "what was decided on came back"))),
    Table("core", "fct_ticket", "One row per problem reported by the as-of date.", ("ticket_id",), (
        ticket_id, ticket_number, customer_code, order_id.or_null("when it is about none"), ticket_kind, business_date,
        opened_at, due_at, first_answer_at, solved_at,
    )),
    Table("core", "fct_follow_up", "One row per time a customer was asked how it was.", ("follow_up_id",), (
        follow_up_id, order_id, customer_code, business_date, asked_at, answered_at, score,
    )),
    Table("core", "fct_payment", "One row per receipt and per refund.", ("payment_number",), (
        payment_number, payment_kind, customer_code, order_id.or_null("of a receipt: it may pay several"),
        return_id.or_null("when nothing came back"), payment_method, refund_reason, amount_cents, currency,
        business_date, booked_at, paid_at,
    ), (Rule("payment_kind = 'refund' OR paid_at = booked_at", "a receipt is money that is there"),)),
    Table("core", "fct_behaviour_event", "One row per thing a customer did that is not an order.",
          ("event_source", "event_id"), (
        event_source, event_id, event_kind, customer_code.or_null("when not known"),
        sku.or_null("when it is about none"), channel_code.or_null("when not known"), business_date, happened_at,
    )),
    Table("core", "fct_price", "One row per price and period, as known at the end of the as-of date.", ("price_id",), (
        price_id, sku, price_kind, level_code, customer_code.or_null("unless it is one customer's"), selling_unit,
        min_packs, unit_price_cents, currency, valid_from_date, valid_to_date.or_null("while it holds"), known_from_at,
    ), (Rule("valid_from_date <= valid_to_date", "a period does not end before it begins"),)),
    Table("core", "fct_cost", "One row per cost of a unit and period, as known at the end of the as-of date.",
          ("cost_id",), (
        cost_id, sku, location_code.or_null("when it holds everywhere"), cost_kind, unit_cost_cents, currency,
        valid_from_date, valid_to_date.or_null("while it holds"), known_from_at,
    )),
    Table("core", "fct_forecast_override", "One row per override made by the as-of date, expired and withdrawn ones too.",
          ("override_id",), (
        override_id, sku, location_code, from_date, through_date, override_kind, override_amount, author, reason,
        expires_date, known_from_at, withdrawn_at,
    ), (days_in_order,)),
    Table("core", "fct_demand_adjustment",
          "One row per adjustment of past demand made by the as-of date; the demand itself stays as recorded.",
          ("adjustment_id",), (
        adjustment_id, sku, location_code, from_date, through_date, adjustment_kind, daily_qty, author, reason,
        known_from_at, withdrawn_at,
    ), (days_in_order,)),
)  # fmt: skip

# ------------------------------------------------------------------------------------------------ for screens
horizon_days = Column("horizon_days", INT, "Days after the as-of date.", "days", "horizon_days > 0")
mean_qty = Column("mean_qty", REAL, "Expected units.", "units", "mean_qty >= 0 AND isfinite(mean_qty)")
model_mean_qty = Column("model_mean_qty", REAL, "What the model expects, before overrides.", "units",
                        "model_mean_qty >= 0 AND isfinite(model_mean_qty)")  # fmt: skip
QUANTILES = ("q05", "q10", "q25", "q50", "q75", "q90", "q95", "q98", "q99")
quantiles = tuple(
    Column(f"{q}_qty", REAL, f"Demand is at most this with {int(q[1:])} % chance.", "units",
           f"{q}_qty >= 0 AND isfinite({q}_qty)")
    for q in QUANTILES
)  # fmt: skip
quantiles_rise = Rule(
    " AND ".join(f"{low}_qty <= {high}_qty" for low, high in pairwise(QUANTILES)),
    "a higher chance needs at least as many units",
)
model = Column("model", TEXT, "Forecasting method that was chosen.")
grade = Column("grade", TEXT, "Trust in the forecast from its own backtest, A best.", "", _words("grade", *"ABCD"))
wape_ratio = Column("wape_ratio", REAL, "Backtest: sum of absolute errors over sum of demand.", "ratio")
rmsse = Column("rmsse", REAL, "Backtest: root mean squared error scaled by the naive forecast's.")
bias_units = Column("bias_units", REAL, "Backtest: mean of forecast minus actual.", "units")
baseline_model = Column("baseline_model", TEXT, "Simple method it was compared with.")
baseline_wape_ratio = Column("baseline_wape_ratio", REAL, "The simple method's error.", "ratio")
skill_ratio = Column("skill_ratio", REAL, "1 less error over the simple method's error; above 0 is better.", "ratio")
folds = Column("folds", INT, "Cutoffs the backtest forecast from.")
alternatives = Column("alternatives", TEXT, "JSON of each method tried and its error.")
demand_class = Column("demand_class", TEXT, "Smooth, erratic, intermittent, lumpy or none.")
adi = Column("adi", REAL, "Weeks per week with demand; 1 is demand every week.", "weeks")
cv2 = Column("cv2", REAL, "Squared coefficient of variation of the weeks with demand.")
first_demand_date = Column("first_demand_date", DAY, "First day with demand.")
last_demand_date = Column("last_demand_date", DAY, "Last day with demand.")
is_dying = Column("is_dying", BOOL, "Demand has faded.")
is_new = Column("is_new", BOOL, "Too new to be tested.")
history_days = Column("history_days", INT, "Days from the first demand through the as-of date.", "days")
demand_days = Column("demand_days", INT, "Of these, days with demand.", "days")
censored_days = Column("censored_days", INT, "Of these, days without stock.", "days")
is_stock_recorded = Column("is_stock_recorded", BOOL, "Stock is recorded, so stock-outs are known.")
reason_codes = Column("reason_codes", "VARCHAR[]", "Why, as codes; `forecasting.reasons` says them in zh and en.")
facts = Column("facts", TEXT, "JSON of the numbers behind the reasons.")
exception_no = Column("exception_no", INT, "Position in the list.")
unique_id = Column("unique_id", TEXT, "SKU@LOCATION, the name of a series in the forecast.")
exception_code = Column("exception_code", TEXT, "What should be looked at.")
exception_date = Column("exception_date", DAY, "Day it is about.").or_null("when it is the whole series")
exception_rows = Column("exception_rows", INT, "Rows concerned.", "rows")
is_blocking = Column("is_blocking", BOOL, "No forecast was made because of it.")
message_zh = Column("message_zh", TEXT, "The sentence in Chinese.")
message_en = Column("message_en", TEXT, "The sentence in English.")

suggested_qty = _qty("suggested_qty", "Units to order now.")
order_by_date = Column(
    "order_by_date",
    DAY,
    "Last day to order that keeps to the service; of places that "
    "send for each other, of them all; where nothing is worth ordering now, not before the next review.",
).or_null("when not soon")
stockout_date = Column("stockout_date", DAY, "Day stock is expected to run out.").or_null("when not soon")
order_value_cents = _cents("order_value_cents", "Suggested units times unit cost.", "order_value_cents >= 0")
reserved_qty = _qty("reserved_qty", "Units on hand that open orders will take.")
on_order_qty = _qty("on_order_qty", "Units on their way here: bought, in production, in transfer.")
inventory_position_qty = Column("inventory_position_qty", INT,
                                "On hand not reserved, plus on order, less backordered.", "units")  # fmt: skip
protection_interval_days = Column("protection_interval_days", INT, "Lead time plus review period.", "days",
                                  "protection_interval_days > 0")  # fmt: skip
cycle_service_ratio = Column("cycle_service_ratio", REAL, "Chance aimed at of no stock-out in the interval.", "ratio",
                             "cycle_service_ratio > 0 AND cycle_service_ratio < 1")  # fmt: skip
order_up_to_qty = _qty("order_up_to_qty", "Target of the inventory position.")
reorder_point_qty = _qty("reorder_point_qty", "Order when the position is at or below this.")
safety_stock_qty = _qty("safety_stock_qty", "Part of the target above expected demand.", rule="")
PARTS = {
    "demand_part_qty": "Waterfall: expected demand of the protection interval.",
    "safety_part_qty": "Waterfall: safety stock; below zero where a unit short costs little.",
    "on_hand_part_qty": "Waterfall: less what is on hand and not reserved.",
    "on_order_part_qty": "Waterfall: less what is on order.",
    "backordered_part_qty": "Waterfall: plus what is backordered.",
    "late_part_qty": "Waterfall: plus what is on order but comes only after the next order would.",
    "lost_part_qty": "Waterfall: less demand expected to be lost before an order can arrive.",
    "surplus_part_qty": "Waterfall: plus stock above the target, which is not sent back.",
    "elsewhere_part_qty": "Waterfall: less what other places hold above their share and send in its stead.",
    "transfer_part_qty": "Waterfall: less what comes from another place.",
    "lot_part_qty": "Waterfall: plus more at once, because an order costs, or up to max.",
    "moq_part_qty": "Waterfall: plus up to the supplier's least quantity.",
    "pack_part_qty": "Waterfall: to whole packs.",
    "wait_part_qty": "Waterfall: less all of it where the next review is cheaper.",
    "price_break_part_qty": "Waterfall: plus up to a quantity with a lower price.",
    "joint_part_qty": "Waterfall: to the supplier's least order value, or less all of it while that waits.",
    "budget_part_qty": "Waterfall: less what the budget does not reach.",
}
parts = tuple(Column(name, INT, meaning, "units") for name, meaning in PARTS.items())
stage = Column("stage", TEXT, "What the order waits for.", "",
               _words("stage", "review", "held", "waiting_stock", "ready", "picking", "partly_shipped"))  # fmt: skip
age_days = Column("age_days", INT, "Business days since the order was placed.", "days", "age_days >= 0")
orders_count = Column("orders_count", INT, "Orders.", "orders", "orders_count > 0")
open_value_cents = _cents("open_value_cents", "Value of the lines still open, by their open share.")


def _count(name: str, meaning: str) -> Column:
    return Column(name, INT, meaning, "", f"{name} >= 0")


lines_due = Column("lines_due", INT, "Lines promised for the day.", "lines", "lines_due > 0")
lines_in_full = Column("lines_in_full", INT, "Of these, all units have arrived.", "lines", "lines_in_full >= 0")
lines_on_time_in_full = Column("lines_on_time_in_full", INT, "Of these, all units had arrived on that day.", "lines",
                               "lines_on_time_in_full >= 0")  # fmt: skip
due_qty = _qty("due_qty", "Units promised for the day.")
on_time_qty = _qty("on_time_qty", "Of these, units that had arrived on that day.")
otif_ratio = Column("otif_ratio", REAL, "Lines on time and in full over lines due.", "ratio",
                    "otif_ratio BETWEEN 0 AND 1")  # fmt: skip
cycle_stage = Column("cycle_stage", TEXT, "Placed to approved, to the warehouse, to the first shipment; last shipment to"
                     " last arrival; placed to last arrival. The last two of orders that are complete.", "",
                     _words("cycle_stage", "review", "release", "warehouse", "transit", "whole"))  # fmt: skip
ended_date = Column("ended_date", DAY, "Business day on which the stage ended.")
median_hours = Column("median_hours", REAL, "Half of the orders took so long or less.", "hours", "median_hours >= 0")
p90_hours = Column("p90_hours", REAL, "Nine of ten orders took so long or less.", "hours", "p90_hours >= 0")
cancelled_count = _count("cancelled_count", "Of the orders, cancelled since.")
wanted_qty = Column("wanted_qty", INT, "Units asked for and not cancelled.", "units", "wanted_qty >= 0")
first_order_date = Column("first_order_date", DAY, "Business day of the first order.")
last_order_date = Column("last_order_date", DAY, "Business day of the last order.")
days_between_orders = Column("days_between_orders", REAL, "Mean days from one day with orders to the next.", "days",
                             "days_between_orders > 0").or_null("with orders on one day only")  # fmt: skip
returns_count = _count("returns_count", "Returns asked for.")
refused_count = _count("refused_count", "Of these, refused.")
tickets_count = _count("tickets_count", "Tickets opened.")
answered_count = _count("answered_count", "Of these, answered by us.")
answered_on_time_count = _count("answered_on_time_count", "Of these, answered by the time that was due.")
solved_count = _count("solved_count", "Tickets of the day that are solved.")
first_answer_median_hours = Column(
    "first_answer_median_hours", REAL, "Half of the tickets of the day had our first answer within.", "hours",
    "first_answer_median_hours >= 0").or_null("without an answer")  # fmt: skip
asked_count = _count("asked_count", "Customers asked how it was.")
scored_count = _count("scored_count", "Of these, answered with a score.")
low_score_count = _count("low_score_count", "Of these, 1 or 2.")
mean_score = Column("mean_score", REAL, "Mean of the scores, 1 to 5.", "", "mean_score > 0").or_null("without a score")
sold_28d_qty = _qty("sold_28d_qty", "Units that left in the last 28 days.")
sold_91d_qty = _qty("sold_91d_qty", "Units that left in the last 91 days.")
sold_365d_qty = _qty("sold_365d_qty", "Units that left in the last 365 days.")
mean_on_hand_qty = Column("mean_on_hand_qty", REAL, "Mean of on hand over the last 365 days, as far as recorded.",
                          "units", "mean_on_hand_qty >= 0").or_null("where stock is not recorded")  # fmt: skip
turns_ratio = Column("turns_ratio", REAL, "Units that left in 365 days over mean on hand.", "ratio",
                     "turns_ratio >= 0").or_null("when nothing was there")  # fmt: skip
cover_days = Column("cover_days", REAL, "On hand at the pace of the last 91 days lasts so long.", "days",
                    "cover_days >= 0").or_null("when none left, or stock is not recorded")  # fmt: skip
stock_class = Column("stock_class", TEXT, "Nothing left in 180 days, or more than sells in 180 days.", "",
                     _words("stock_class", "dead", "excess"))  # fmt: skip
excess_qty = Column("excess_qty", INT, "Units too many.", "units", "excess_qty > 0")
first_stock_date = Column("first_stock_date", DAY, "First day of the stretch with stock that still lasts.")
last_shipped_date = Column("last_shipped_date", DAY, "Last day on which any left.").or_null("when none ever did")
excess_value_cents = _cents("excess_value_cents", "Units too many times unit cost.", "excess_value_cents >= 0").or_null(
    "when the cost is not known"
)
abc_class = Column("abc_class", TEXT, "A: the products with most money, 80 % of it; B: up to 95 %; C: the rest.", "",
                   _words("abc_class", *"ABC"))  # fmt: skip
weeks_count = Column("weeks_count", INT, "Weeks since the first of the last 52 with a sale.", "weeks",
                     "weeks_count >= 0")  # fmt: skip
weekly_cv_ratio = Column("weekly_cv_ratio", REAL, "Standard deviation of a week's units over their mean.", "ratio",
                         "weekly_cv_ratio >= 0").or_null("with fewer than 8 weeks")  # fmt: skip
xyz_class = Column("xyz_class", TEXT, "X: weeks vary by up to half of the mean; Y: up to the mean; Z: more.", "",
                   _words("xyz_class", *"XYZ")).or_null("with fewer than 8 weeks")  # fmt: skip

_exception = (
    exception_no, unique_id.or_null("when it is about no series"), exception_code, exception_date, exception_rows,
    is_blocking, message_zh, message_en,
)  # fmt: skip
_known = "when stock is not recorded"
_backtest = "when there was too little history to test"
_override_day = (
    sku, location_code, demand_date, override_id,
    Column("before_mean_qty", REAL, "Units expected that day without this override and those made after it.", "units",
           "before_mean_qty >= 0"),
    Column("after_mean_qty", REAL, "Units expected with it.", "units", "after_mean_qty >= 0"),
)  # fmt: skip
_first_parts = ("demand", "safety", "on_hand", "on_order", "backordered", "surplus", "moq", "pack")
_NEW = "of plans kept before orders were chosen by cost"
_terms = (
    Column("supply_kind", TEXT, "Bought from a supplier, or made here.", "",
           _words("supply_kind", "purchase", "production")),
    Column("order_date", DAY, "First day on which the supplier takes an order."),
    Column("arrival_date", DAY, "When that order is on the shelf, with the usual lead time and the closed days."),
    Column("order_target", TEXT, "What the target quantity was chosen by.", "",
           _words("order_target", "cost", "cycle_service", "fill_rate")),
    Column("fill_rate_ratio", REAL, "Share of demand served from stock until the next order comes.", "ratio",
           "fill_rate_ratio BETWEEN 0 AND 1").or_null("when costs are not known"),
    Column("weekly_holding_cost_cents", REAL, "To keep a unit for a week.", "cents",
           "weekly_holding_cost_cents >= 0").or_null("when the cost is not known"),
    Column("shortage_cost_cents", REAL, "A unit asked for that is not there.", "cents",
           "shortage_cost_cents >= 0").or_null("when the cost is not known"),
    Column("expected_saving_cents", REAL, "Of ordering this now and not at the next review.", "cents"),
)  # fmt: skip
_suggestion = (
    sku, location_code, suggested_qty, order_by_date, stockout_date,
    supplier_code.or_null("when nobody is known to sell it"), unit_cost_cents.or_null("when not known"),
    currency.or_null("when the cost is not known"), order_value_cents.or_null("when the cost is not known"),
    moq_qty, pack_qty, lead_time_days, review_period_days, protection_interval_days, cycle_service_ratio,
    on_hand_qty.or_null(_known), reserved_qty.or_null(_known), on_order_qty, backordered_qty,
    inventory_position_qty.or_null(_known), reorder_point_qty, order_up_to_qty, safety_stock_qty, *parts,
    grade.or_null("when it was not tested"), reason_codes, facts, *_terms,
)  # fmt: skip
_kept_suggestion = tuple(
    column.or_null(_NEW)
    if column in _terms or (column in parts and column.name.removesuffix("_part_qty") not in _first_parts)
    else column
    for column in _suggestion
)
_suggestion_rules = (
    Rule(f"suggested_qty = {' + '.join(PARTS)}", "the waterfall ends at the suggestion"),
    Rule("order_value_cents = suggested_qty * unit_cost_cents", "the value is that of the suggestion"),
)
_choice = (
    model.or_null("when no forecast was made"),
    grade.or_null("when no forecast was made"),
    wape_ratio.or_null(_backtest),
    rmsse.or_null(_backtest),
    bias_units.or_null(_backtest),
    baseline_model.or_null(_backtest),
    baseline_wape_ratio.or_null(_backtest),
    skill_ratio.or_null(_backtest),
    folds,
    alternatives.or_null(_backtest),
    demand_class.or_null("without demand"),
    adi.or_null("without demand"),
    cv2.or_null("without demand"),
    first_demand_date.or_null("without demand"),
    last_demand_date.or_null("without demand"),
    is_dying,
    is_new,
    history_days,
    demand_days,
    censored_days,
    is_stock_recorded,
    reason_codes,
    facts,
)
MART_TABLES = (
    Table("mart", "demand_forecast", "One row per SKU, location and future day: demand of that day.",
          ("sku", "location_code", "demand_date"),
          (sku, location_code, demand_date, horizon_days, model_mean_qty, mean_qty, *quantiles, model),
          (quantiles_rise,)),
    Table("mart", "demand_forecast_total",
          "One row per SKU, location and future day: demand from the day after the as-of date through that day.",
          ("sku", "location_code", "demand_date"),
          (sku, location_code, demand_date, horizon_days, model_mean_qty, mean_qty, *quantiles, model),
          (quantiles_rise,)),
    Table("mart", "pool_forecast", "One row per SKU whose places send for each other and future day: demand of that day.",
          ("sku", "demand_date"), (sku, demand_date, horizon_days, model_mean_qty, mean_qty, *quantiles, model),
          (quantiles_rise,)),
    Table("mart", "pool_forecast_total",
          "One row per SKU whose places send for each other and future day: demand of them all through that day.",
          ("sku", "demand_date"), (sku, demand_date, horizon_days, model_mean_qty, mean_qty, *quantiles, model),
          (quantiles_rise,)),
    Table("mart", "pool_forecast_choice", "One row per SKU whose places send for each other: how their sum is forecast.",
          ("sku",), (sku, *_choice)),
    Table("mart", "forecast_override", "One row per override in force and coming day it changes.",
          ("override_id", "demand_date"), _override_day),
    Table("mart", "forecast_choice", "One row per SKU and location that was asked about.", ("sku", "location_code"),
          (sku, location_code, *_choice)),
    Table("mart", "forecast_exception", "One row per thing the forecast set aside for a person to look at.",
          ("exception_no",), _exception),
    Table("mart", "suggestion_exception", "One row per series that no quantity could be suggested for.",
          ("exception_no",), _exception),
    Table("mart", "reorder_suggestion", "One row per SKU and location with a forecast.", ("sku", "location_code"),
          _suggestion, _suggestion_rules),
    Table("mart", "transfer_suggestion",
          "One row per SKU and pair of locations: units to move instead of buying them.",
          ("sku", "from_location_code", "to_location_code"), (
        sku, Column("from_location_code", TEXT, "Where there is too much of it."),
        Column("to_location_code", TEXT, "Where it is needed."),
        Column("transfer_qty", INT, "Units to move.", "units", "transfer_qty > 0"),
        Column("saving_cents", REAL, "What it saves against buying them.", "cents"),
    ), (Rule("saving_cents > 0", "nothing moves that is cheaper bought"),)),
    Table("mart", "supplier_order",
          "One row per supplier with a least order value of whom something is needed: what became of its order.",
          ("supplier_code",), (
        supplier_code, Column("decision", TEXT, "Large enough, raised to the least value, waiting for the next review, "
                              "beyond the budget, or not checked because a cost is not known.", "",
                              _words("decision", "enough", "raised", "waited", "beyond_budget", "unknown")),
        _count("suggested_lines_count", "Lines suggested."),
        _cents("order_value_cents", "Their value.", "order_value_cents >= 0").or_null("when a cost is not known"),
        min_order_cents, Column("saving_cents", REAL, "Of ordering now and not at the next review.", "cents").or_null(
            "when a cost is not known"),
    )),
    Table("mart", "service_curve",
          "One row per SKU, place that is planned and target: what ordering to it would cost if demand went on as in the "
          "coming weeks.", ("sku", "planned_place", "order_aim", "service_ratio"), (
        sku, Column("planned_place", TEXT, "The location's code; * for all places that send for each other."),
        Column("order_aim", TEXT, "A cycle service, the least cost, or what orders aim at now.", "",
               _words("order_aim", "cycle_service", "cost", "now")),
        Column("service_ratio", REAL, "Chance of no stock-out in a cycle.", "ratio",
               "service_ratio BETWEEN 0 AND 1"),
        order_up_to_qty,
        Column("mean_on_hand_qty", REAL, "Expected units there of an evening.", "units", "mean_on_hand_qty >= 0"),
        Column("yearly_demand_qty", REAL, "Expected demand of a year.", "units", "yearly_demand_qty >= 0"),
        Column("yearly_short_qty", REAL, "Of it, expected to meet no stock.", "units"),
        Column("mean_stock_cents", REAL, "The units there at cost.", "cents").or_null("when the cost is not known"),
        Column("yearly_holding_cents", REAL, "What keeping them costs in a year.", "cents").or_null(
            "when the cost is not known"),
        Column("yearly_shortage_cents", REAL, "What is lost in a year by what is short.", "cents").or_null(
            "when neither cost nor price is known"),
        currency.or_null("when nobody sells it to us and no cost is known"),
    )),
    Table("mart", "suggestion_history",
          "One row per day, SKU and location: the suggestion as it was made from what was known at the end of that day.",
          ("as_of_date", "sku", "location_code"), (as_of_date, *_kept_suggestion), _suggestion_rules),
    Table("mart", "forecast_history",
          "One row per day, SKU, location and horizon of 1, 2, 4, 8, 13 and 26 weeks: demand forecast at the end of that "
          "day, from the next day through `demand_date`.",
          ("as_of_date", "sku", "location_code", "horizon_days"),
          (as_of_date, sku, location_code, demand_date, horizon_days,
           model_mean_qty.or_null("of plans kept before there were overrides"), mean_qty, *quantiles, model),
          (quantiles_rise,)),
    Table("mart", "override_history",
          "One row per day of a plan, override in force in it and coming day it changed.",
          ("as_of_date", "override_id", "demand_date"), (as_of_date, *_override_day)),
    Table("mart", "override_value",
          "One row per override with days that are known by now: errors with and without it, in the first plan that had "
          "it, in weeks from its first day; days on which stock was out are left out.",
          ("override_id",), (
        override_id, sku, location_code, author, reason, override_kind, override_amount, from_date, through_date,
        withdrawn_at, Column("known_days", INT, "Days compared.", "days", "known_days > 0"),
        Column("actual_qty", REAL, "Demand of these days.", "units", "actual_qty >= 0"),
        Column("before_qty", REAL, "Forecast of these days without the override.", "units", "before_qty >= 0"),
        Column("after_qty", REAL, "Forecast of these days with it.", "units", "after_qty >= 0"),
        Column("before_error_qty", REAL, "Sum over weeks of the absolute error without it.", "units",
               "before_error_qty >= 0"),
        Column("after_error_qty", REAL, "Sum over weeks of the absolute error with it.", "units",
               "after_error_qty >= 0"),
        Column("value_added_qty", REAL, "Error without less error with it: above 0 it helped.", "units"),
    )),
    Table("mart", "backlog", "One row per stage, age and currency of open orders.", ("stage", "age_days", "currency"), (
        stage, age_days, currency, orders_count, open_qty, open_value_cents,
    )),
    Table("mart", "on_time_in_full", "One row per promised day that has come, location and channel of live orders.",
          ("promised_by_date", "location_code", "channel_code"), (
        Column("promised_by_date", DAY, "At the customer's door by."), location_code, channel_code, lines_due,
        lines_in_full, lines_on_time_in_full, due_qty, on_time_qty, otif_ratio,
    ), (Rule("lines_in_full <= lines_due", "what arrived was due"),
        Rule("lines_on_time_in_full <= lines_in_full", "what arrived in time has arrived"),
        Rule("on_time_qty <= due_qty", "units in time were due"))),
    Table("mart", "cycle_time", "One row per stage of live orders and business day on which orders ended it.",
          ("cycle_stage", "ended_date"), (
        cycle_stage, ended_date, orders_count, median_hours, p90_hours,
    ), (Rule("median_hours <= p90_hours", "the slowest tenth is not faster than the middle"),)),
    Table("mart", "channel_daily", "One row per business day, channel and currency of orders.",
          ("business_date", "channel_code", "currency"), (
        business_date, channel_code, currency, orders_count, cancelled_count, wanted_qty, net_cents,
    ), (Rule("cancelled_count <= orders_count", "what was cancelled was placed"),)),
    Table("mart", "customer", "One row per customer and currency of its orders that were not cancelled.",
          ("customer_code", "currency"), (
        customer_code, currency, first_order_date, last_order_date, orders_count, wanted_qty, net_cents,
        days_between_orders,
    ), (Rule("first_order_date <= last_order_date", "the first is not after the last"),)),
    Table("mart", "return_daily",
          "One row per business day on which returns were asked for, channel and currency: what became of them so far.",
          ("business_date", "channel_code", "currency"), (
        business_date, channel_code, currency, returns_count, refused_count, asked_qty, returned_qty, restocked_qty,
        repair_qty, scrapped_qty, refund_cents,
    ), (Rule("returned_qty <= asked_qty", "what came back was asked for"),
        Rule("restocked_qty + repair_qty + scrapped_qty <= returned_qty", "what was decided on came back"))),
    Table("mart", "satisfaction",
          "One row per business day on which tickets were opened or customers asked how it was: what came of both so far.",
          ("business_date",), (
        business_date, tickets_count, answered_count, answered_on_time_count, solved_count, first_answer_median_hours,
        asked_count, scored_count, low_score_count, mean_score,
    ), (Rule("answered_count <= tickets_count", "what was answered was opened"),
        Rule("answered_on_time_count <= answered_count", "what was answered in time was answered"),
        Rule("scored_count <= asked_count", "who answered was asked"),
        Rule("low_score_count <= scored_count", "a low score is a score"))),
    Table("mart", "turnover", "One row per SKU and location with stock, or of which any left in a year.",
          ("sku", "location_code"), (
        sku, location_code, sold_28d_qty, sold_91d_qty, sold_365d_qty, on_hand_qty.or_null(_known), mean_on_hand_qty,
        turns_ratio, cover_days,
    ), (Rule("sold_28d_qty <= sold_91d_qty", "the longer window holds the shorter"),
        Rule("sold_91d_qty <= sold_365d_qty", "the longer window holds the shorter"))),
    Table("mart", "excess_dead_stock", "One row per SKU and location where stock lies that does not sell.",
          ("sku", "location_code"), (
        sku, location_code, stock_class, on_hand_qty, excess_qty, sold_91d_qty, first_stock_date, last_shipped_date,
        unit_cost_cents.or_null("when not known"), excess_value_cents, currency.or_null("when the cost is not known"),
    ), (Rule("excess_qty <= on_hand_qty", "no more is too much than is there"),
        Rule("excess_value_cents = excess_qty * unit_cost_cents", "the value is that of the excess"))),
    Table("mart", "abc_xyz", "One row per SKU and currency in which it was asked for in a year.", ("sku", "currency"), (
        sku, currency, net_cents, abc_class, weeks_count, weekly_cv_ratio, xyz_class,
    )),
)  # fmt: skip

HISTORY_TABLES = ("mart.suggestion_history", "mart.forecast_history", "mart.override_history")
"""Tables that keep a day's rows for good; a day is written by the daily run of that day (`meta.plan_day`)."""

TABLES: tuple[Table, ...] = (*RAW_TABLES, *CORE_TABLES, *MART_TABLES, *META_TABLES, WATERMARK, CHANGED_KEY)


def table(full_name: str) -> Table:
    """The declaration of a table, such as `table("core.dim_product")`."""
    return next(table for table in TABLES if table.full_name == full_name)
