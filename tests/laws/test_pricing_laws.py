"""Laws of sharing money, totalling an order and choosing locations: parts make the whole, whatever comes in."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from orders_core.domain.money import share, tax_contained, tax_on_top
from orders_core.domain.pricing import Offer, PricedLine, price_order
from orders_core.routing.assign import Assignment, Offered, Site, assign

cents = st.integers(0, 10**9)
weights = st.lists(st.integers(0, 10**7), min_size=1, max_size=12)


@given(total=st.integers(-(10**9), 10**9), weights=weights)
def test_shares_sum_to_the_total_and_each_is_within_a_cent_of_its_due(total: int, weights: list[int]) -> None:
    parts = share(total, weights)
    assert sum(parts) == total
    if sum(weights) == 0:
        weights = [1] * len(weights)
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Fraction(total * weight, sum(weights))) < 1
        assert part * total >= 0, "a share has the sign of the whole"


@given(total=cents, weights=weights)
def test_a_heavier_part_never_gets_less(total: int, weights: list[int]) -> None:
    by_weight = sorted(zip(weights, share(total, weights), strict=True), key=lambda pair: pair[0])
    for (light, less), (heavy, more) in pairwise(by_weight):
        assert light == heavy or less <= more


@given(total=cents, weights=weights)
def test_a_share_of_at_most_the_whole_never_takes_a_part_below_zero(total: int, weights: list[int]) -> None:
    """What price_order relies on: a discount of at most what the lines cost leaves no line below zero."""
    whole = sum(weights)
    for part, weight in zip(share(min(total, whole), weights), weights, strict=True):
        assert 0 <= part <= weight or whole == 0


@given(amount=cents, rate=st.integers(0, 10_000))
def test_the_tax_put_on_top_is_the_tax_contained_in_the_sum(amount: int, rate: int) -> None:
    tax = tax_on_top(amount, rate)
    assert 0 <= tax <= amount
    assert tax_contained(amount + tax, rate) == tax


# ------------------------------------------------------------------------------------------------ totalling an order

SKUS = ("A", "B", "C")
order_lines = st.lists(
    st.builds(
        PricedLine, st.sampled_from(SKUS), st.integers(0, 30), st.integers(0, 50_000), st.sampled_from([0, 600, 1300])
    ),
    min_size=1,
    max_size=8,
)
some_skus = st.one_of(st.none(), st.lists(st.sampled_from(SKUS), min_size=1, max_size=2, unique=True))


@st.composite
def offers(draw: st.DrawFn) -> list[Offer]:
    made = []
    for i in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["order_threshold", "percent", "free_shipping"]))
        rule: dict[str, object] = {"from_cents": draw(st.sampled_from([0, 5_000, 100_000]))}
        if kind == "order_threshold":
            rule["off_cents"] = draw(st.integers(0, 30_000))
        if kind == "percent":
            rule["ratio_bp"] = draw(st.integers(0, 10_000))
        if kind != "free_shipping":
            rule["skus"] = draw(some_skus)
        made.append(Offer(i, kind, rule, f"offer {i}", priority=draw(st.integers(0, 2))))
    return made


@given(lines=order_lines, offers=offers(), shipping=st.integers(0, 5_000), includes_tax=st.booleans())
def test_an_orders_parts_sum_to_its_total_and_no_line_falls_below_zero(
    lines: list[PricedLine], offers: list[Offer], shipping: int, includes_tax: bool
) -> None:
    totals = price_order(lines, offers=offers, shipping_cents=shipping, prices_include_tax=includes_tax)
    assert totals.goods_cents == sum(line.pack_qty * line.unit_price_cents for line in lines)
    assert totals.discount_cents == sum(line.discount_cents for line in totals.lines)
    assert totals.discount_cents == sum(amount for _, amount in totals.discounts)
    assert totals.charges_cents == (0 if totals.is_shipping_free else shipping)
    assert totals.tax_cents == (0 if includes_tax else sum(line.tax_cents for line in totals.lines))
    for line in totals.lines:
        assert line.net_cents == line.gross_cents - line.discount_cents >= 0
        assert 0 <= line.tax_cents <= line.net_cents
    nets = sum(line.net_cents for line in totals.lines)
    assert totals.total_cents == nets + totals.charges_cents + totals.tax_cents >= 0


@given(lines=order_lines, offers=offers(), data=st.data())
def test_the_order_of_lines_and_of_offers_does_not_change_the_total(
    lines: list[PricedLine], offers: list[Offer], data: st.DataObject
) -> None:
    """Whichever line takes the odd cent of a share. Of offers on the whole order: where one is for some SKUs only, the
    cent that an earlier offer left on those lines may count."""
    offers = [replace(offer, priority=i) for i, offer in enumerate(offers)]
    whole_order = [replace(offer, rule={**offer.rule, "skus": None}) for offer in offers]
    shuffled, mixed = data.draw(st.permutations(lines)), data.draw(st.permutations(whole_order))
    one, other = price_order(lines, offers=whole_order), price_order(shuffled, offers=mixed)
    assert one.total_cents == other.total_cents
    assert one.discounts == other.discounts


@given(
    lines=order_lines,
    offer=st.builds(Offer, st.just(1), st.just("percent"), st.just({"ratio_bp": 10_000}), st.just("free")),
)
def test_all_off_leaves_nothing_to_pay(lines: list[PricedLine], offer: Offer) -> None:
    assert price_order(lines, offers=[offer], prices_include_tax=False).total_cents == 0


# ----------------------------------------------------------------------------------------------- choosing locations

SITES = 4


@st.composite
def stock_and_needs(draw: st.DrawFn) -> tuple[dict[int, int], dict[int, dict[int, Offered]], list[Site]]:
    needs = draw(st.dictionaries(st.integers(1, 3), st.integers(1, 9), min_size=1))
    has = st.builds(Offered, st.integers(0, 9), st.one_of(st.none(), st.integers(0, 4), st.just(0)))
    offered = draw(st.dictionaries(st.integers(1, SITES), st.dictionaries(st.integers(1, 3), has)))
    km = st.one_of(st.none(), st.floats(0, 2_000))
    sites = [Site(i, f"WH{i}", draw(st.integers(0, 2)), i == 1, draw(km)) for i in range(1, SITES + 1)]
    return needs, offered, list(draw(st.permutations(sites)))


Case = tuple[dict[int, int], dict[int, dict[int, Offered]], list[Site]]
strategies = st.sampled_from(["fewest_packages", "fixed_order"])


@given(case=stock_and_needs(), strategy=strategies)
def test_reserved_backordered_and_left_over_make_the_need_and_never_more_than_offered(
    case: Case, strategy: str
) -> None:
    needs, offered, sites = case
    plan = assign(needs, offered, sites, strategy=strategy, fixed_order=["WH3", "WH1"])
    for sku, need in needs.items():
        own = [part for part in plan.parts if part.sku_id == sku]
        assert sum(p.reserved_qty + p.backordered_qty for p in own) + plan.left_over.get(sku, 0) == need
    for part in plan.parts:
        has = offered[part.location_id][part.sku_id]
        assert 0 <= part.reserved_qty <= has.reservable_qty
        assert part.backordered_qty >= 0
        assert has.backorderable_qty is None or part.backordered_qty <= has.backorderable_qty
        assert part.reserved_qty + part.backordered_qty > 0
    assert all(qty > 0 for qty in plan.left_over.values())
    assert len({(p.sku_id, p.location_id) for p in plan.parts}) == len(plan.parts)


@given(case=stock_and_needs(), strategy=strategies)
def test_nothing_waits_that_could_be_reserved_and_nothing_is_left_over_that_could_wait(
    case: Case, strategy: str
) -> None:
    needs, offered, sites = case
    plan = assign(needs, offered, sites, strategy=strategy)
    for sku, need in needs.items():
        there = [has[sku] for has in offered.values() if sku in has]
        reservable = sum(has.reservable_qty for has in there)
        depth = sum(need if has.backorderable_qty is None else has.backorderable_qty for has in there)
        own = [part for part in plan.parts if part.sku_id == sku]
        assert sum(part.reserved_qty for part in own) == min(need, reservable)
        assert plan.left_over.get(sku, 0) == max(0, need - min(need, reservable) - depth)


@given(case=stock_and_needs())
def test_the_fewest_packages_are_as_few_as_trying_every_set_of_locations_finds(case: Case) -> None:
    needs, offered, sites = case
    used = {part.location_id for part in assign(needs, offered, sites).parts if part.reserved_qty}
    most = served(needs, offered, {site.location_id for site in sites})
    fewest = min(
        size
        for size in range(SITES + 1)
        for group in combinations([site.location_id for site in sites], size)
        if served(needs, offered, set(group)) == most
    )
    assert served(needs, offered, used) == most
    assert len(used) == fewest


@given(case=stock_and_needs(), data=st.data())
def test_the_plan_does_not_depend_on_the_order_in_which_locations_are_listed(case: Case, data: st.DataObject) -> None:
    needs, offered, sites = case
    plan: Assignment = assign(needs, offered, sites)
    assert assign(needs, offered, data.draw(st.permutations(sites))) == plan


def served(needs: dict[int, int], offered: dict[int, dict[int, Offered]], group: set[int]) -> int:
    """Units a set of locations could send at once."""
    return sum(
        min(need, sum(offered.get(place, {}).get(sku, Offered(0)).reservable_qty for place in group))
        for sku, need in needs.items()
    )
