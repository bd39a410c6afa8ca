"""The names that are used most, by an index. Usage: top.py COUNT INDEX"""

import json
import sys

if __name__ == "__main__":
    count, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        uses = {name: sum(map(len, places.values())) for name, places in json.load(file).items()}
    for name in sorted(uses, key=lambda name: (-uses[name], name))[: int(count)]:
        print(f"{uses[name]:8} {name}")
