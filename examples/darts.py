"""Pi by throwing darts at a square. Usage: darts.py DARTS SEED"""

import random
import sys

if __name__ == "__main__":
    darts, seed = map(int, sys.argv[1:])
    dice = random.Random(seed)
    inside = sum(dice.random() ** 2 + dice.random() ** 2 < 1 for _ in range(darts))
    print(darts, seed, 4 * inside / darts)
