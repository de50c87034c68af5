"""What things cost and are sold for, with the period each amount holds and the moment from which it was known.

The end of a period is written when the next amount is entered: until then nobody knew it. So an end is left out where
the amount that follows it was entered after the as-of date; one that was agreed beforehand stays.
"""

from pipelines.transform.as_of import AsOf


def fct_price(as_of: AsOf) -> str:
    """One row per price entered by the as-of date."""
    return f"""
      WITH later AS (
        SELECT DISTINCT sku_id, price_kind, level_code, customer_id, currency, selling_unit, min_packs,
          valid_from_date - 1 AS valid_to_date
        FROM raw.price WHERE NOT {as_of.known("created_at")}
      )
      SELECT p.price_id, k.sku, p.price_kind, p.level_code, c.customer_code, p.selling_unit, p.min_packs,
        p.unit_price_cents, p.currency, p.valid_from_date,
        CASE WHEN n.sku_id IS NULL THEN p.valid_to_date END AS valid_to_date, p.created_at AS known_from_at
      FROM raw.price p JOIN raw.sku k USING (sku_id) LEFT JOIN raw.customer c USING (customer_id)
        LEFT JOIN later n ON n.sku_id = p.sku_id AND n.price_kind = p.price_kind AND n.currency = p.currency
          AND n.selling_unit = p.selling_unit AND n.min_packs = p.min_packs AND n.valid_to_date = p.valid_to_date
          AND n.level_code IS NOT DISTINCT FROM p.level_code AND n.customer_id IS NOT DISTINCT FROM p.customer_id
      WHERE {as_of.known("p.created_at")}"""


def fct_cost(as_of: AsOf) -> str:
    """One row per cost entered by the as-of date."""
    return f"""
      WITH later AS (
        SELECT DISTINCT sku_id, location_id, cost_kind, currency, valid_from_date - 1 AS valid_to_date
        FROM raw.cost WHERE NOT {as_of.known("created_at")}
      )
      SELECT t.cost_id, k.sku, l.location_code, t.cost_kind, t.unit_cost_cents, t.currency, t.valid_from_date,
        CASE WHEN n.sku_id IS NULL THEN t.valid_to_date END AS valid_to_date, t.created_at AS known_from_at
      FROM raw.cost t JOIN raw.sku k USING (sku_id) LEFT JOIN raw.location l USING (location_id)
        LEFT JOIN later n ON n.sku_id = t.sku_id AND n.cost_kind = t.cost_kind AND n.currency = t.currency
          AND n.valid_to_date = t.valid_to_date AND n.location_id IS NOT DISTINCT FROM t.location_id
      WHERE {as_of.known("t.created_at")}"""
