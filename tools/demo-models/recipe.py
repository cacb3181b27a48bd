"""How each demo tier is trained, stage by stage. `train.py --full` walks this table; nothing here runs by itself.

It is the way on which the shipped files came to be, as far as it can be walked again: the generator and the auxiliary losses of today are there from the first
stage on, and a run that was stopped early has no part where its rate falls. models/README.md says what was run. The task `which` needs real text
(`--natural`) and is left out without it.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """One run that begins with the weights of the stage before, and with a new optimiser."""

    tokens: float  # millions
    start: float  # place in the curriculum where it begins, 0..1, and where it ends
    stop: float
    rate: float  # of Muon
    decay: float  # share of the run over which the rate falls to zero
    seed: int
    share: float = 1.0  # of this run in the mean with the stage before, which is what is taken on
    more: dict[str, int] = field(default_factory=dict)  # tasks that are set more often, see tasks.sample


GROWN = {"m": "s", "l": "m"}  # tiers that begin with the weights of a smaller one, grown

RECIPE: dict[str, tuple[Stage, ...]] = {
    "xs": (Stage(7.0, 0.0, 0.35, 0.02, 0.0, 1), Stage(2.0, 0.1, 0.2, 0.015, 0.0, 1), Stage(2.0, 0.1, 0.25, 0.015, 0.0, 1), Stage(6.5, 0.25, 1.0, 0.015, 0.4, 1),
           Stage(4.2, 0.6, 1.0, 0.01, 0.5, 1, share=0.2), Stage(2.7, 0.65, 1.0, 0.014, 0.35, 91, share=0.4),
           Stage(0.6, 0.87, 1.0, 0.006, 0.9, 95, share=0.5, more={"no": 8, "none": 6, "chat": 5, "fix": 3}),
           Stage(8.0, 0.65, 1.0, 0.013, 0.6, 131, share=0.85, more={"no": 4, "none": 4, "two": 6}),
           Stage(1.2, 0.9, 1.0, 0.006, 1.0, 132, share=0.5, more={"fix": 8, "no": 10, "none": 6, "one": 4}),
           Stage(6.0, 0.75, 1.0, 0.012, 0.7, 502, more={"no": 6, "none": 4, "two": 6, "fix": 4, "chat": 3}),
           Stage(2.5, 0.84, 1.0, 0.011, 0.9, 821, share=0.5, more={"which": 14, "one": 6, "front": 4, "fix": 6, "two": 6, "no": 4, "none": 3, "chat": 3}),
           Stage(6.0, 0.78, 1.0, 0.012, 0.9, 822, share=0.85, more={"which": 14, "one": 6, "front": 4, "fix": 6, "two": 8, "no": 4, "none": 3, "chat": 3, "cmps": 3, "judge": 3})),
    "s": (Stage(4.0, 0.0, 0.15, 0.02, 0.0, 1), Stage(2.7, 0.1, 0.2, 0.018, 0.0, 1), Stage(2.0, 0.12, 0.25, 0.015, 0.0, 1), Stage(1.2, 0.1, 0.15, 0.018, 0.0, 1),
          Stage(2.7, 0.2, 0.5, 0.018, 0.5, 1), Stage(5.0, 0.25, 0.5, 0.018, 0.0, 7), Stage(5.5, 0.45, 1.0, 0.015, 0.45, 8),
          Stage(11.0, 0.64, 1.0, 0.014, 0.55, 121, share=0.85, more={"cmps": 6, "judge": 4, "two": 6}),
          Stage(1.2, 0.9, 1.0, 0.006, 1.0, 122, share=0.2, more={"fix": 14, "notes": 6, "one": 6}),
          Stage(8.0, 0.7, 1.0, 0.013, 0.6, 402, share=0.85, more={"cmps": 6, "judge": 2, "two": 8, "fix": 8, "one": 6}),
          Stage(1.8, 0.88, 1.0, 0.009, 0.9, 404, share=0.4, more={"chat": 3, "two": 20, "fix": 7, "cmps": 4, "one": 5}),
          Stage(2.5, 0.86, 1.0, 0.010, 0.9, 601, share=0.35, more={"which": 16, "one": 8, "front": 8, "fix": 12, "two": 8, "cmps": 4, "judge": 2, "chat": 3}),
          Stage(5.5, 0.82, 1.0, 0.011, 0.9, 922, share=0.35, more={"which": 20, "one": 6, "front": 30, "fix": 18, "two": 12, "cmps": 4, "judge": 2, "chat": 3})),
    "m": (Stage(5.0, 0.6, 1.0, 0.013, 0.5, 31), Stage(0.9, 0.7, 1.0, 0.009, 0.6, 51), Stage(1.4, 0.75, 1.0, 0.012, 0.5, 52), Stage(2.4, 0.78, 1.0, 0.011, 0.6, 57),
          Stage(3.2, 0.72, 1.0, 0.012, 0.6, 71, share=0.5), Stage(11.0, 0.68, 1.0, 0.013, 0.55, 112, share=0.7, more={"cmps": 6, "judge": 4, "two": 3}),
          Stage(1.0, 0.9, 1.0, 0.006, 1.0, 113, share=0.2, more={"fix": 12, "notes": 4, "one": 6}),
          Stage(10.0, 0.7, 1.0, 0.012, 0.55, 302, share=0.5, more={"cmps": 6, "judge": 2, "two": 6, "fix": 8, "one": 6}),
          Stage(3.5, 0.84, 1.0, 0.010, 0.9, 601, share=0.5, more={"which": 16, "one": 8, "front": 8, "fix": 12, "two": 14, "cmps": 4, "judge": 2, "chat": 3}),
          Stage(4.0, 0.82, 1.0, 0.011, 0.9, 831, share=0.8, more={"which": 16, "one": 12, "front": 6, "fix": 14, "two": 20, "cmps": 3, "judge": 2, "chat": 2})),
    "l": (Stage(3.2, 0.62, 0.8, 0.013, 0.0, 61), Stage(4.2, 0.65, 1.0, 0.013, 0.55, 62), Stage(1.6, 0.8, 1.0, 0.011, 0.6, 63, share=0.5),
          Stage(0.9, 0.86, 1.0, 0.008, 0.9, 64, share=0.25), Stage(13.0, 0.7, 1.0, 0.012, 0.6, 102, share=0.85, more={"cmps": 6, "judge": 3, "two": 4, "fix": 3}),
          Stage(0.9, 0.9, 1.0, 0.006, 1.0, 103, share=0.5, more={"fix": 6, "two": 6, "one": 3}),
          Stage(15.0, 0.7, 1.0, 0.012, 0.55, 202, share=0.7, more={"cmps": 6, "judge": 2, "two": 7, "fix": 8, "one": 6}),
          Stage(2.2, 0.88, 1.0, 0.009, 0.9, 204, share=0.4, more={"chat": 5, "two": 20, "fix": 7, "cmps": 4, "notes": 3, "one": 5}),
          Stage(8.5, 0.8, 1.0, 0.012, 0.85, 205, share=0.8, more={"two": 14, "fix": 8, "cmps": 6, "one": 6, "judge": 2, "notes": 2, "chat": 2}),
          Stage(3.0, 0.84, 1.0, 0.010, 0.9, 601, share=0.35, more={"which": 14, "one": 6, "front": 8, "fix": 12, "two": 16, "cmps": 5, "judge": 1, "chat": 2}),
          Stage(5.5, 0.82, 1.0, 0.011, 0.9, 701, share=0.5, more={"which": 14, "one": 10, "front": 6, "fix": 12, "two": 18, "cmps": 5, "judge": 1, "chat": 2}),
          Stage(5.0, 0.82, 1.0, 0.011, 0.9, 811, share=0.6, more={"which": 12, "one": 12, "front": 6, "fix": 12, "two": 24, "cmps": 5, "judge": 1, "chat": 2})),
}

SMOKE = (Stage(0.15, 0.15, 0.3, 0.02, 0.0, 1), Stage(0.15, 0.2, 1.0, 0.02, 0.35, 1, share=0.5))
