"""Every code this package writes, and the sentence a planner reads for it, in Chinese and English.

A row stores `reason_codes` and `facts` (JSON); `sentences` renders them where they are shown. Nothing else words them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from forecasting.money import money

Language = Literal["zh", "en"]

# What models and classes are called, (中文, English); facts hold the keys.
WORDS: dict[str, tuple[str, str]] = {
    "last_week": ("同上周", "same as last week"),
    "last_year": ("同去年同期", "same week last year"),
    "mean_4_weeks": ("近4周平均", "mean of the last 4 weeks"),
    "mean_8_weeks": ("近8周平均", "mean of the last 8 weeks"),
    "theta": ("Theta 法", "Theta"),
    "croston_sba": ("Croston-SBA 法", "Croston, Syntetos–Boylan"),
    "tsb": ("TSB 法", "Teunter–Syntetos–Babai"),
    "imapa": ("IMAPA 多级聚合", "IMAPA"),
    "ces": ("复指数平滑", "complex exponential smoothing"),
    "theta_and_mean": ("Theta 与近8周平均的均值", "mean of Theta and the last 8 weeks"),
    "tsb_and_imapa": ("TSB 与 IMAPA 的均值", "mean of TSB and IMAPA"),
    "boosted": ("全部商品一起学习的提升树", "boosted trees learned from all products"),
    "boosted_and_theta": ("提升树与 Theta、近8周平均的均值", "mean of boosted trees and Theta with the last 8 weeks"),
    "boosted_and_tsb": ("提升树与 TSB、IMAPA 的均值", "mean of boosted trees and TSB with IMAPA"),
    "pooled": ("全部间歇商品的频率与数量", "rates and sizes of all such products"),
    "boosted_and_pooled": ("提升树与间歇商品频率的均值", "mean of boosted trees and the rates of all such products"),
    "mean_so_far": ("上市以来日均", "daily mean so far"),
    "similar": ("参考相似商品", "similar products"),
    "prior": ("给定的日均需求", "given daily demand"),
    "no_demand": ("无需求", "no demand"),
    "discontinued": ("已停产停售", "discontinued"),
    "smooth": ("平稳", "smooth"),
    "erratic": ("波动", "erratic"),
    "intermittent": ("间歇", "intermittent"),
    "lumpy": ("块状", "lumpy"),
}

# Festivals and shopping days of `events`, (中文, English); other holidays keep the library's English name.
EVENT_WORDS: dict[str, tuple[str, str]] = {
    "new_year": ("元旦", "New Year's Day"),
    "spring_festival": ("春节", "Spring Festival"),
    "qingming": ("清明", "Qingming"),
    "labour_day": ("五一", "Labour Day"),
    "dragon_boat": ("端午", "Dragon Boat Festival"),
    "mid_autumn": ("中秋", "Mid-Autumn Festival"),
    "national_day": ("国庆", "National Day"),
    "618": ("618", "618"),
    "double_11": ("双11", "Double 11"),
    "double_12": ("双12", "Double 12"),
    "black_friday": ("黑色星期五", "Black Friday"),
}
WORDS |= EVENT_WORDS

# code: (中文, English). {names} are keys of the row's facts.
REASONS: dict[str, tuple[str, str]] = {
    # why this model
    "default_of_class": (
        "{demand_class}需求默认用 {model}，{folds} 折回测中没有模型明显更好"
        "（周误差 {error:.2f}，简单规则 {baseline_model} 为 {baseline_error:.2f}）",
        "{model} is the default for {demand_class} demand; in {folds} backtest folds no model was clearly better "
        "(weekly error {error:.2f}, simple rule {baseline_model} {baseline_error:.2f})",
    ),
    "chosen_by_backtest": (
        "{folds} 折回测中 {model} 误差最小且明显优于默认规则"
        "（周误差 {error:.2f}，简单规则 {baseline_model} 为 {baseline_error:.2f}）",
        "{model} had the lowest error in {folds} backtest folds, clearly below the default "
        "(weekly error {error:.2f}, simple rule {baseline_model} {baseline_error:.2f})",
    ),
    "simple_rule_is_best": (
        "{folds} 折回测中简单规则 {model} 的周误差最小（{error:.2f}），按简单规则预测",
        "the simple rule {model} had the lowest weekly error ({error:.2f}) in {folds} backtest folds and is used",
    ),
    "short_history": (
        "历史仅 {history_days} 天，不足以回测，按 {demand_class} 类的默认规则 {model} 预测",
        "only {history_days} days of history, too few for a backtest: default rule {model} for {demand_class} demand",
    ),
    "explained": (
        "未来 {explained_days} 天 {explained_qty:.1f} 件 = 近8周水平 {level_part_qty:.1f}，缺货补正 {stock_out_part_qty:+.1f}，"
        "季节 {season_part_qty:+.1f}，停业日 {closed_part_qty:+.1f}，趋势及其他 {trend_part_qty:+.1f}",
        "next {explained_days} days {explained_qty:.1f} = level of the last 8 weeks {level_part_qty:.1f}, stock-outs "
        "{stock_out_part_qty:+.1f}, season {season_part_qty:+.1f}, closed days {closed_part_qty:+.1f}, trend and other "
        "signals {trend_part_qty:+.1f}",
    ),
    "explained_with_events": (
        "未来 {explained_days} 天 {explained_qty:.1f} 件 = 近8周水平 {level_part_qty:.1f}，缺货补正 {stock_out_part_qty:+.1f}，"
        "节日与促销 {event_part_qty:+.1f}，季节 {season_part_qty:+.1f}，停业日 {closed_part_qty:+.1f}，"
        "趋势及其他 {trend_part_qty:+.1f}",
        "next {explained_days} days {explained_qty:.1f} = level of the last 8 weeks {level_part_qty:.1f}, stock-outs "
        "{stock_out_part_qty:+.1f}, festivals and promotions {event_part_qty:+.1f}, season {season_part_qty:+.1f}, "
        "closed days {closed_part_qty:+.1f}, trend and other signals {trend_part_qty:+.1f}",
    ),
    "event_ahead": (
        "{event}：{event_from} 起的一周按平常的 {event_factor:.2f} 倍预测",
        "{event}: the week from {event_from} is forecast at {event_factor:.2f} times an ordinary one",
    ),
    "promotion_ahead": (
        "{promotion_from} 起的一周有促销，按平常的 {promotion_factor:.2f} 倍预测",
        "a promotion: the week from {promotion_from} is forecast at {promotion_factor:.2f} times an ordinary one",
    ),
    "no_demand": ("历史上没有需求", "no demand in the whole history"),
    "no_demand_lately": (
        "最近一次需求在 {last_demand_date}，已超过 {quiet_days} 天没有需求",
        "last demand on {last_demand_date}, none for more than {quiet_days} days",
    ),
    "prior": (
        "没有历史，使用给定的日均需求 {prior_daily_qty}",
        "no history; the given daily demand {prior_daily_qty} is used",
    ),
    "discontinued": ("已于 {end_date} 停产停售，之后不预测", "discontinued on {end_date}: no forecast after it"),
    "relaunched": (
        "{start_date} 重新上市，之前的历史不用",
        "relaunched on {start_date}: history before it is not used",
    ),
    "restarted_after_gap": (
        "停销 {gap_weeks} 周后，{weeks_since_restart} 周前重新有需求，之前的历史只用于去年同期",
        "demand came back {weeks_since_restart} weeks ago after {gap_weeks} weeks without: older history only serves last year",
    ),
    "stock_outs_unknown": (
        "历史没有库存记录，无法识别缺货日",
        "the history records no stock, so stock-out days can't be told",
    ),
    "stock_out_days_estimated": (
        "{censored_days} 个缺货日的需求按之前同星期几的均值估计",
        "demand of {censored_days} stock-out days estimated from the same weekday before",
    ),
    "outliers_capped": (
        "{outlier_weeks} 个异常大的周在学习时按 {outlier_cap_qty:.0f} 计，原值保留",
        "{outlier_weeks} unusually large weeks count as {outlier_cap_qty:.0f} when learning; originals kept",
    ),
    "dying": ("需求可能在消失：上次需求在 {last_demand_date}", "demand may be ending: last on {last_demand_date}"),
    "new": ("新品：首次需求在 {first_demand_date}", "new: first demand on {first_demand_date}"),
    "history_adjusted": (
        "{adjustment_author} 调整了历史上 {adjusted_days} 天，学习时按调整后的计：{adjustment_reason}",
        "{adjustment_author} adjusted {adjusted_days} past days, which is what was learned from: {adjustment_reason}",
    ),
    "overridden": (
        "{override_from} 至 {override_through} 的预测由 {override_author} 调整：{override_reason}"
        "（模型 {override_model_qty:.0f}，调整后 {override_qty:.0f}）",
        "{override_author} changed the forecast of {override_from} to {override_through}: {override_reason} "
        "(model {override_model_qty:.0f}, now {override_qty:.0f})",
    ),
    # exceptions of the history
    "empty_history": ("没有任何历史，未预测", "no history at all, not forecast"),
    "bad_value": (
        "需求值不是有限数字：{value}（共 {rows} 行），应写成 1200.5；该序列未预测",
        "demand is not a finite number: {value} ({rows} rows), write it like 1200.5; the series was not forecast",
    ),
    "bad_date": (
        "日期无法识别：{value}（共 {rows} 行），应写成 2026-03-01；该序列未预测",
        "not a date: {value} ({rows} rows), write it like 2026-03-01; the series was not forecast",
    ),
    "missing_id": ("{rows} 行没有序列编号，未使用", "{rows} rows have no unique_id and were not used"),
    "implausible_date": (
        "日期 {value}（第 {row} 行）比其他日期（{others_from} 至 {others_through}）早五年以上，疑为年份写错：{rows} 行未使用",
        "{value} (row {row}) lies more than five years before the other dates, {others_from} to {others_through}; is the year "
        "right? {rows} rows not used",
    ),
    "history_too_old": (
        "所有日期（第 {row} 行起 {value}）都比截至日 {others_from} 早五年以上，{rows} 行未使用；截至日或年份是否写错？",
        "all dates, from {value} (row {row}) on, lie more than five years before the as-of day {others_from}: {rows} rows not "
        "used; is that day or the year right?",
    ),
    "after_as_of": (
        "{rows} 行晚于截至日，未使用，最晚 {value}",
        "{rows} rows later than the as-of day were not used, last {value}",
    ),
    "negative_clipped": (
        "{rows} 行需求为负（退货冲抵），按 0 计，最小 {value}",
        "{rows} rows with negative demand (returns netted) count as zero, lowest {value}",
    ),
    "duplicates_summed": ("{rows} 行与同日的行合并相加", "{rows} rows were added to another row of the same day"),
    "promotion_unknown": (
        "促销商品 {value} 不在其中（{rows} 个促销），未使用",
        "{rows} promotions of {value}, which is not among the series or products: not used",
    ),
    "promotion_unlearned": (
        "有 {rows} 个将到的促销，但以往的促销太少或看不出作用，按平常的一周预测，请人工判断",
        "{rows} promotions ahead, but past ones are too few or showed no effect: forecast as ordinary weeks, judge yourself",
    ),
    "model_failed": ("模型计算失败：{value}", "a model failed: {value}"),
    # what all suggestions aim at
    "aims_at_cost": (
        "补货目标：预期成本最低（成本未知的商品按周期服务率 {cycle_service_ratio}）",
        "orders are for least expected cost (cycle service {cycle_service_ratio} where costs are not known)",
    ),
    "aims_at_cycle_service": (
        "补货目标：周期服务率 {cycle_service_ratio}",
        "orders are for a cycle service of {cycle_service_ratio}",
    ),
    "aims_at_fill_rate": ("补货目标：满足率 {fill_rate_ratio}", "orders are for a fill rate of {fill_rate_ratio}"),
    "aims_within": (
        "每份计划的采购和生产合计不超过 {budget_cents}（之前计划已审核的和进价未知的不计）",
        "the orders of each plan, made goods included, cost no more than {budget_cents} (what was approved of earlier plans "
        "and what has no known cost does not count)",
    ),
    "aims_of_class": (
        "{product_class} 类商品按周期服务率 {cycle_service_ratio}",
        "products of class {product_class} at cycle service {cycle_service_ratio}",
    ),
    "aims_apart": ("各处分别计划", "every place is planned for itself"),
    "aims_for_channels": (
        "为利润最高的渠道保留库存",
        "units are held back for the channel that earns most",
    ),
    "stock_costs": (
        "持有一年的成本为进价的 {holding_ratio}；缺一件的损失为毛利，无售价时为进价的 {shortage_ratio}",
        "keeping a unit for a year costs {holding_ratio} of its cost; a unit short costs its margin, "
        "{shortage_ratio} of the cost where no price is known",
    ),
    "min_max_up_to": (
        "可信度 C、D 且最大库存金额不超过 {min_max_value_cents} 的商品按最小/最大库存",
        "grades C and D go by min/max where the most to stock is worth no more than {min_max_value_cents}",
    ),
    "transfer_costs": (
        "各处之间调拨每次 {transfer_fixed_cents}，每件 {transfer_unit_cents}",
        "goods move between places for {transfer_fixed_cents} a time and {transfer_unit_cents} a unit",
    ),
    "transfers_unused": ("各处互相代发，因此不建议调拨", "no transfers are suggested while places send for each other"),
    # why this quantity
    "below_target": (
        "保护期 {protection_interval_days} 天预期需求 {demand_part_qty}，安全库存 {safety_part_qty:+d}，目标库存 "
        "{order_up_to_qty}；库存头寸 = 可用实物 {on_hand_qty} + 在途 {on_order_qty} − 欠货 {backordered_qty} = "
        "{inventory_position_qty}；{order_up_to_qty} − {inventory_position_qty} = {gap_qty}，建议 {suggested_qty}",
        "{demand_part_qty} expected in {protection_interval_days} days, safety stock "
        "{safety_part_qty:+d}: order-up-to level {order_up_to_qty}; inventory position = {on_hand_qty} "
        "on hand and free + {on_order_qty} on order − {backordered_qty} backordered = "
        "{inventory_position_qty}; {order_up_to_qty} − {inventory_position_qty} = {gap_qty}, order {suggested_qty}",
    ),
    "enough_stock": (
        "保护期 {protection_interval_days} 天预期需求 {demand_part_qty}，安全库存 {safety_part_qty:+d}，目标库存 "
        "{order_up_to_qty}；库存头寸 = 可用实物 {on_hand_qty} + 在途 {on_order_qty} − 欠货 {backordered_qty} = "
        "{inventory_position_qty}；{order_up_to_qty} − {inventory_position_qty} = {gap_qty}，不缺，建议 {suggested_qty}",
        "{demand_part_qty} expected in {protection_interval_days} days, safety stock "
        "{safety_part_qty:+d}: order-up-to level {order_up_to_qty}; inventory position = {on_hand_qty} "
        "on hand and free + {on_order_qty} on order − {backordered_qty} backordered = "
        "{inventory_position_qty}; {order_up_to_qty} − {inventory_position_qty} = {gap_qty}: nothing needed, "
        "order {suggested_qty}",
    ),
    "cold_start": (
        "新品：参考 {analogue_count} 个相似商品上市后的销量（{analogues} 等），每周约 {prior_weekly_qty:.1f}",
        "new: {analogue_count} similar products after their launch ({analogues} first) sold about "
        "{prior_weekly_qty:.1f} a week",
    ),
    "cold_start_own_weeks": (
        "上市 {own_days} 天已售 {own_qty:.0f}，自身销量占 {own_percent}% 权重，调整为每周约 {weekly_qty:.1f}",
        "{own_qty:.0f} sold in its own {own_days} days count for {own_percent}% of the level: about {weekly_qty:.1f} a week",
    ),
    "stock_not_recorded": (
        "没有库存记录，按库存为零计算，请先盘点",
        "stock is not recorded: worked out as if there were none, count before ordering",
    ),
    "service_capped": (
        "周期服务率 {cycle_service_ratio} 超出预测分布的范围，按最近的分位数计算",
        "the cycle service ratio {cycle_service_ratio} lies outside the forecast's quantiles; the nearest is used",
    ),
    "order_overdue": (
        "已低于再订货点 {reorder_point_qty}，应立即订",
        "already below the reorder point {reorder_point_qty}: order now",
    ),
    "order_overdue_together": (
        "各处合计 {pool_position_qty}，已低于合计再订货点 {pool_reorder_point_qty}，应立即订",
        "together they have {pool_position_qty}, below their reorder point {pool_reorder_point_qty}: order now",
    ),
    "customers_wait_here": (
        "有客户在等本处的 {waiting_qty} 件，别处不代发，应立即订",
        "customers wait for {waiting_qty} units promised from here, which no other place sends: order now",
    ),
    "moq_applied": (
        "按起订量 {moq_qty} 提高（{moq_part_qty:+d}）",
        "raised to the minimum order quantity {moq_qty} ({moq_part_qty:+d})",
    ),
    "pack_rounded": (
        "按箱规 {pack_qty} 取整（{pack_part_qty:+d}）",
        "rounded up to full packs of {pack_qty} ({pack_part_qty:+d})",
    ),
    "pack_rounded_down": (
        "按箱规 {pack_qty} 舍去零头更省（{pack_part_qty:+d}）",
        "rounded down to full packs of {pack_qty}, which is expected to cost less ({pack_part_qty:+d})",
    ),
    "by_cost": (
        "目标按预期成本最低：一件存一周 {weekly_holding_cost_cents}，缺一件 {shortage_cost_cents}；目标的最后一件有 "
        "{last_missed_ratio} 的可能用得上，省 {last_saving_cents}，预计存 {last_kept_weeks:.2f} 周，花 "
        "{last_cost_cents}；再多一件省 {next_saving_cents}，花 {next_cost_cents}；不缺货概率 {cycle_service_ratio}",
        "target by least expected cost: {weekly_holding_cost_cents} to keep a unit for a week, "
        "{shortage_cost_cents} for a unit short; the last unit of the target is needed with a chance of "
        "{last_missed_ratio}, which saves {last_saving_cents}, and is kept for {last_kept_weeks:.2f} "
        "weeks, which costs {last_cost_cents}; one more would save {next_saving_cents} and cost "
        "{next_cost_cents}; chance of no stock-out {cycle_service_ratio}",
    ),
    "by_cost_waiting": (
        "目标按预期成本最低：一件存一周 {weekly_holding_cost_cents}，欠一件一周 {shortage_cost_cents}；"
        "目标的最后一件预计让人少等 {last_missed_weeks:.2f} 周，省 {last_saving_cents}，预计存 {last_kept_weeks:.2f} 周，"
        "花 {last_cost_cents}；再多一件省 {next_saving_cents}，花 {next_cost_cents}；不缺货概率 {cycle_service_ratio}",
        "target by least expected cost: {weekly_holding_cost_cents} to keep a unit for a week, {shortage_cost_cents} for a "
        "unit and week of waiting; the last unit of the target saves {last_missed_weeks:.2f} weeks of waiting, which is "
        "{last_saving_cents}, and is kept for {last_kept_weeks:.2f} weeks, which costs {last_cost_cents}; one more would "
        "save {next_saving_cents} and cost {next_cost_cents}; chance of no stock-out {cycle_service_ratio}",
    ),
    "by_cycle_service": (
        "目标按周期服务率：这么多天的需求有 {cycle_service_ratio} 的可能不超过目标库存",
        "target by cycle service: the demand of these days stays within the target with a chance of "
        "{cycle_service_ratio}",
    ),
    "by_fill_rate": (
        "目标按满足率，可满足需求的 {fill_rate_ratio}",
        "target by fill rate: {fill_rate_ratio} of demand served from stock",
    ),
    "cost_unknown": (
        "成本未知，改按周期服务率",
        "costs are not known: the target is the cycle service ratio instead",
    ),
    "by_s_S": (
        "(s, S):库存头寸降到 {reorder_at_qty} 或以下时补到 {max_qty}",
        "(s, S): at {reorder_at_qty} or below order up to {max_qty}",
    ),
    "by_R_Q": (
        "(R, Q):库存头寸降到 {reorder_at_qty} 或以下时按批量 {lot_qty} 订",
        "(R, Q): at {reorder_at_qty} or below order lots of {lot_qty}",
    ),
    "min_max": (
        "低值且预测可信度低，自动按最小 {min_qty} / 最大 {max_qty} 补货",
        "cheap, and the forecast earns little trust: goes by itself with min {min_qty} / max {max_qty}",
    ),
    "min_max_given": (
        "按给定的最小 {min_qty} / 最大 {max_qty} 补货",
        "by the given min {min_qty} / max {max_qty}",
    ),
    "expires_unsold": (
        "其中约 {expiring_qty} 件不是卖掉，而是实物库存预计过期卖不掉",
        "of what is expected to go, about {expiring_qty} are units on hand that expire unsold",
    ),
    "on_order_late": (
        "在途中有 {late_part_qty} 件要到下次补货之后才到，不计（{late_part_qty:+d}）",
        "{late_part_qty} units on order come only after the next order would and don't count ({late_part_qty:+d})",
    ),
    "lost_on_average": (
        "补货到货前预期需求 {until_arrival_demand_qty:.1f}，现有 {free_now_qty}，其间到货 {coming_before_qty:.1f}；"
        "{futures} 种可能中有 {short_futures} 种会断货，平均少 {missed_qty:.2f}："
        "{short_futures} × {missed_qty:.2f} ÷ {futures} = {lost_mean_qty:.2f}",
        "until an order can arrive {until_arrival_demand_qty:.1f} are expected to be asked for, {free_now_qty} are there and "
        "{coming_before_qty:.1f} come; in {short_futures} of {futures} possible futures stock runs out meanwhile, "
        "{missed_qty:.2f} short on average: {short_futures} × {missed_qty:.2f} ÷ {futures} = {lost_mean_qty:.2f}",
    ),
    "lost_share": (
        "以上为各处合计，取整 {pool_lost_qty}，本处份额 {pool_share_ratio}",
        "that is of all places together: rounded {pool_lost_qty}, of which this place's share is {pool_share_ratio}",
    ),
    "lost_before_arrival": (
        "到货前预计丢单，补货来不及，扣除（{lost_part_qty:+d}）",
        "demand expected to be lost before an order can arrive ({lost_part_qty:+d})",
    ),
    "pooled": (
        "{pool_places} 互相代发，合计补到 {pool_order_up_to_qty}（预期需求 {pool_demand_qty}，安全库存 {pool_safety_qty:+d}）；"
        "本处预计发出其中 {pool_share_ratio}，目标库存 {order_up_to_qty}",
        "{pool_places} send for each other: together up to {pool_order_up_to_qty} ({pool_demand_qty} expected, safety stock "
        "{pool_safety_qty:+d}); this place is expected to send {pool_share_ratio} of it, so its level is {order_up_to_qty}",
    ),
    "idle_elsewhere": (
        "还没卖过的地方另有 {idle_elsewhere_qty} 件可代发",
        "{idle_elsewhere_qty} more lie free at places that never sold it and may send",
    ),
    "above_share": (
        "多于应有份额的地方（头寸 − 份额）：{pool_above}；合计多 {pool_above_qty}",
        "places with more than their share (position − share): {pool_above}; {pool_above_qty} in all",
    ),
    "lacked_together": (
        "各处合计缺 {pool_order_up_to_qty} − {pool_position_qty} + 太晚到 {pool_late_qty} − 丢单 {pool_lost_qty} = "
        "{pool_gap_qty}，逐处相加缺 {pool_lacks_qty}；应订 {pool_lacking_qty}，按各处所缺分给本处 {lacking_here_qty}，"
        "且不超过先定的地方订后余下的 {pool_lacking_qty} − {ordered_before_qty}",
        "together the places lack {pool_order_up_to_qty} − {pool_position_qty} + {pool_late_qty} late − {pool_lost_qty} lost = "
        "{pool_gap_qty}, each for itself {pool_lacks_qty}; of {pool_lacking_qty} to order {lacking_here_qty} fall here by what "
        "each lacks, and no more than the {pool_lacking_qty} − {ordered_before_qty} that places settled before leave",
    ),
    "promised_there": (
        "客户在原处等的 {promised_qty} 件由原处先订，别处不代发",
        "customers wait for {promised_qty} units where they were promised: these are ordered there first, not sent",
    ),
    "served_elsewhere": (
        "别处多于应有份额的库存与订货可代发（{elsewhere_part_qty:+d}）",
        "other places have or order more than their share and send in its stead ({elsewhere_part_qty:+d})",
    ),
    "transferred": (
        "从别处调拨更省（{transfer_part_qty:+d}）",
        "comes from another place, which is cheaper ({transfer_part_qty:+d})",
    ),
    "lot_for_order_cost": (
        "每次下单成本 {order_cost_cents}，一年约需 {yearly_demand_qty:.0f}，经济批量 {lot_qty}（{lot_part_qty:+d}）",
        "an order costs {order_cost_cents} and about {yearly_demand_qty:.0f} are needed a year: the "
        "economic lot is {lot_qty} ({lot_part_qty:+d})",
    ),
    "up_to_max": (
        "补到最大库存 {max_qty}（{lot_part_qty:+d}）",
        "up to the max of {max_qty} ({lot_part_qty:+d})",
    ),
    "whole_lots": (
        "按批量 {lot_qty} 取整（{lot_part_qty:+d}）",
        "rounded up to whole lots of {lot_qty} ({lot_part_qty:+d})",
    ),
    "wait_cheaper": (
        "现在订预计比等下次检查更贵，暂不订（{wait_part_qty:+d}）",
        "ordering now is expected to cost more than at the next review: wait ({wait_part_qty:+d})",
    ),
    "price_break": (
        "单价由 {unit_cost_cents} 降到 {paid_unit_cost_cents}，一年约需 {yearly_demand_qty:.0f}，省 "
        "{break_saving_cents}，多存的货一年花 {break_holding_cents}（{price_break_part_qty:+d}）",
        "the unit cost falls from {unit_cost_cents} to {paid_unit_cost_cents}: about "
        "{yearly_demand_qty:.0f} a year then cost {break_saving_cents} less, and larger lots "
        "{break_holding_cents} a year in stock ({price_break_part_qty:+d})",
    ),
    "joint_raised": (
        "凑足供应商起订金额 {min_order_cents}，加最快用得上的（{joint_part_qty:+d}）",
        "more of what is used soonest, to reach the supplier's least order value of {min_order_cents} "
        "({joint_part_qty:+d})",
    ),
    "joint_waits": (
        "未到供应商起订金额 {min_order_cents}，等下次更省（{joint_part_qty:+d}）",
        "below the supplier's least order value of {min_order_cents}, and waiting is cheaper ({joint_part_qty:+d})",
    ),
    "order_value_unknown": (
        "供应商起订金额 {min_order_cents}，但有商品成本未知，无法凑单",
        "the supplier's least order value is {min_order_cents}, but not every cost is known: not checked",
    ),
    "budget_unknown": (
        "进价或币种未知，不计入预算",
        "its cost or currency is not known, so it does not count against the budget",
    ),
    "budget_cut": (
        "预算 {budget_cents} 不够，减去损失最小的（{budget_part_qty:+d}）",
        "the budget of {budget_cents} does not reach: cut where it is missed least ({budget_part_qty:+d})",
    ),
    "supplier_closed": (
        "供应商停工，保护期延长 {shutdown_days} 天",
        "the supplier is closed: the protection interval is {shutdown_days} days longer",
    ),
    "lead_time_spread": (
        "提前期实际 {lead_low_days} 至 {lead_high_days} 天，已计入",
        "lead times of {lead_low_days} to {lead_high_days} days are reckoned with",
    ),
    "lead_time_default": (
        "提前期未填，按默认 {lead_time_days} 天",
        "no lead time was given: the default of {lead_time_days} days is used",
    ),
    "made_here": ("自产：下生产任务单", "made here: a production order, not a purchase"),
    "no_forecast": ("没有预测，无法建议", "no forecast, so nothing can be suggested"),
    "horizon_too_short": (
        "保护期 {protection_interval_days} 天超过预测期 {horizon_days} 天",
        "protection interval of {protection_interval_days} days is longer than the forecast of {horizon_days} days",
    ),
    "bad_forecast": ("预测含非有限数字或负数，无法建议", "the forecast holds a number that is negative or not finite"),
    "bad_position": (
        "{value}:该行无法计算补货",
        "{value}: no suggestion for this row",
    ),
}


def sentence(code: str, facts: Mapping[str, object], language: Language) -> str:
    """The sentence of one code: amounts (`…_cents`) in the `currency` of the facts, shares (`…_ratio`) in percent. A fact
    that is missing or of another kind shows as a question mark instead of failing a screen."""
    at = 0 if language == "zh" else 1
    return REASONS[code][at].format_map(_Said(facts, language))


class _Said(dict[str, object]):
    """Facts as a template asks for them."""

    def __init__(self, facts: Mapping[str, object], language: Language) -> None:
        super().__init__({name: _said(name, fact, facts.get("currency"), language) for name, fact in facts.items()})

    def __missing__(self, name: str) -> object:
        return _Text("?")


class _Text(str):
    """A word where a template may ask for a number."""

    def __format__(self, spec: str) -> str:
        return str(self)


def _said(name: str, fact: object, currency: object, language: Language) -> object:
    if isinstance(fact, int | float) and not isinstance(fact, bool):
        if name.endswith("_cents"):
            number = f"{fact:,.0f}" if fact == round(fact) else f"{fact:,.2f}"
            in_cents = f"{number} 分" if language == "zh" else f"{number} cents"
            return _Text(money(fact, currency) if isinstance(currency, str) else in_cents)
        return _Text(percent(fact)) if name.endswith("_ratio") else fact
    if isinstance(fact, str) and fact in WORDS:
        return _Text(WORDS[fact][0 if language == "zh" else 1])
    return _Text(fact)


def percent(ratio: float) -> str:
    """A share with up to two decimals; what is not whole is not rounded to it, nor what is not nothing to nothing.

    >>> percent(0.95), percent(0.9993), percent(0.99999), percent(1), percent(0.0132), percent(0.00001)
    ('95%', '99.93%', '>99.99%', '100%', '1.32%', '<0.01%')
    """
    if 0.99995 <= ratio < 1:
        return ">99.99%"
    if 0 < ratio < 0.00005:
        return "<0.01%"
    return f"{100 * ratio:.2f}".rstrip("0").rstrip(".") + "%"


def aims(planning: Mapping[str, Any], language: Language) -> list[str]:
    """What all suggestions aim at, in sentences: the target, budgets, and what is switched otherwise than usual.

    `planning` holds the fields of `pipelines.transform.plan.PlanningDefaults`.
    """
    said = [sentence(f"aims_at_{planning['target']}", planning, language)]
    for currency, cents in planning["budget_cents"].items():
        said.append(sentence("aims_within", {"budget_cents": cents, "currency": currency}, language))
    for name, ratio in planning["class_service"].items():
        said.append(sentence("aims_of_class", {"product_class": name, "cycle_service_ratio": ratio}, language))
    if not planning["pools_places"]:
        said.append(sentence("aims_apart", planning, language))
    if planning["protects_channels"]:
        said.append(sentence("aims_for_channels", planning, language))
    return said


def terms(planning: Mapping[str, Any], language: Language) -> list[str]:
    """What suggestions reckon with where a supplier or a product says nothing, in sentences; `planning` as for `aims`."""
    said = [sentence("stock_costs", planning, language)]
    if planning["min_max_value_cents"] is not None:
        said.append(sentence("min_max_up_to", planning, language))
    if planning["transfer_unit_cents"] is not None:
        said.append(sentence("transfer_costs", planning, language))
        if planning["pools_places"]:
            said.append(sentence("transfers_unused", planning, language))
    return said


def sentences(codes: Iterable[str], facts: str | Mapping[str, object], language: Language) -> list[str]:
    """Sentences for a row's `reason_codes`; `facts` as stored (JSON text) or read."""
    read = json.loads(facts) if isinstance(facts, str) else facts
    return [sentence(code, read, language) for code in codes]


def facts_json(facts: Mapping[str, object]) -> str:
    """Facts as they are stored: sorted keys, so that the same facts are the same bytes."""
    return json.dumps({k: facts[k] for k in sorted(facts)}, ensure_ascii=False, default=str)
