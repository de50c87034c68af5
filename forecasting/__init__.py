"""Demand forecasts and replenishment suggestions: frames in, frames out. Knows no database and nothing else of ours.

Three calls do the whole work; each takes Polars or pandas frames and gives back the same kind.

    from forecasting.forecast import plan_demand
    from forecasting.replenishment import suggest

    plan = plan_demand(history, as_of=date(2011, 8, 31), horizon_days=56, items=items, closed_dates=closed)
    buy = suggest(plan.totals, positions, as_of=date(2011, 8, 31), choices=plan.choices)

``history`` (grain: unique_id, ds)
    unique_id    str   one thing that is stocked at one place, e.g. ``SKU@LOCATION``
    ds           date  local business day; datetimes are cut to their day
    y            float demand asked for that day, units; missing days are zero demand
    is_censored  bool  True: stock ran out that day, y is only a lower bound. NULL or no column: stock is not recorded

``items`` (optional, grain: unique_id; every column but the first may be missing or NULL)
    unique_id, start_date (relaunch: nothing before it is learned from), end_date (discontinued: no forecast after it),
    unit_cost_cents (ranks who gets the slow models), prior_daily_qty (forecast for an item without history).
    An item that has no history at all is listed in ``exceptions`` as ``empty_history``.

``plan_demand(history, *, as_of, horizon_days=28, items=None, closed_dates=(), duplicates="error", settings=...)``
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

``suggest(totals, positions, *, as_of, cycle_service_ratio=0.95, choices=None)`` -> ``Suggestions``
``positions`` (grain: unique_id; NULL or missing column means the default)
    unique_id, lead_time_days int, review_period_days int, on_hand_qty int (NULL: stock not recorded), on_order_qty int,
    backordered_qty int, moq_qty int, pack_qty int, cycle_service_ratio float
``suggestions`` (grain: unique_id)
    unique_id, suggested_qty int, order_by_date date (NULL: not within the horizon), protection_interval_days,
    expected_demand_qty float, the position it was worked out from, grade,
    cycle_service_ratio, order_up_to_qty, reorder_point_qty, safety_stock_qty, inventory_position_qty (NULL when not
    recorded), stockout_date, and the waterfall, integers that sum exactly to suggested_qty:
    demand_part_qty + safety_part_qty + on_hand_part_qty (-) + on_order_part_qty (-) + backordered_part_qty (+)
    + surplus_part_qty (+, stock above the target) + moq_part_qty + pack_part_qty; reason_codes list[str], facts JSON
    text
``exceptions``: as above

Reason codes of a suggestion that need care: ``stock_not_recorded`` (on hand is NULL: worked out as if the shelf were empty) and
``stock_outs_unknown`` (the history doesn't say when stock ran out, so demand of such days was learned as it was sold).

Importing this package costs nothing; each module imports what it needs.
"""
