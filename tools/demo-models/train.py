"""Train one demo tier, or all of them, from random weights on generated text and, where it is at hand, real sentences.

    train.py --smoke                          the whole recipe in about a minute, tiny: tokenizer, training, export, check
    train.py --full --work DIR                all four tiers, stage by stage as recipe.py has them, and their files in models/; with --tier, that tier alone
    train.py --tier s --work DIR              one run of one tier; repeat with --resume to go on after a stop (--full too)

Several workers on one model: start it with `torchrun --nproc-per-node 2 train.py ...`; each takes --threads cores and a batch of its own.
"""

import argparse
import json
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")  # every shape of batch keeps its compiled products

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import evaluate
import check_gguf
import export_gguf
import grow
import mix
import model as lfm2
import natural
import recipe
import tasks
import tokenizer as bpe
from batches import Batch, Encoder, stream
from optimiser import Optimiser

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent.parent / "models"
BATCH = {"xs": 2000, "s": 2500, "m": 3500, "l": 4000}
WARM_UP = 40
LOOKS = 200  # copied tokens and citations of a batch whose attention is supervised
WEIGHT = {"second": 2.5, "size": 3.0}  # among the auxiliary losses: the last step to the second passage, the first one to a comparison
AUXILIARY = ("passage", "target", "asked", "copy", "find", "bridge", "second", "left", "right", "word", "size", "lead", "more", "larger", "wins", "truth", "match", "held", "same", "rightly", "sentence", "clause", "spot", "site")
OTHER_WEIGHT = 0.2  # of the loss on prompt tokens beside the one on answers
HOLD, FOUND = 0.14, 60  # the curriculum waits here until so many per cent of the citations over three passages are right
EMA = 0.998  # the running mean of the weights is what is measured and shipped


@dataclass
class Plan:
    """Where in the curriculum a run begins and ends, over how many tokens, and how the rate goes."""

    tier: str
    tokens: float
    start: float = 0.0
    stop: float = 1.0
    rate: float = 0.02
    decay: float = 0.35  # share of the run over which the rate falls to zero
    aux: float = 0.3
    batch: int = 0  # tokens, 0: as BATCH has it
    more: dict[str, int] = field(default_factory=dict)  # tasks that are set more often, and how much their weight is raised


class Heads(nn.Module):
    """Linear readers that exist while training only, one per step of the look-up: after the first attention layer, in which passage does this
    token stand (`passage`); after the second, on the words of a question, which passage that speaks of them is to be cited (`asked`); after the
    third, on the last tokens before the answer, which one is to be cited (`target`).
    Beside them one attention head of the last attention layer is told where the next copied token stands (`copy`) and one of the third in which
    passage the first cited number is (`find`). For the second number one of the second is told where the name stands that leads from the first passage
    to it (`bridge`), and one of the third where the same name stands in the second passage (`second`): not just in which passage, or it would learn
    to look for what is asked, which stands in a wrong passage too, and guess between them.
    Where two numbers are compared, before the third attention layer readers ask the last digit of each number how large it is (`size`) and which digit it begins with (`lead`); two heads of
    that layer are told to look at those digits (`left`, `right`) and one of the second at the word of the question that says which one wins (`word`); at the token before the answer, readers ask after the second whether more or less
    is wanted (`more`), and after the third which number is larger and whether the first thing is the answer (`larger`, `wins`).
    Where an answer is judged, one head of the second attention layer is told to look from its value to the same one in the passages (`match`), and a reader whether there is any (`held`); one of
    the third looks at the right value (`truth`), and readers say whether that is the same and whether the citation is right (`same`, `rightly`).
    A tier whose third attention layer is its last has no room for comparing and judging.
    A passage that says the same of two things is understood by sentence: where the value comes before its subject, only the sentence joins them for a model that reads
    forwards. So the readers of passages have a twin each: which sentence of its passage is this (`sentence`), in which is the value (`clause`, on the words of the question, and
    `spot`, before its first token), and the head that looks for the cited passage is told to look at that sentence then (`site`)."""

    def __init__(self, hidden: int):
        super().__init__()
        self.passage = nn.Parameter(torch.zeros(10, hidden))
        self.target = nn.Parameter(torch.zeros(10, hidden))
        self.asked = nn.Parameter(torch.zeros(10, hidden))
        self.sentence, self.clause, self.spot = (nn.Parameter(torch.zeros(10, hidden)) for _ in range(3))
        self.size, self.lead = nn.Parameter(torch.zeros(1, hidden)), nn.Parameter(torch.zeros(10, hidden))
        self.more, self.larger, self.wins, self.held, self.same, self.rightly = (nn.Parameter(torch.zeros(2, hidden)) for _ in range(6))


class Trainer:
    def __init__(self, plan: Plan, encoder: Encoder, seed: int, device: str):
        torch.manual_seed(seed)
        self.plan, self.encoder, self.seed, self.device = plan, encoder, seed, device
        compute = lfm2.compute_type(device)
        self.model = lfm2.build(plan.tier, compute).to(device)
        self.mean = lfm2.build(plan.tier, compute).to(device)
        self.mean.load_state_dict(self.model.state_dict())
        self.heads = Heads(self.model.config.hidden).to(device)
        self.optimiser = Optimiser(self.model, plan.rate, 0.15 * plan.rate, compute)
        self.head_optimiser = torch.optim.Adam(self.heads.parameters(), lr=3e-3)
        self.taps = self.model.config.attention[:3]
        self.copier, self.finder, self.bridge = (self.model.layers[n] for n in (self.model.config.attention[-1], self.taps[2], self.taps[1]))
        self.copier.watched = self.finder.watched = self.bridge.watched = True
        self.compares = self.taps[2] != self.model.config.attention[-1]
        self.step = self.seen = self.total = 0  # steps and tokens of this run that moved its plan on, tokens of all runs
        self.found = plan.start > HOLD  # can it find the right passage yet
        self.losses = dict.fromkeys(("answer", "other", *AUXILIARY), 0.0)

    def progress(self) -> float:
        p = self.plan
        return p.start + (p.stop - p.start) * min(1.0, self.seen / p.tokens)

    def scale(self) -> float:
        left = 1 - self.seen / self.plan.tokens
        return min(1.0, (self.step + 1) / WARM_UP) * min(1.0, max(0.01, left / max(self.plan.decay, 1e-6)))

    def _pick(self, chosen: Tensor, count: int) -> Tensor:
        return chosen[torch.randperm(len(chosen), device=chosen.device)[:count]]

    def _looking(self, layer: nn.Module, head: int, rows: list[int], at: list[int], wanted: Tensor) -> Tensor:
        """How far one attention head is from looking, at each of the places `at`, only where `wanted` says."""
        q, k = layer.seen
        wanted, place = wanted.to(self.device), torch.tensor(at, device=self.device)
        scores = torch.einsum("nd,nld->nl", q[rows, head, at], k[rows, head]).float() / q.shape[-1] ** 0.5
        scores = scores.masked_fill(torch.arange(scores.shape[1], device=self.device) > place[:, None], -torch.inf)
        return (scores.logsumexp(-1) - scores.masked_fill(~wanted, -torch.inf).logsumexp(-1)).mean()

    def _states(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The last states, the residuals after the first three attention layers and the one that the third of them reads."""
        before = self.taps[2] - 1
        wanted = (*self.taps[:2], before, self.taps[2]) if before not in self.taps else self.taps
        states, tapped = self.model.hidden_states(ids, wanted)
        found = dict(zip(wanted, tapped))
        return states, [*(found[n] for n in self.taps), found[before]]

    def _read(self, labels: list[tuple[int, ...]], taps: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of readers: each label is a row, a token and one class for each of them."""
        rows, at, *classes = (list(column) for column in zip(*labels))
        return {name: F.cross_entropy(F.linear(lfm2.normalise(tap[rows, at]).float(), getattr(self.heads, name)), torch.tensor(truth, device=self.device))
                for (name, tap), truth in zip(taps.items(), classes)}

    def _comparing(self, batch: Batch, tapped: list[Tensor], before: Tensor) -> dict[str, Tensor]:
        """How far the readers of a comparison are from the truth: the size of each number, more or less, which is larger, which is the answer."""
        losses = self._read(batch.duels, {"larger": tapped[2], "more": tapped[1], "wins": tapped[2]})
        rows, at, sizes, leads = (list(column) for column in zip(*batch.sizes))
        number = lfm2.normalise(before[rows, at]).float()
        losses["size"] = F.smooth_l1_loss(F.linear(number, self.heads.size)[:, 0] + 2, torch.tensor(sizes, device=self.device), beta=0.1)
        losses["lead"] = F.cross_entropy(F.linear(number, self.heads.lead), torch.tensor(leads, device=self.device))
        return losses

    def _loss(self, batch: Batch) -> Tensor:
        ids, marks, passage, sentence, target, asked, clause = (torch.from_numpy(a).to(self.device) for a in (batch.ids, batch.marks, batch.passage, batch.sentence, batch.target, batch.asked, batch.clause))
        states, (*tapped, before) = self._states(ids)
        width = ids.shape[1]
        here = torch.arange(ids.numel(), device=self.device).view_as(ids)[:, :-1].reshape(-1)
        after, mark = ids[:, 1:].reshape(-1), marks[:, 1:].reshape(-1)
        wanted = (mark > 0).nonzero()[:, 0]
        others = self._pick(((mark == 0) & (after != bpe.PAD)).nonzero()[:, 0], max(len(wanted), 16))
        chosen = torch.cat((wanted, others))
        each = F.cross_entropy(self.model.head(states.reshape(-1, states.shape[-1])[here[chosen]]), after[chosen], reduction="none")
        losses = {"answer": each[: len(wanted)].mean(), "other": each[len(wanted) :].mean()}
        for name, tap, labels, known in (("passage", tapped[0], passage, passage > 0), ("sentence", tapped[0], sentence, sentence > 0), ("clause", tapped[1], clause, clause >= 0), ("asked", tapped[1], asked, asked >= 0), ("target", tapped[2], target, target >= 0)):
            at = self._pick(known.reshape(-1).nonzero()[:, 0], 1000)
            if len(at):
                logits = F.linear(tap.reshape(-1, tap.shape[-1])[at].float(), getattr(self.heads, name))
                losses[name] = F.cross_entropy(logits, labels.reshape(-1)[at])
        last = self.model.config.heads - 1
        for name, layer, head, known in (("copy", self.copier, 0, batch.looks), ("bridge", self.bridge, last, batch.bridges), ("second", self.finder, last, batch.named),
                                         *((("left", self.finder, 0, batch.weighed[0]), ("right", self.finder, 2, batch.weighed[1]), ("word", self.bridge, 0, batch.words),
                                           ("truth", self.finder, 0, batch.truths), ("match", self.bridge, 0, batch.matches)) if self.compares else ())):
            at = [known[n] for n in torch.randperm(len(known))[:LOOKS]]
            wanted = torch.zeros(len(at), width, dtype=torch.bool)
            for n, (_, _, places) in enumerate(at):
                wanted[n, places] = True
            if at:
                losses[name] = self._looking(layer, head, [row for row, _, _ in at], [k for _, k, _ in at], wanted)
        at = [batch.cites[n] for n in torch.randperm(len(batch.cites))[:LOOKS]]
        rows = [row for row, _, _ in at]
        if at:
            losses["find"] = self._looking(self.finder, 1, rows, [k for _, k, _ in at], passage[rows] == torch.tensor([n for _, _, n in at], device=self.device)[:, None])
        at = [batch.spots[n] for n in torch.randperm(len(batch.spots))[:LOOKS]]
        if at:
            rows, places, cited, homes = (list(column) for column in zip(*at))
            cited, homes = torch.tensor(cited, device=self.device), torch.tensor(homes, device=self.device)
            losses["spot"] = F.cross_entropy(F.linear(lfm2.normalise(tapped[2][rows, places]).float(), self.heads.spot), homes)
            losses["site"] = self._looking(self.finder, 1, rows, places, (passage[rows] == cited[:, None]) & (sentence[rows] == homes[:, None]))
        if self.compares and batch.duels:
            losses |= self._comparing(batch, tapped, before)
        if self.compares and batch.verdicts:
            losses |= self._read(batch.verdicts, {"held": tapped[1], "same": tapped[2], "rightly": tapped[2]})
        for name, value in losses.items():
            self.losses[name] += (0.02 if self.step > 50 else 0.2) * (value.item() - self.losses[name])
        extra = sum(losses.get(name, 0) * WEIGHT.get(name, 1) for name in AUXILIARY)
        return losses["answer"] + OTHER_WEIGHT * losses["other"] + self.plan.aux * extra

    def _share(self, count: int) -> int:
        """Average the gradients over all workers; returns the tokens that all of them saw together. What the first one measured, all know."""
        if not dist.is_initialized():
            return count
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        flat = torch.cat([p.grad.reshape(-1) for p in parameters] + [torch.tensor([float(count), float(self.found)], device=self.device)])
        dist.all_reduce(flat)
        parts = (flat[:-2] / dist.get_world_size()).split([p.numel() for p in parameters])
        for p, part in zip(parameters, parts):
            p.grad.copy_(part.view_as(p))
        self.found = bool(flat[-1] > 0)
        return int(flat[-2])

    def learn(self, batch: Batch) -> None:
        self._loss(batch).backward()
        count = self._share(int((batch.ids != bpe.PAD).sum()))
        self.optimiser.step(self.scale())
        self.head_optimiser.step()
        self.head_optimiser.zero_grad()
        self.model.zero_grad(set_to_none=True)
        self.step, self.total = self.step + 1, self.total + count
        if self.found or self.progress() < HOLD:
            self.seen += count
        keep = min(EMA, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for a, b in zip(self.mean.parameters(), self.model.parameters()):
                a.lerp_(b, 1 - keep)

    def save(self, path: Path) -> None:
        state = dict(plan=vars(self.plan), seed=self.seed, step=self.step, seen=self.seen, found=self.found, total=self.total, model=self.model.state_dict(),
                     mean=self.mean.state_dict(), heads=self.heads.state_dict(), optimiser=self.optimiser.state(), head_optimiser=self.head_optimiser.state_dict())
        torch.save(state, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def load(self, path: Path, fresh: bool) -> None:
        """Go on from a checkpoint; `fresh` keeps only the weights and starts the plan, the optimiser and its rate anew."""
        state = torch.load(path, map_location=self.device)
        for name in ("model", "mean", "heads"):
            getattr(self, name).load_state_dict(state[name], strict=name != "heads")
        self.total, self.found = state["total"], self.found or state.get("found", False)
        if not fresh:
            self.step, self.seen = state["step"], state["seen"]
            self.optimiser.load(state["optimiser"])
            self.head_optimiser.load_state_dict(state["head_optimiser"])


def run(trainer: Trainer, checkpoint: Path, every: float, cell_size: int, max_seconds: float) -> None:
    """Train to the end of the plan; measure each kind of question and save every `every` million tokens."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    log = checkpoint.with_suffix(".log").open("a")

    def report(line: dict) -> None:
        text = json.dumps(line)
        print(text, flush=True)
        log.write(text + "\n")
        log.flush()

    def measure() -> None:
        if rank:
            return
        cells = evaluate.table(trainer.mean, trainer.encoder, cell_size)
        trainer.found = trainer.found or cells["one-hop 3"][2] >= FOUND
        mean = sum(whole for whole, _, _ in cells.values()) / len(cells)
        report(dict(time=time.strftime("%H:%M:%S"), tokens=trainer.total, p=round(trainer.progress(), 3), step=trainer.step,
                    per_second=round((trainer.total - first) / max(1e-9, time.time() - began)), loss={k: round(v, 3) for k, v in trainer.losses.items()},
                    mean=round(mean, 1), cells={k: [round(x) for x in v] for k, v in cells.items()}))
        trainer.save(checkpoint)

    began, first = time.time(), trainer.total
    due = first + every * 1e6
    if rank == 0:
        report(dict(plan=vars(trainer.plan), parameters=lfm2.parameters(trainer.model), seed=trainer.seed, torch=torch.__version__))
    for batch in stream(trainer.encoder, trainer.seed * 1_000_003 + trainer.total + 7919 * rank, trainer.progress, trainer.plan.batch or BATCH[trainer.plan.tier], trainer.plan.more):
        trainer.learn(batch)
        if trainer.total >= due:
            measure()
            due += every * 1e6
        if trainer.seen >= trainer.plan.tokens or trainer.total - first >= 2 * trainer.plan.tokens or time.time() - began > max_seconds:
            break
    measure()


def encoder_for(path: Path, examples: int = 25000) -> Encoder:
    if not path.exists():
        bpe.train(str(path), examples)
    return Encoder(bpe.load(str(path)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--smoke", action="store_true")
    options.add_argument("--full", action="store_true")
    options.add_argument("--tier", choices=lfm2.TIERS)
    options.add_argument("--work", type=Path, default=Path("demo-models-work"), help="where checkpoints and logs go")
    options.add_argument("--name", help="name of the checkpoint, the tier by default")
    options.add_argument("--tokens", type=float, default=20, help="million tokens of this run")
    options.add_argument("--from", dest="start", type=float, default=0.0, help="place in the curriculum where the run begins, 0..1")
    options.add_argument("--rate", type=float, default=0.02, help="learning rate of Muon")
    options.add_argument("--decay", type=float, default=0.35)
    options.add_argument("--batch", type=int, default=0, help="tokens in a batch")
    options.add_argument("--more", nargs="*", default=[], metavar="TASK=WEIGHT", help="set these tasks more often, e.g. cmps=30")
    options.add_argument("--resume", action="store_true", help="go on from the checkpoint in --work")
    options.add_argument("--init", type=Path, help="begin a new plan with the weights of this checkpoint")
    options.add_argument("--every", type=float, default=1.0, help="million tokens between two measurements")
    options.add_argument("--cell-size", type=int, default=60)
    options.add_argument("--minutes", type=float, default=1e9, help="stop (resumably) after this long")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--natural", type=Path, metavar="DIR", help="folder of real sentences and questions, for the task `which`: natural.py")
    chosen = options.parse_args()
    if chosen.natural:
        natural.use(chosen.natural)
    torch.set_num_threads(chosen.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    chosen.work.mkdir(parents=True, exist_ok=True)

    first = not dist.is_initialized() or dist.get_rank() == 0

    def train(plan: Plan, checkpoint: Path, seed: int, every: float, size: int, init: Path | None) -> Trainer:
        trainer = Trainer(plan, encoder, seed, device)
        if chosen.resume and checkpoint.exists():
            trainer.load(checkpoint, fresh=False)
        elif init:
            trainer.load(init, fresh=True)
        if trainer.seen < plan.tokens:
            run(trainer, checkpoint, every, size, chosen.minutes * 60)
        return trainer

    def together() -> None:
        if dist.is_initialized():
            dist.barrier()

    def walk(tier: str, stages: tuple[recipe.Stage, ...], out: Path, every: float, size: int) -> None:
        """All stages of one tier; its checkpoint is TIER.pt, that of each stage TIER-N.pt."""
        done, before = chosen.work / f"{tier}.pt", None
        if tier in recipe.GROWN:
            before = chosen.work / f"{tier}-0.pt"
            if first:
                grow.grow_checkpoint(chosen.work / f"{recipe.GROWN[tier]}.pt", tier, before)
            together()
        for n, stage in enumerate(stages, 1):
            checkpoint = chosen.work / f"{tier}-{n}.pt"
            train(Plan(tier, stage.tokens * 1e6, stage.start, stage.stop, stage.rate, stage.decay, more=stage.more), checkpoint, stage.seed, every, size, before)
            together()
            if first and stage.share < 1:
                torch.save(mix.mean_of(before, checkpoint, stage.share), chosen.work / f"{tier}-{n}-mean.pt")
            before = chosen.work / f"{tier}-{n}-mean.pt" if stage.share < 1 else checkpoint
            together()
        if first:
            shutil.copyfile(before, done)
            model = lfm2.build(tier)
            model.load_state_dict(torch.load(done)["mean"])
            export_gguf.export(model, encoder.tokenizer, tier, out)
        together()

    if chosen.smoke:
        encoder = encoder_for(chosen.work / "smoke-tokenizer.json", 4000)
        walk("xs", recipe.SMOKE, chosen.work / "smoke.gguf", 1.0, 10)
        check_gguf.check(chosen.work / "smoke.gguf", chosen.work / "xs.pt", str(chosen.work / "smoke-tokenizer.json"))
        return
    encoder = encoder_for(HERE / "tokenizer.json")
    if chosen.full:
        for tier in [chosen.tier] if chosen.tier else recipe.RECIPE:
            walk(tier, recipe.RECIPE[tier], MODELS / f"demo-{tier}.gguf", chosen.every, chosen.cell_size)
        return
    if not chosen.tier:
        options.error("one of --smoke, --full, --tier is needed")
    more = {name: int(weight) for name, weight in (pair.split("=") for pair in chosen.more)}
    if unknown := sorted(set(more) - set(tasks.TASKS)):
        options.error(f"--more {unknown[0]}: there are {', '.join(tasks.TASKS)}" + ("" if chosen.natural else ", and `which` with --natural"))
    plan = Plan(chosen.tier, chosen.tokens * 1e6, chosen.start, 1.0, chosen.rate, chosen.decay, batch=chosen.batch, more=more)
    trainer = train(plan, chosen.work / f"{chosen.name or chosen.tier}.pt", chosen.seed, chosen.every, chosen.cell_size, chosen.init)
    if first:
        export_gguf.export(trainer.mean, encoder.tokenizer, chosen.tier, chosen.work / f"{chosen.name or chosen.tier}.gguf")


if __name__ == "__main__":
    main()
