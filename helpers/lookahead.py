"""Work done ahead by a few threads, with results in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    ahead: int,
    give_up: Callable[[], object] = lambda: None,
) -> Generator[tuple[Item, Future[Result]], None, None]:
    """Yield each item with the future of `work(item)`, in order; at most `ahead` are in progress or ready.

    Close it (`contextlib.closing`) if you leave early: that calls `give_up`, cancels work that has not begun and waits
    for work in progress.
    """
    coming = iter(items)
    pending: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        while True:
            pending.extend((item, pool.submit(work, item)) for item in islice(coming, ahead - len(pending)))
            if not pending:
                return
            yield pending.popleft()
    except BaseException:
        give_up()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
