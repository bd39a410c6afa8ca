"""A node inside a trio program, and the grid's verbs on it. Run: python examples/embed_trio.py"""

import trio

import jcpeer


def square(number: int) -> int:
    return number * number


async def main() -> None:
    app = jcpeer.Application("squares")
    app.task(sum, [app.task(square, number) for number in range(100)])
    async with jcpeer.open_node(name="embedded", slots=2) as node:
        print("node", node.ready.name, "listens at", node.ready.listens[0])
        handle = await node.run(app)
        with trio.fail_after(60):
            print("sum of squares:", await handle.result())


if __name__ == "__main__":
    trio.run(main)
