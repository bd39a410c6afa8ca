"""Where each identifier stands in some Python files. Usage: index.py OUTPUT FILE…"""

import json
import keyword
import sys
import tokenize

Index = dict[str, dict[str, list[int]]]


def index_file(path: str, index: Index) -> None:
    """Adds the lines of each name. A file that is no Python (some tests of Python are not) is left out as a whole."""
    places: dict[str, list[int]] = {}
    try:
        with open(path, "rb") as file:
            for token in tokenize.tokenize(file.readline):
                if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                    places.setdefault(token.string, []).append(token.start[0])
    except (SyntaxError, tokenize.TokenError) as error:
        print(f"left out: {path}: {error}")
        return
    for name, lines in places.items():
        index.setdefault(name, {})[path] = lines


if __name__ == "__main__":
    output, *paths = sys.argv[1:]
    found: Index = {}
    for each in paths:
        index_file(each, found)
    with open(output, "w", encoding="utf-8") as out:
        json.dump(found, out, sort_keys=True)
    print(f"{len(found)} names in {len(paths)} files")
