"""A first application in Python: squares wherever there is room, then their sum. Run: jcpeer run examples/squares.py"""

import jcpeer


def square(number: int) -> int:
    return number * number


app = jcpeer.Application("squares")
squares = [app.task(square, number) for number in range(100)]
app.task(sum, squares)
