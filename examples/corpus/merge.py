"""Joins indexes of different files. Usage: merge.py OUTPUT INDEX…"""

import json
import sys

if __name__ == "__main__":
    output, *paths = sys.argv[1:]
    merged: dict[str, dict[str, list[int]]] = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for name, places in json.load(file).items():
                merged.setdefault(name, {}).update(places)
    with open(output, "w", encoding="utf-8") as out:
        json.dump(merged, out, sort_keys=True)
