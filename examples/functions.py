"""Functions as tasks: how many primes are there below two million? Run: jcpeer run examples/functions.py

Arguments that are tasks make the edges: `total` waits for all counts, wherever they were made.
"""

import jcpeer

STEP = 100_000


@jcpeer.task(retries=2, memory="256MiB", timeout="5min")
def count_primes(start: int, stop: int) -> int:
    sieve = bytearray([1]) * stop
    sieve[:2] = b"\0\0"
    for number in range(2, int(stop**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, stop, number)))
    return sum(sieve[start:stop])


def total(counts: list[int]) -> int:
    print(f"{sum(counts)} primes below {len(counts) * STEP}")
    return sum(counts)


app = jcpeer.Application("primes")
counts = [app.task(count_primes, start, start + STEP) for start in range(0, 2_000_000, STEP)]
app.options(keep=True, name="total").task(total, counts)
