"""Demand forecasts and replenishment suggestions: frames in, frames out. Knows no database and nothing else of ours.

Three calls do the whole work; each takes Polars or pandas frames and gives back the same kind.

    from forecasting.forecast import plan_demand
    from forecasting.replenishment import suggest

    plan = plan_demand(history, as_of=date(2011, 8, 31), horizon_days=56, items=items, closed_dates=closed)
    buy = suggest(plan.totals, positions, as_of=date(2011, 8, 31), choices=plan.choices)

A frame may have columns of the caller's own. One that lacks a column it must have is refused (``errors.MissingColumns``); one
that looks like a column that would be read, such as ``supplier_cod``, is warned of (``errors.MisspeltColumn``), as is a
``history`` of sums of months (``errors.MonthlyRows``). All have a ``code`` and a ``text("zh")``.

``history`` (grain: unique_id, ds)
    unique_id    str   one thing that is stocked at one place, e.g. ``SKU@LOCATION``
    ds           date  local business day; datetimes are cut to their day. Rows before five years without a row of any series
                 are a mistyped year: not used, listed in ``exceptions`` as ``implausible_date`` (``history_too_old``: no other)
    y            float demand asked for that day, units; missing days are zero demand. Sums of weeks may stand on one of their
                 days; sums of months may not: spread them over their days
    is_censored  bool  True: stock ran out that day, y is only a lower bound. NULL or no column: stock is not recorded

``items`` (optional, grain: unique_id; every column but the first may be missing or NULL)
    unique_id, start_date (relaunch: nothing before it is learned from), end_date (discontinued: no forecast after it),
    unit_cost_cents (ranks who gets the slow models), prior_daily_qty (forecast for an item without history).
    product, category, location, channel str (groups that learn together); name, supplier str and price float: with name or
    category a series of less than four weeks is told from similar ones of its location (model ``similar``).
    An item that has no history at all is listed in ``exceptions`` as ``empty_history``.

``promotions`` (optional, one row per promotion, past and planned)
    unique_id or product (of ``items``; neither: all series), start_date, end_date (both included), depth_ratio float
    (0.2 = 20 % off)

``plan_demand(history, *, as_of, horizon_days=28, items=None, closed_dates=(), promotions=None, duplicates="error",
settings=...)``
    -> ``DemandPlan`` with the frames

``forecasts`` (grain: unique_id, ds; horizon_days rows per series, sorted)
    unique_id str, ds date, horizon_days int (1 = the day after as_of), mean float (units that day),
    q05 q10 q25 q50 q75 q90 q95 q98 q99 float (quantiles of that day), model str
``totals`` (grain: unique_id, horizon_days): demand from the day after as_of through ``ds``, both included.
    Same columns. ``mean`` is the running sum of the daily means; the quantiles are those of the running total,
    which daily quantiles can't be added up to. Replenishment reads these.
``choices`` (one row per series asked about)
    unique_id, model, grade (A-D, see forecasting.choose), wape_ratio and rmsse and bias_units (backtest of the choice,
    honest: each fold judged by a choice made without it), baseline_model, baseline_wape_ratio, skill_ratio
    (1 - error / baseline error), folds int, alternatives (JSON text {model: error}), demand_class, adi, cv2,
    first_demand_date, last_demand_date, history_days, demand_days, censored_days, is_stock_recorded bool, is_dying,
    is_new, reason_codes list[str], facts (JSON text; forecasting.reasons renders both to a zh/en sentence)
``exceptions`` (one row per thing a person should look at)
    unique_id, ds (NULL: the whole series), code, value text, rows int, is_blocking bool (True: no forecast was made),
    message_zh, message_en
``backtest`` (grain: unique_id, cutoff, model, ds): week ending ``ds``: y, mean, is_masked
``counts`` dict[str, int]: rows_read, rows_used, rows_after_as_of, rows_clipped, rows_summed, rows_quarantined, series,
…

``suggest(totals, positions, *, as_of, cycle_service_ratio=0.95, choices=None, paths=None, target=None, ...)``
    -> ``Suggestions``
    With ``paths`` (``marginal.Paths``: unique_ids, start, y = series x path x period, period_days 1 or 7) the
    quantity is chosen by expected cost over them (``target="cost"``), without by the quantiles of ``totals``
    (``"cycle_service"``); ``"fill_rate"`` too.
    Also: ``on_order`` and ``expiring`` (unique_id, ds, qty), ``closed_days`` (supplier_code, ds), ``suppliers``
    (supplier_code, min_order_cents), ``routes`` (transfers), ``budget_cents``, ``settings`` (``OrderSettings``:
    what unknown costs are derived from)
``positions`` (grain: unique_id; NULL or missing column means the default)
    unique_id, lead_time_days int, review_period_days int, on_hand_qty int (NULL: stock not recorded), on_order_qty
    int, backordered_qty int, moq_qty int, pack_qty int, cycle_service_ratio float, fill_rate_ratio float, target
    str
    lead_times_days list[int]: equally likely lead times (``supply.lead_time_samples``), in place of one for certain
    currency str: of the amounts, so that reasons can say them
    unit_cost_cents, unit_price_cents, weekly_holding_cost_cents (a unit kept for a week), shortage_cost_cents (a
    unit lost, or a unit and week that it waits), order_cost_cents (an order, whatever its size): float
    price_breaks: JSON text [{"min_qty", "unit_cost_cents"}], all units; shelf_life_days int
    policy "order_up_to" | "s_S" | "R_Q" (exact, by cost over the paths); min_qty and max_qty int (below min up to
    max)
    supply_kind "purchase" | "production", supplier_code, sku, location_code: str
    pool_id str (places that send for each other), idle_elsewhere_qty int (free at places of the pool that have no
    position, because they never sold it)
``suggestions`` (grain: unique_id)
    unique_id, suggested_qty int, supply_kind, order_date (first day the supplier takes an order), arrival_date,
    order_by_date date (of places that send for each other, of them all; where nothing is worth ordering now, not before
    the next review; NULL: not within the horizon), protection_interval_days (with the supplier's closed days),
    expected_demand_qty float, the position it was worked out from, grade, target (named), cycle_service_ratio and
    fill_rate_ratio (what the quantity reaches), order_up_to_qty, reorder_point_qty, safety_stock_qty,
    inventory_position_qty (NULL when not recorded), stockout_date, unit_cost_cents (paid),
    weekly_holding_cost_cents, shortage_cost_cents, expected_saving_cents (of ordering this now and not at the next
    review), and the waterfall, integers that sum exactly to suggested_qty: the columns ``replenishment.PARTS``,
    signs included (what each is: ``forecasting.replenishment``); reason_codes list[str], facts JSON text
``transfers`` (sku, from_unique_id, to_unique_id, from_location_code, to_location_code, supply_kind "transfer",
    transfer_qty, saving_cents) and ``suppliers`` (supplier_code, decision "enough" | "raised" | "waited" |
    "beyond_budget" | "unknown", lines, order_value_cents, min_order_cents, saving_cents): one row per supplier
    with a least order value and something to buy
``exceptions``: as above

Reason codes of a suggestion that need care: ``stock_not_recorded`` (on hand is NULL: worked out as if the shelf were empty) and
``stock_outs_unknown`` (the history doesn't say when stock ran out, so demand of such days was learned as it was sold).

Beside the two calls, each with arrays or frames in and out: ``events`` (holidays that move, shopping days, promotions and
prices on the forecast's weeks, and what an event multiplies demand by), ``hierarchy`` (totals of products, categories,
locations, channels that add up), ``similar`` (products without a past), ``shape`` (stage of life, trend and season,
weeks that stick out), ``replay`` (what any way of ordering would have cost in money), ``inventory`` (what a service target
costs in stock, what lies too long), ``stock_price`` (what a unit is worth where it lies).

Importing this package costs nothing; each module imports what it needs.
"""
