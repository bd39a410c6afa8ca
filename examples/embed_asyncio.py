"""The grid from an asyncio program: jcpeer's blocking face in a thread, so that the event loop never waits.

Run a node (`jcpeer node`), then: python examples/embed_asyncio.py
A plain thread does the same without `to_thread`: any thread may call any method.
"""

import asyncio

import jcpeer


def slow_square(value: int) -> int:
    return value * value


def squares_on_the_grid(count: int) -> int:
    with jcpeer.connect() as grid, grid.executor("squares") as executor:
        return sum(executor.map(slow_square, range(count)))


async def one_call_from_the_loop() -> int:
    """A single future can be awaited as it is."""
    with await asyncio.to_thread(jcpeer.connect) as grid, grid.executor("one call") as executor:
        return await asyncio.wrap_future(executor.submit(slow_square, 7))


async def main() -> None:
    print("sum of squares:", await asyncio.to_thread(squares_on_the_grid, 100))
    print("seven squared:", await one_call_from_the_loop())


if __name__ == "__main__":
    asyncio.run(main())
