"""The same answer as corpus.toml gives, by one process and without an index. Usage: plain.py DIRECTORY COUNT"""

import keyword
import sys
import tokenize
from collections import Counter
from pathlib import Path


def count_names(directory: Path) -> Counter[str]:
    """How often each identifier is used in the Python files below this directory, those of installed packages aside."""
    total: Counter[str] = Counter()
    for path in directory.rglob("*.py"):
        parts = path.relative_to(directory).parts
        if {"site-packages", "dist-packages"}.intersection(parts) or any(part.startswith(".") for part in parts):
            continue
        try:
            with path.open("rb") as file:
                tokens = list(tokenize.tokenize(file.readline))
        except (SyntaxError, tokenize.TokenError):
            continue
        total.update(each.string for each in tokens if each.type == tokenize.NAME)
    return Counter({name: uses for name, uses in total.items() if not keyword.iskeyword(name)})


if __name__ == "__main__":
    uses = count_names(Path(sys.argv[1]))
    for name in sorted(uses, key=lambda name: (-uses[name], name))[: int(sys.argv[2])]:
        print(f"{uses[name]:8} {name}")
