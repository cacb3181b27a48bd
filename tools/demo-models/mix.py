"""Average the shipped weights of two checkpoints of one run: part of the later one's skill without all of what it forgot.

    mix.py EARLIER.pt LATER.pt 0.2 OUT.pt      0.2 is the later one's share
"""

import argparse
from pathlib import Path

import torch


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("earlier", type=Path)
    options.add_argument("later", type=Path)
    options.add_argument("share", type=float)
    options.add_argument("out", type=Path)
    chosen = options.parse_args()
    mixed, later = torch.load(chosen.earlier), torch.load(chosen.later)
    for name in mixed["mean"]:
        mixed["mean"][name].lerp_(later["mean"][name], chosen.share)
    mixed["total"] = max(mixed["total"], later["total"])
    torch.save(mixed, chosen.out)


if __name__ == "__main__":
    main()
