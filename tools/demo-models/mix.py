"""Average the shipped weights of two checkpoints of one run: part of the later one's skill without all of what it forgot.

    mix.py EARLIER.pt LATER.pt 0.2 OUT.pt      0.2 is the later one's share
"""

import argparse
from pathlib import Path

import torch


def mean_of(earlier: Path, later: Path, share: float) -> dict:
    """A checkpoint whose weights are the mean of two; going on from it begins there too."""
    mixed, other = torch.load(earlier), torch.load(later)
    for name in mixed["mean"]:
        mixed["mean"][name].lerp_(other["mean"][name], share)
    mixed["model"], mixed["total"] = mixed["mean"], max(mixed["total"], other["total"])
    return mixed


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("earlier", type=Path)
    options.add_argument("later", type=Path)
    options.add_argument("share", type=float)
    options.add_argument("out", type=Path)
    chosen = options.parse_args()
    torch.save(mean_of(chosen.earlier, chosen.later, chosen.share), chosen.out)


if __name__ == "__main__":
    main()
