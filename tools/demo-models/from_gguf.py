"""Make a checkpoint of a shipped file, so that anyone can go on training from what is shipped.

    from_gguf.py ../../models/demo-m.gguf WORK/m-shipped.pt      then: train.py --tier m --init WORK/m-shipped.pt --from 0.6 ...

The weights are those of the file, rounded to eight bits as they are; the readers that exist while training only begin anew.
"""

import argparse
from pathlib import Path

import torch

import check_gguf
import model as lfm2


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file", type=Path)
    options.add_argument("out", type=Path)
    chosen = options.parse_args()
    model = check_gguf.load(chosen.file)
    tier = next((name for name, config in lfm2.TIERS.items() if config == model.config), None)
    if tier is None:
        raise SystemExit(f"{chosen.file} has the size of no tier: {model.config}")
    readers = {name: torch.zeros(10, model.config.hidden) for name in ("passage", "target", "asked")}
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(model=model.state_dict(), mean=model.state_dict(), heads=readers, plan=dict(tier=tier), total=0, found=True), chosen.out)
    print(f"{chosen.out}: tier {tier}, {lfm2.parameters(model)} parameters")


if __name__ == "__main__":
    main()
