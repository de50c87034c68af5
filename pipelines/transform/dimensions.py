"""What things are: products, locations, customers, suppliers, channels. Each function gives the query of one table."""

from pipelines.transform.as_of import AsOf


def dim_product(as_of: AsOf) -> str:
    """One row per SKU that existed by the as-of date."""
    return f"""
      SELECT sku, sku_name, sku_name_en, product_code, category_code, category_name, category_name_en, sku_kind,
        supply_mode, is_sku_stock_tracked, base_unit, units_per_pack, launched_date,
        CASE WHEN discontinued_date <= {as_of.day_sql} THEN discontinued_date
             WHEN sku_status = 'discontinued' AND changed_at IS NOT NULL AND {as_of.known("changed_at")}
             THEN {as_of.business_day("changed_at")} END AS discontinued_date
      FROM raw.sku WHERE {as_of.known("created_at")}"""


def dim_location(as_of: AsOf) -> str:
    """One row per location."""
    return """
      SELECT location_code, location_name, location_name_en, location_kind, country, region, is_default,
        is_location_stock_tracked
      FROM raw.location"""


def dim_customer(as_of: AsOf) -> str:
    """One row per customer who existed by the as-of date."""
    return f"""
      SELECT customer_code, customer_name, customer_kind, language, level_code
      FROM raw.customer WHERE {as_of.known("created_at")}"""


def dim_supplier(as_of: AsOf) -> str:
    """One row per supplier."""
    return """
      SELECT supplier_code, supplier_name, supplier_name_en, currency, lead_time_days, lead_time_sd_days,
        review_period_days
      FROM raw.supplier"""


def dim_channel(as_of: AsOf) -> str:
    """One row per channel."""
    return "SELECT channel_code, channel_name, channel_name_en, channel_kind FROM raw.channel"
