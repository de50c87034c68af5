"""What things cost and are sold for, with the period each amount holds and the moment from which it was known."""

from pipelines.transform.as_of import AsOf


def fct_price(as_of: AsOf) -> str:
    """One row per price entered by the as-of date."""
    return f"""
      SELECT p.price_id, k.sku, p.price_kind, p.level_code, c.customer_code, p.selling_unit, p.min_packs,
        p.unit_price_cents, p.currency, p.valid_from_date, p.valid_to_date, p.created_at AS known_from_at
      FROM raw.price p JOIN raw.sku k USING (sku_id) LEFT JOIN raw.customer c USING (customer_id)
      WHERE {as_of.known("p.created_at")}"""


def fct_cost(as_of: AsOf) -> str:
    """One row per cost entered by the as-of date."""
    return f"""
      SELECT t.cost_id, k.sku, l.location_code, t.cost_kind, t.unit_cost_cents, t.currency, t.valid_from_date,
        t.valid_to_date, t.created_at AS known_from_at
      FROM raw.cost t JOIN raw.sku k USING (sku_id) LEFT JOIN raw.location l USING (location_id)
      WHERE {as_of.known("t.created_at")}"""
