from orders_core.store.uow import Store
from orders_core.store.verify import verify


def test_a_fresh_database_breaks_nothing(store: Store) -> None:
    assert verify(store) == []
