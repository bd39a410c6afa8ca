"""The grid as a `concurrent.futures` executor. Run a node (`jcpeer node`), then: python examples/executor.py"""

from concurrent.futures import as_completed

import jcpeer


def collatz(number: int) -> int:
    """How many steps it takes to come to 1."""
    steps = 0
    while number != 1:
        number = number // 2 if number % 2 == 0 else 3 * number + 1
        steps += 1
    return steps


def main() -> None:
    with jcpeer.connect() as grid, grid.executor("collatz", retries=1) as executor:
        longest = max(executor.map(collatz, range(1, 1000), chunksize=100))
        print("the longest way has", longest, "steps")
        futures = {executor.submit(collatz, number): number for number in (27, 97, 871)}
        for future in as_completed(futures):
            print(futures[future], "takes", future.result())


if __name__ == "__main__":
    main()
