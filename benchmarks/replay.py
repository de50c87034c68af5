"""What ordering by the product would have cost on real demand, beside rules of thumb and a textbook policy.

    python -m benchmarks.replay [--data DIR | --file FILE.parquet] [--weeks N] [--end DATE] [--sample N] [--no-demo]
                                [--places-apart] [--out FILE.json] [--record]

Online Retail (real invoices of one firm) goes in by the product's own import, a daily run models it, and the last `--weeks`
weeks are replayed: in the evening of each seventh day every policy orders for each product, with what was known then.
Between those evenings a daily run changes no order, so it is not repeated. Then the demo company is built and its last 26
weeks are replayed beside what it really ordered (`--no-demo` leaves that out): once as its orders are routed, once with
every place standing alone (`--places-apart`: only so, and the JSON has `demo_places_apart` without `demo`).

The rules, the same for every policy:

- products asked for in the year before (codes that begin with five digits: the others are postage, fees and vouchers)
- no stock is recorded, so all begin with 4 weeks of the mean demand of the 13 weeks before, rounded up, nothing on order
- lead time 14 days, review every 7 (the product's defaults); unmet demand is lost
- the places of a product serve each other, as orders are routed: what one can't serve goes out from the one with most left;
  ours orders for them together, the other policies for each place (Online Retail has one place)
- a unit costs half its mean price of the year before; holding 25 % of that a year; an order line costs `--order-cost`
- a lost unit costs what makes 95 % cycle service just worth its stock (`forecasting.replay.service_costs`)
- ours orders to the service that was cheapest in the same number of weeks before (`by_cost`: by these costs as they are);
  statsforecast's best model per product (by backtest) gets textbook safety stock at the same 95 %; the 13-week mean and the
  seasonal naive get the cover that was cheapest in the same weeks before

Intervals are a paired bootstrap over products, all places of one together.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.common import Figure, record, whole_run, write_json

WEEKS, DEMO_WEEKS = 12, 26
SERVICE, HOLDING_RATIO = 0.95, 0.25
DEMO_LAST_DAY = date(2026, 11, 22)
FILE = "orders_2009-12_2011-08.parquet"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/online_retail", help="folder with the invoices")
    parser.add_argument(
        "--file", help=f"a file of invoices (default: the newest parquet in the folder, such as {FILE})"
    )
    parser.add_argument("--weeks", type=int, default=WEEKS, help=f"weeks to replay (default {WEEKS})")
    parser.add_argument("--end", type=date.fromisoformat, help="last day (default: the last day of the file)")
    parser.add_argument("--sample", type=int, help="only so many products")
    parser.add_argument("--order-cost", type=int, default=0, help="cents per order line (default 0)")
    parser.add_argument("--no-demo", action="store_true", help="leave the demo company out")
    parser.add_argument("--places-apart", action="store_true", help="no place of a product sends for another")
    parser.add_argument("--out", help="write the figures to this JSON file")
    parser.add_argument("--record", action="store_true", help="also write them to benchmarks/RESULTS.md")
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 130)
    path = Path(asked.file) if asked.file else max(Path(asked.data).glob("*.parquet"), default=None)
    if path is None or not path.exists():
        console.print(f"skipped: there are no invoices at {path or asked.data}")
        return 0
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="dinghuo-replay-") as folder:
        console.print(f"importing {path.name} …")
        warehouse = online_retail(path, Path(folder) / "retail", end=asked.end)
        result["online_retail"] = measure(
            warehouse,
            ["ours", "naive", "mean13", "statsforecast", "by_cost"],
            weeks=asked.weeks,
            sample=asked.sample,
            order_cost_cents=asked.order_cost,
            only=r"^\d{5}",
            console=console,
            places_apart=asked.places_apart,
        )
        _print(console, "Online Retail", result["online_retail"])
        if not asked.no_demo:
            console.print("building the demo company …")
            warehouse = demo_company(Path(folder) / "demo")
            for key, places_apart in (("demo", False), ("demo_places_apart", True)):
                if places_apart or not asked.places_apart:
                    result[key] = measure(
                        warehouse,
                        ["ours", "as_ordered", "mean13", "by_cost"],
                        weeks=DEMO_WEEKS,
                        sample=None,
                        order_cost_cents=asked.order_cost,
                        only="",
                        console=console,
                        places_apart=places_apart,
                    )
            if "demo" in result:
                _print(console, "The demo company", result["demo"])
            console.print(_plain_line(result["demo_places_apart"]), soft_wrap=True)
    result = result["online_retail"] | result | whole_run()
    write_json(asked.out, result)
    if asked.record:
        for section, name in (
            ("replay of Online Retail", "online_retail"),
            ("replay of the demo company", "demo"),
            ("replay of the demo company, no place sends for another", "demo_places_apart"),
        ):
            if name in result:
                record(section, _figures(result[name]))
    console.print({name: result[name] for name in ("wall_seconds", "cpu_seconds", "peak_mb")})
    parts = [result[name] for name in ("online_retail", "demo") if name in result]
    return int(
        any(p["differences"][name]["difference"] >= 0 for p in parts for name in p["differences"] if name != "by_cost")
    )


def online_retail(path: Path, folder: Path, *, end: date | None = None) -> Path:
    """The invoices through the product: init, import, daily run as of the last day; returns the warehouse's folder."""
    when = pl.col("InvoiceDate").dt.date()
    last = pl.scan_parquet(path).select(when.max()).collect().item() if end is None else end
    folder.mkdir(parents=True)
    if end is not None:  # nothing later even goes in
        cut = folder / "until.parquet"
        pl.scan_parquet(path).filter(when <= end).sink_parquet(cut)
        path = cut
    _program(folder, "init")
    _program(folder, "orders", "import", str(path), "--mapping", "online-retail", "--quarantine", accept=(0, 3))
    _program(folder, "run", "daily", "--as-of", str(last))
    return folder / "warehouse"


def demo_company(folder: Path) -> Path:
    """The demo company with its two years; returns the warehouse's folder."""
    from apps.demo.run import build_demo

    build_demo(folder, last_day=DEMO_LAST_DAY)
    _program(folder, "run", "daily", "--as-of", str(DEMO_LAST_DAY))
    return folder / "warehouse"


def _program(folder: Path, *words: str, accept: tuple[int, ...] = (0,)) -> None:
    """One command line in this process.

    Raises:
        RuntimeError: It did not end as it should.
    """
    from apps.cli.main import run

    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        code = run([*words, "-C", str(folder)])
    if code not in accept:
        raise RuntimeError(f"dinghuo {' '.join(words)} ended with {code}: {said.getvalue()[-2000:]}")


def measure(
    warehouse: Path,
    names: list[str],
    *,
    weeks: int,
    sample: int | None,
    order_cost_cents: int,
    only: str,
    console: Console,
    places_apart: bool = False,
) -> dict[str, Any]:
    """Replay the last weeks of a warehouse: cost, holding, shortage, orders per policy, and differences of the first."""
    from apps.cli.replay import policy_named
    from forecasting.replay import AS_ORDERED, compare, replay, with_service_costs
    from pipelines.replay import past as past_of
    from pipelines.replay import pools_of, sample_of

    past = past_of(warehouse, weeks=weeks, places_apart=places_apart)
    terms = sample_of(past.terms.filter(pl.col("unique_id").str.contains(only)), sample)
    terms = with_service_costs(
        terms, holding_ratio=HOLDING_RATIO, cycle_service_ratio=SERVICE, order_cost_cents=float(order_cost_cents)
    )
    history = past.history.join(terms.select("unique_id"), on="unique_id", how="semi", maintain_order="left")
    named = {"ours": "tuned", "by_cost": "ours"}
    policies = {
        name: policy_named(named.get(name, name), past, terms, SERVICE, True) for name in names if name != AS_ORDERED
    }
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{terms.height:,} products, {weeks} weeks", total=past.days)
        result = replay(
            history,
            terms,
            policies,
            start=past.start,
            days=past.days,
            items=past.items,
            closed_dates=past.closed_dates,
            promotions=past.promotions,
            under_way=past.under_way,
            as_ordered=past.as_ordered if AS_ORDERED in names else None,
            tell=lambda done, total: bar.update(task, completed=done, total=total),
        )
    rows = {row["policy"]: row for row in result.summary.iter_rows(named=True)}
    apart = {
        row["compared_with"]: row for row in compare(result.money, policy="ours", pools=terms).iter_rows(named=True)
    }
    return {
        "first_date": past.start,
        "weeks": weeks,
        "series": terms.height,
        "pools": pools_of(terms),
        "currency": past.currency,
        "policies": {
            name: {
                "cost": rows[name]["cost_cents"] / 100,
                "holding": rows[name]["holding_cents"] / 100,
                "shortage": rows[name]["shortage_cents"] / 100,
                "ordering": rows[name]["ordering_cents"] / 100,
                "orders": rows[name]["orders"],
                "purchases": rows[name]["purchase_cents"] / 100,
                "fill_rate": rows[name]["fill_rate_ratio"],
                "mean_stock": rows[name]["mean_stock_cents"] / 100,
                "rule": repr(policies[name]) if name in policies else "receipts as they came",
            }
            for name in names
        },
        "differences": {
            name: {
                "difference": apart[name]["difference_cents"] / 100,
                "low": apart[name]["low_cents"] / 100,
                "high": apart[name]["high_cents"] / 100,
                "ratio": apart[name]["ratio"],
            }
            for name in names[1:]
        },
    }


def _figures(part: dict[str, Any]) -> list[Figure]:
    figures = []
    for name, policy in part["policies"].items():
        parts = f"holding {policy['holding']:,.2f}, lost sales {policy['shortage']:,.2f}"
        money = f"{policy['cost']:,.2f} {part['currency']} ({parts})"
        apart = part["differences"].get(name)
        against = (
            ""
            if apart is None
            else f"ours {apart['difference']:+,.2f}, 95 % {apart['low']:+,.2f} … {apart['high']:+,.2f}"
        )
        figures.append(Figure(f"{name}: {part['weeks']} weeks from {part['first_date']}", money, against))
    return figures


def _plain_line(part: dict[str, Any]) -> str:
    costs = ", ".join(f"{name} {policy['cost']:,.2f}" for name, policy in part["policies"].items())
    return f"With every place standing alone: {costs} {part['currency']}."


def _print(console: Console, title: str, part: dict[str, Any]) -> None:
    head = f"{title}: {part['series']:,} products, {part['weeks']} weeks from {part['first_date']}, {part['currency']}"
    table = Table(
        "policy", "cost", "holding", "lost sales", "orders", "fill", "mean stock", "ours less", "95 %", title=head
    )
    for name, policy in part["policies"].items():
        apart = part["differences"].get(name)
        table.add_row(
            name,
            *(f"{policy[key]:,.2f}" for key in ("cost", "holding", "shortage")),
            f"{policy['orders']:,}",
            f"{policy['fill_rate']:.1%}",
            f"{policy['mean_stock']:,.0f}",
            f"{apart['difference']:+,.2f} ({apart['ratio']:.3f})" if apart else "",
            f"{apart['low']:+,.0f} … {apart['high']:+,.0f}" if apart else "",
        )
    console.print(table)
    if part["pools"]:
        console.print(
            f"  products that lie at several places: {part['pools']:,}; these send for each other under every policy"
        )
    for name, policy in part["policies"].items():
        console.print(f"  {name}: {policy['rule']}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
