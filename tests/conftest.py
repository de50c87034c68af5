"""Fixtures every test may use.

`store` is an opened `Store` on a fresh, migrated database, once on SQLite and once on PostgreSQL; `store.url` lets a
spawned process open its own. When the test ends, every invariant is verified over what it left. A test of one database
only says `@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import hypothesis
import pytest

from orders_core.ports import FixedClock
from tests.support.databases import BACKENDS, RUN_FOLDER_VARIABLE, TESTS_BEGIN_AT, Backend, TestDatabases, run_folder

if TYPE_CHECKING:
    from orders_core.store.uow import Store

pytest_plugins = ["tests.support.browser"]

_run = pytest.StashKey[ExitStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stated-counts", action="store_true", help="run the counts stated in the issue instead of the small ones"
    )


def pytest_configure(config: pytest.Config) -> None:
    """The process that owns the run makes its folder; xdist's workers inherit the name in their environment."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # several workers on few cores: threads that wait for each other spin
    hypothesis.settings.register_profile("small", max_examples=25, deadline=None, derandomize=True)
    hypothesis.settings.register_profile("stated", max_examples=500, deadline=None, print_blob=True)
    hypothesis.settings.load_profile("stated" if config.getoption("--stated-counts") else "small")
    if not hasattr(config, "workerinput"):
        config.stash[_run] = ExitStack()
        config.stash[_run].enter_context(run_folder())


def pytest_unconfigure(config: pytest.Config) -> None:
    if _run in config.stash:
        config.stash[_run].close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, marker in (("stated_count", "prove"), ("shared_folder", "shared"), ("browser", "browser")):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
        if item.get_closest_marker("slow") and not config.getoption("--stated-counts"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; make prove runs it"))


class StatedCount(Protocol):
    def __call__(self, *, small: int, stated: int) -> int: ...


@pytest.fixture(scope="session")
def stated_count(request: pytest.FixtureRequest) -> StatedCount:
    """`stated_count(small=5, stated=100)` is 5 in `make test` and 100 in `make prove`."""
    as_stated = request.config.getoption("--stated-counts")
    return lambda *, small, stated: stated if as_stated else small


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The folder with real data sets and cases, beside the project; tests that use it are marked `shared`."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the data folder ../shared, which is not here")
    return folder


@pytest.fixture
def clock() -> FixedClock:
    """Stands still at Monday, 2 March 2026, 09:00 in Shanghai, until the test moves it."""
    return FixedClock(TESTS_BEGIN_AT)


@pytest.fixture(scope="session")
def databases() -> TestDatabases:
    """Makes databases of this test run."""
    return TestDatabases(Path(os.environ[RUN_FOLDER_VARIABLE]))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each test that uses it runs once per database."""
    return cast(Backend, request.param)


class NewDatabase(Protocol):
    def __call__(self, *, empty: bool = False) -> str: ...


@pytest.fixture
def new_database(backend: Backend, databases: TestDatabases, tmp_path: Path) -> Iterator[NewDatabase]:
    """Makes another database and gives its URL, migrated unless `empty`; all are dropped when the test ends."""
    made: list[str] = []

    def new(*, empty: bool = False) -> str:
        create = databases.create_empty if empty else databases.create
        made.append(create(backend, folder=tmp_path))
        return made[-1]

    yield new
    for url in made:
        databases.drop(url)


@pytest.fixture
def database_url(new_database: NewDatabase) -> str:
    """The URL of a fresh, migrated database."""
    return new_database()


@pytest.fixture
def store(request: pytest.FixtureRequest, database_url: str, clock: FixedClock) -> Iterator[Store]:
    """A store on a fresh, migrated database with the test's `clock`. What the test leaves must keep every invariant."""
    # Here, so that tests of forecasting and the warehouse don't load the core.
    from orders_core.store.uow import Store
    from orders_core.store.verify import verify

    store = Store.open(database_url, clock=clock)
    try:
        yield store
        if not request.node.get_closest_marker("breaks_invariants") and (violations := verify(store)):
            pytest.fail("\n".join(["the test left a database that breaks", *map(str, violations)]), pytrace=False)
    finally:
        store.close()
