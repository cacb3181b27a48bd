"""Whole exercises: numbered passages, the questions on them, and the one right answer to each.

Every builder returns an `Example`: the passages as the product would hand them over and a list of turns. Answers cite
first, in the order in which the facts are needed, and then copy the value; what is not there is refused.
"""

import random
import re
from dataclasses import dataclass, field, replace

import own
import relations
import words
from facts import Fact, World, as_pair, brief_question, new_fact, question, silent, statement

REFUSAL = "Not in the passages."
_FIRST_NAMES = set(words.WOMEN) | set(words.MEN)


@dataclass
class Example:
    passages: list[str]
    turns: list[tuple[str, str]] = field(default_factory=list)  # user text, answer
    bare: bool = False  # a general turn that is not introduced by `Question:`
    history: list[tuple[str, str]] = field(default_factory=list)  # what was said before, without the passages of then
    via: dict[str, str] = field(default_factory=dict)  # question of two hops: the name that leads from the first passage to the second
    about: dict[str, int] = field(default_factory=dict)  # question whose answer cites nothing: the passage that one must read for it
    compared: dict[str, tuple[str, str, str, bool]] = field(default_factory=dict)  # question that compares: the two values as the passages have them, the word, whether more wins
    judged: dict[str, tuple[str, str, bool]] = field(default_factory=dict)  # question that asks for a score: the right value, the given one, whether its citation is right


def answer(value: str, cites: list[int]) -> str:
    return " ".join(f"[{n}]" for n in dict.fromkeys(cites)) + " " + value


def user_text(passages: list[str], text: str, bare: bool = False) -> str:
    """What the product writes into the user turn."""
    lines = [f"[{n}] {p}" for n, p in enumerate(passages, 1)]
    return "\n".join(lines + [text if bare else f"Question: {text}"])


# ---------------------------------------------------------------------------------------------- plain sentences

_FILLERS = """We were glad to see so many {g} {when}. | Please keep the doors closed in winter. | Thank you for your patience. | {g} are welcome at any time. |
If you have any questions, please ask. | Many {g} have asked about this. | Everybody helped to clean up afterwards. | The weather was better than expected. |
This page is updated from time to time. | Smoking is not allowed anywhere in the building. | Please leave the rooms as you found them. |
Nothing else was decided {when}. | Some of the {goods} are still missing. | We ran out of {food} far too early. | The {thing} makes a strange noise when it rains. |
Do not leave {goods} lying around. | It took longer than we had hoped. | More details will follow soon. | There is always something to do here. |
Most {g} arrive by bus or on foot. | Bring your own {food} if you like. | Nobody remembers how the {thing} got here. | A few {g} stayed to talk. |
Last year was a good year for us. | The {venue} was full of people {when}. | In case of fire, leave the building at once. | We would like to thank all {g}. |
The old rules still apply. | Please be careful with the {thing}. | Wash your hands before you touch the {goods}. | It is best to come early. |
You do not need to sign up in advance. | The {adj} {thing} is popular with {g}. | Children under six must come with an adult. | We are always looking for {goods} and {food}. |
Dogs must be kept on a lead. | The path behind the {venue} can be muddy. | Not everyone likes {food}. | Anyone can suggest an idea. | Both teams did their best. |
This has always been our custom. | The first hour is usually quiet. | Please switch off the lights when you leave. | Later we had {food} together. |
A short break in the middle is a good idea. | The {g} were very happy with it. | It is hard to find {goods} of this kind. | See the notice on the door for more. |
Everything was ready in time. | Tools go back to their place after use. | He who comes late has to wait. | There were no complaints {when}. | The lift is out of order again.
| The lamp above the door flickers. | We hope to repeat this soon. | Ask a neighbour if nobody answers. | The floor of the {venue} is slippery when wet.
| Keep receipts for all {goods}. | New {g} get a short tour first. | One of the {goods} was damaged on the way. | Lunch was simple but good.""".replace("\n", " ").split("|")
_FILLERS = [f.strip() for f in _FILLERS]
_HEADINGS = """Notes | General | House rules | Opening hours | Contact | People | About us | Minutes | News | Rooms | Equipment | Prices | Services | Plans | History |
Overview | Events | Calendar | Rules | Members | Inventory | Practical information | Who is who | Good to know | Team | Fees | Location | Access | Background | Details""".replace("\n", " ").split("|")
_HEADINGS = [h.strip() for h in _HEADINGS]


def filler(w: World) -> str:
    """A sentence that answers no question; half are hand-made, half tell of something nobody will ask about."""
    r = w.r
    if r.random() < 0.3:
        return statement(replace(w, held_forms=False), new_fact(replace(w, held_forms=False)))
    text = r.choice(_FILLERS)
    for slot, pick in (("{g}", lambda: r.choice(words.GROUPS)), ("{goods}", lambda: r.choice(words.GOODS)), ("{food}", lambda: r.choice(words.FOODS)),
                       ("{thing}", lambda: r.choice(words.THINGS)), ("{venue}", lambda: r.choice(words.VENUES)), ("{adj}", lambda: r.choice(words.ADJECTIVES)),
                       ("{when}", lambda: r.choice(("last week", "this time", "last month", "in spring", "this year", "on the last day")))):
        if slot in text:
            text = text.replace(slot, pick())
    return words.capital(text)


# ---------------------------------------------------------------------------------------------- passages

@dataclass
class Item:
    """One thing that a passage says; `alone` keeps it in a passage of its own, as the product does with its own notes."""

    tag: object
    text: str
    subject: str = ""
    kind: str = ""
    alone: bool = False
    silent: str = ""  # the same where the subject is clear without being named


def item(w: World, tag: object, fact: Fact, pair: float = 0.0, value: str | None = None) -> Item:
    if w.chance(pair):
        return Item(tag, as_pair(w, fact, value), alone=True)
    return Item(tag, statement(w, fact, value), fact.subject, fact.subject_kind)


def _pronoun(subject: str, kind: str) -> str:
    if kind == "group":
        return "They"
    if kind != "person":
        return "It"
    first = subject.split()[0]
    if first in words.WOMEN or first == "Ms":
        return "She"
    return "He" if first in words.MEN or first == "Mr" or words.crc(subject) % 2 else "She"


def _short(subject: str, kind: str) -> str:
    """The second mention by name: `Anna` for Anna Keller, `The course` for the pottery course."""
    parts = subject.split()
    if kind == "person":
        return parts[0] if parts[0] in _FIRST_NAMES else words.capital(subject)
    return "The " + " ".join(parts[2:]) if parts[0] == "the" and len(parts) > 2 else words.capital(subject)


def _prose(w: World, items: list[Item], notes: float) -> str:
    """Join what one passage says into running text: neighbours about the same thing become `it`, `she`, or one sentence with `and`."""
    if not w.chance(notes) or items[0].alone:
        return " ".join(i.text for i in items)
    items = sorted(items, key=lambda i: (i.subject == "", i.subject))
    out: list[str] = []
    last = ""
    if w.chance(0.3):
        first = items[0]
        heading = w.r.choice(_HEADINGS) if w.chance(0.6) or not first.subject else words.capital(first.subject)
        out.append(heading + ".")
        if heading == words.capital(first.subject) and first.text.startswith(heading + " ") and w.chance(0.4):
            last = first.subject
    for i in items:
        name, text = words.capital(i.subject), i.text
        if last and i.subject == last and re.match(re.escape(name) + " [a-z]", text):
            rest = text[len(name) + 1 :]
            if w.chance(0.3) and out and out[-1].endswith(".") and out[-1].startswith((name, "It ", "She ", "He ")):
                out[-1] = f"{out[-1][:-1]} and {rest}"
            elif w.chance(0.7):
                out.append(f"{_pronoun(i.subject, i.kind)} {rest}")
            else:
                out.append(text)
        else:
            out.append(text)
        last = i.subject
        while w.chance(0.3):
            out.append(filler(w))
            last = "" if w.chance(0.5) else last
    if w.chance(0.25):
        out.insert(0, filler(w))
    return " ".join(out)


def lay_out(w: World, items: list[Item], count: int, notes: float) -> tuple[list[str], dict]:
    """Spread the items over `count` passages; returns the texts and the passage number of every tag."""
    r = w.r
    free = [i for i in items if not i.alone]
    alone = [i for i in items if i.alone]
    r.shuffle(free)
    room = max(count - len(alone), 1 if free else 0)
    bins: list[list[Item]] = [[] for _ in range(room)]
    while len(free) < room:
        free.append(Item(None, filler(w)))
    homes: dict[str, list[Item]] = {}
    for n, i in enumerate(free):
        together = homes.get(i.subject) if i.subject and w.chance(0.6 * notes) else None
        target = bins[n] if n < room and not together else (together if together is not None else r.choice(bins))
        target.append(i)
        homes.setdefault(i.subject, target)
    for b in bins:
        if not b:
            b.append(Item(None, filler(w)))
    bins += [[i] for i in alone]
    r.shuffle(bins)
    where = {i.tag: n for n, b in enumerate(bins, 1) for i in b if i.tag is not None}
    return [_prose(w, b, notes) for b in bins], where


def distractors(w: World, fact: Fact, count: int, taken: list[Fact]) -> list[Fact]:
    """Facts that compete with the asked one: same relation and other entity, same entity and other relation, or anything."""
    out: list[Fact] = []
    claims = set().union(*(f.claims for f in taken + [fact]))
    for _ in range(count * 20):
        if len(out) >= count:
            break
        x = w.r.random()
        if w.easy and w.chance(w.easy):
            x = 0.3 if x < 0.5 else 0.9
        if x < 0.4:
            other = new_fact(w, like=fact)
        elif x < 0.7:
            other = new_fact(w, subject=fact.subject, subject_kind=fact.subject_kind)
        elif x < 0.85 and out:
            base = w.r.choice(out)
            other = new_fact(w, subject=base.subject, subject_kind=base.subject_kind)
        else:
            other = new_fact(w)
        if other.claims & claims or other.value == fact.value:
            continue
        claims |= other.claims
        out.append(other)
    return out


def short_name(w: World, passages: list[str], fact: Fact, text: str) -> str:
    """Users say `Anna` for Anna Keller and `the library` for the north library, when nothing else goes by that name."""
    parts = fact.subject.split()
    if len(parts) < 2 or fact.subject not in text:
        return text
    if fact.subject_kind == "person":
        alias = parts[w.r.randrange(2)] if parts[0] in _FIRST_NAMES else parts[-1]
        found = re.findall(rf"\b{re.escape(alias)}\b", " ".join(passages))
    elif fact.subject_kind in ("thing", "venue", "event") and len(parts) > 2:
        alias = "the " + " ".join(parts[2:])
        found = re.findall(rf"\b{re.escape(' '.join(parts[2:]))}\b", " ".join(passages))
    else:
        return text
    full = len(re.findall(re.escape(fact.subject), " ".join(passages), re.IGNORECASE))
    return text.replace(fact.subject, alias) if len(found) == full and full else text


def ask(w: World, passages: list[str], fact: Fact, subject: str | None = None) -> str:
    text = question(w, fact, subject)
    if subject is None and not w.held_forms and not w.easy and w.chance(0.12):
        text = short_name(w, passages, fact, text)
    return text


# ---------------------------------------------------------------------------------------------- exercises

def opening(fact: Fact) -> Fact:
    """The same fact, said only in ways that open with its value and give it a capital there; the fact itself if there are none, or the value has one anyway."""
    forms = tuple(form for form in fact.statements if form.startswith("{v}"))
    return replace(fact, statements=forms) if forms and fact.value[:1].islower() else fact


@dataclass
class Shape:
    """How large and how difficult an exercise is."""

    passages: int = 3
    turns: int = 1
    notes: float = 0.0  # share of passages written as running text with fillers and pronouns
    pairs: float = 0.0  # share of facts stored as question and answer
    single: bool = False  # one hop: each passage says one thing and no more


def _extra(w: World, count: int) -> int:
    return w.r.choice((0, 0, 1, 2)) if count < 6 else w.r.choice((0, 1))


def _missing(w: World, known: list[Fact]) -> Fact:
    """A question that cannot be answered: half of the time the entity is there and the attribute is not; in training more often than that, and then mostly
    an everyday attribute."""
    claims = set().union(*(f.claims for f in known)) if known else set()
    same, like = (0.68, 0.9) if w.practice else (0.5, 0.85)
    while True:
        base = w.r.choice(known) if known else None
        x = w.r.random()
        if base and x < 0.2 and w.practice and base.value_kind in words.MAKERS:  # the entity is there, and a value that would fit
            fact = new_fact(w, subject=base.subject, subject_kind=base.subject_kind, value_kind=base.value_kind)
        elif base and x < same:
            fact = new_fact(w, subject=base.subject, subject_kind=base.subject_kind, everyday=w.practice)
        elif base and x < like:
            fact = new_fact(w, like=base)
        else:
            fact = new_fact(w)
        if not fact.claims & claims and not (fact.key.startswith("act ") and any((fact.subject, "charge") in f.claims for f in known)):
            return fact


def _more(w: World, example: Example, facts: list[tuple[Fact, int]], shape: Shape) -> Example:
    """Further questions on the same passages, some of which have no answer; then everything in random order."""
    left = [pair for pair in facts if not any(pair[0].value in reply for _, reply in example.turns)] if shape.turns > 1 else []
    w.r.shuffle(left)
    for _ in range(shape.turns - 1):
        if w.chance(0.13) or not left:
            example.turns.append((question(w, _missing(w, [f for f, _ in facts])), REFUSAL))
        else:  # each fact once: a second answer could be copied from the first
            fact, number = left.pop()
            example.turns.append((ask(w, example.passages, fact), answer(fact.value, [number])))
    w.r.shuffle(example.turns)
    return example


def one_hop(w: World, shape: Shape, opened: float = 0.0) -> Example:
    """`opened` is the share of values that open their sentence, where it can be had; that of the first question always does then."""
    fact = new_fact(w)
    for _ in range(40 if opened else 0):
        if opening(fact) is not fact:
            break
        fact = new_fact(w)
    extra = 0 if shape.single else _extra(w, shape.passages) - (w.chance(0.25) and shape.passages > 2)
    facts = [fact] + distractors(w, fact, max(shape.passages + extra - 1, 0), [])
    if opened:
        facts = [opening(f) if n == 0 or w.chance(opened) else f for n, f in enumerate(facts)]
    passages, where = lay_out(w, [item(w, n, f, shape.pairs) for n, f in enumerate(facts)], shape.passages, shape.notes)
    if shape.pairs and w.chance(0.12):  # a correction of something else, or one that is the only source
        n = where[0] if w.chance(0.5) else w.r.randint(1, len(passages))
        if where[0] == n or not passages[n - 1].startswith("Q:"):
            if not re.match(r"(Q|Correction|Update)", passages[n - 1]) and len(passages[n - 1]) < 90:
                passages[n - 1] = w.r.choice(("Correction: ", "Update: ")) + passages[n - 1]
            elif passages[n - 1].startswith("Q:"):
                passages[n - 1] = "Correction: " + passages[n - 1]
    example = Example(passages, [(ask(w, passages, fact), answer(fact.value, [where[0]]))])
    return _more(w, example, [(f, where[n]) for n, f in enumerate(facts)], shape)


def front(w: World, shape: Shape) -> Example:
    """One hop to values that open their sentence: the capital makes other tokens of them than those that have to be written."""
    return one_hop(w, shape, 0.75)


_TOPICS = (("person",), ("venue",), ("event",), ("thing",), ("venue", "thing", "event"), words.ENTITIES, ("person", "org"), ("thing", "venue"), ("org",), ("place", "org"))
_ALIKE = ("person", "person", "number", "money", "clock", "date", "spot", "code", "phone", "duration", "weekday", "place", "phrase", "phrase")


@dataclass
class Page:
    """What one page of notes is about, and what it has to say."""

    topic: str
    kind: str
    facts: list[Fact] = field(default_factory=list)


def _new_page(w: World, kinds: tuple[str, ...], taken: set[str]) -> Page:
    kind = w.r.choice(kinds)
    topic = words.make(kind, w.r, w.held_names)
    while topic in taken:
        kind, topic = "person", words.make("person", w.r, w.held_names)
    taken.add(topic)
    return Page(topic, kind)


def _fill_page(w: World, page: Page, wanted: int, claims: set, taken: set[str], model: Page | None) -> None:
    """Say more about the topic: anything, the same things as the page `model` does, or several values of one kind."""
    alike = w.r.choice(_ALIKE) if w.chance(0.35) else None
    like = list(model.facts) if model and model.kind == page.kind else []
    for _ in range(wanted * 6):
        if len(page.facts) >= wanted:
            return
        if like:
            base = like.pop()
            fact = new_fact(w, like=base, subject=page.topic if base.subject == model.topic else None)
        elif w.chance(0.85):
            fact = new_fact(w, subject=page.topic, subject_kind=page.kind, value_kind=alike if w.chance(0.8) else None, everyday=True)
        else:
            fact = new_fact(w)
        if fact.claims & claims or (fact.subject != page.topic and fact.subject in taken):
            continue
        claims |= fact.claims
        taken.add(fact.subject)
        page.facts.append(fact)


def _write(w: World, pages: list[Page]) -> tuple[list[str], list[tuple[Fact, int]]]:
    """The pages in random order, and on which one each fact stands."""
    w.r.shuffle(pages)
    passages, facts = [], []
    for number, page in enumerate(pages, 1):
        items = [Item(None, statement(w, f), f.subject, f.subject_kind, silent=silent(w, f) if f.subject == page.topic else "") for f in page.facts]
        passages.append(_page(w, page.topic, items))
        facts += [(f, number) for f in page.facts]
    return passages, facts


def _notes(w: World, count: int, pages: list[Page]) -> tuple[list[str], list[tuple[Fact, int]]]:
    """`count` pages of real notes; those given are among them and get more to say."""
    kinds = w.r.choice(_TOPICS)
    taken = {p.topic for p in pages} | {f.subject for p in pages for f in p.facts} | {f.value for p in pages for f in p.facts}
    claims = set().union(*(f.claims for p in pages for f in p.facts)) if pages else set()
    pages = pages + [_new_page(w, kinds, taken) for _ in range(count - len(pages))]
    parallel = w.chance(0.3)
    for n, page in enumerate(pages):
        _fill_page(w, page, w.r.choice((2, 3, 3, 4, 4, 5)), claims, taken, pages[n - 1] if parallel and n else None)
    return _write(w, pages)


def _ask_page(w: World, passages: list[str], fact: Fact, facts: list[tuple[Fact, int]]) -> str:
    if fact.key.startswith("open ") and not w.held_forms and w.chance(0.3) and [f.attribute for f, _ in facts].count(fact.attribute) == 1:
        return brief_question(w, fact)
    return ask(w, passages, fact)


def notes(w: World, shape: Shape) -> Example:
    """Pages of real notes: every passage has a topic and says several things about it, as `it` or `she` after the first sentence."""
    passages, facts = _notes(w, shape.passages, [])
    example = Example(passages)
    fact, number = w.r.choice(facts)
    example.turns.append((_ask_page(w, passages, fact, facts), answer(fact.value, [number])))
    return _more(w, example, facts, shape)


def notes_refusal(w: World, shape: Shape) -> Example:
    """Pages of notes, and a question that they do not answer."""
    passages, facts = _notes(w, shape.passages, [])
    example = Example(passages, [(question(w, _missing(w, [f for f, _ in facts])), REFUSAL)])
    return _more(w, example, facts, shape)


def notes_chain(w: World, shape: Shape) -> Example:
    """Two hops over pages of notes: the second page is about the value that the first one gives."""
    chains = [_chain(w)]
    for _ in range(20 if shape.passages > 3 and w.chance(0.6) else 0):
        other = _chain(w, chains[0])
        if not (other[0].claims | other[1].claims) & (chains[0][0].claims | chains[0][1].claims):
            chains.append(other)
            break
    pages = [Page(f.subject, f.subject_kind, [f]) for chain in chains for f in chain]
    passages, facts = _notes(w, max(shape.passages, len(pages)), pages)
    where = {id(f): n for f, n in facts}

    example = Example(passages)
    for first, second in chains[: shape.turns]:
        text = _ask_through(w, first, second)
        example.turns.append((text, answer(second.value, [where[id(first)], where[id(second)]])))
        example.via[text] = first.value
    return _more(w, example, facts, replace(shape, turns=max(1, shape.turns - len(example.turns))))


def _page(w: World, topic: str, items: list[Item]) -> str:
    """Running text about one topic: the name first, then mostly a pronoun, with other matters and fillers in between."""
    out = []
    name = words.capital(topic)
    x = w.r.random()
    if 0.25 < x < 0.75:  # the title of the page, the heading of the section, or both
        out.append(w.r.choice(_HEADINGS) + ".")
    if x < 0.6:
        out.append(words.capital(name.removeprefix("The ")) + ".")
    items = sorted(items, key=lambda i: not i.text.startswith(name + " "))
    opened = pronouns = 0
    for i in items:
        if i.silent and (opened or x < 0.6) and w.chance(0.4):
            out.append(i.silent)
            continue
        rest = i.text[len(name) + 1 :] if i.subject == topic and re.match(re.escape(name) + " [a-z]", i.text) else ""
        if rest and opened and w.chance(0.75):
            if pronouns and w.chance(0.2) and out[-1].endswith("."):
                out[-1] = f"{out[-1][:-1]} and {rest}"
            else:
                pronouns = pronouns or 1
                out.append(f"{_pronoun(topic, i.kind) if w.chance(0.75) else _short(topic, i.kind)} {rest}")
        else:
            out.append(i.text)
            opened = opened or bool(rest)
        if w.chance(0.15):
            out.append(filler(w))
    return " ".join(out)


def own_notes(w: World, shape: Shape) -> Example:
    """A user's own notes in the first person, some among other passages; a question may be about what no note says."""
    said: dict[tuple[str, str], own.Note] = {}
    while len(said) < shape.passages:
        one = own.note(w)
        said.setdefault(one.subject, one)
    found = list(said.values())
    texts = [one.text for one in found]
    for n in range(1, len(found)):
        if w.chance(0.25):  # the place of a note goes to something else
            texts[n] = statement(w, new_fact(w)) if w.chance(0.7) else filler(w)
    order = list(range(len(texts)))
    w.r.shuffle(order)
    example = Example([texts[n] for n in order])
    asked = [n for n in order if texts[n] == found[n].text]
    w.r.shuffle(asked)
    for n in asked[: shape.turns]:
        missing = own.note(w)
        if w.chance(0.15) and missing.subject not in said:
            example.turns.append((missing.question, REFUSAL))
        else:
            example.turns.append((found[n].question, answer(found[n].value, [order.index(n) + 1])))
    return example


def refusal(w: World, shape: Shape) -> Example:
    fact = new_fact(w)
    facts = [fact] + distractors(w, fact, max(shape.passages + _extra(w, shape.passages) - 1, 0), [])
    passages, where = lay_out(w, [item(w, n, f, shape.pairs) for n, f in enumerate(facts)], shape.passages, shape.notes)
    example = Example(passages, [(question(w, _missing(w, facts)), REFUSAL)])
    return _more(w, example, [(f, where[n]) for n, f in enumerate(facts)], shape)


def _chain(w: World, like: tuple[Fact, Fact] | None = None) -> tuple[Fact, Fact]:
    if like:
        first = new_fact(w, like=like[0])
        return first, new_fact(w, like=like[1], subject=first.value)
    while True:
        first = new_fact(w, value_kind=w.r.choice(("person", "org", "place", "person", "thing")), hop=True)
        if first.hops and first.value_kind in words.ENTITIES:
            break
    while True:
        second = new_fact(w, subject=first.value, subject_kind=first.value_kind)
        if not second.claims & first.claims:
            return first, second


def _ask_through(w: World, first: Fact, second: Fact) -> str:
    """A question that names the way to the second fact. Some forms do not name who did it (`When was the bell painted?`): asked like that it is one hop."""
    way = w.r.choice(first.hops).replace("{s}", first.subject)
    text = question(w, second, way)
    again = replace(w, r=random.Random(words.crc(text)))  # so that what is drawn after it stays what it was
    while way.lower() not in text.lower():
        text = question(again, second, way)
    return text


def two_hop(w: World, shape: Shape) -> Example:
    """The value of one fact is the subject of the next; a second chain of the same shape runs in parallel."""
    chains = [_chain(w)]
    for _ in range(20 if shape.passages > 2 else 0):
        other = _chain(w, chains[0])
        if not (other[0].claims | other[1].claims) & set().union(*(f.claims for chain in chains for f in chain)):
            chains.append(other)
        if len(chains) > (w.practice and shape.passages > 5) + 1:
            break
    facts = [f for chain in chains for f in chain]
    count = max(shape.passages - len(facts), 0) + (_extra(w, shape.passages) if shape.passages > 2 else 0)
    for other in distractors(w, facts[0], count, facts[1:]):
        if other.subject not in {f.value for f in facts}:
            facts.append(other)
    items = [item(w, n, opening(f) if w.practice and w.chance(0.25) else f, shape.pairs / 2) for n, f in enumerate(facts)]
    joined: dict[int, int] = {}  # what stands in the passage of another: both steps of a chain, or the same step of two chains, which is rare otherwise, and never learned then
    pairs = [(2 * n, 2 * n + 1) for n in range(len(chains))] + [(0, 2), (1, 3)] * (len(chains) > 1)
    for a, b in pairs if w.practice else ():
        if w.chance(0.3) and not {a, b} & (joined.keys() | set(joined.values())) and not items[a].alone and not items[b].alone:
            joined[b] = a
            both = [items[a].text, items[b].text]
            w.r.shuffle(both)
            items[a] = Item(a, " ".join(both))
    passages, where = lay_out(w, [i for i in items if i.tag not in joined], shape.passages, shape.notes)
    where |= {b: where[a] for b, a in joined.items()}

    def through(n: int) -> tuple[str, str]:
        first, second = chains[n]
        text = _ask_through(w, first, second)
        example.via[text] = first.value
        return text, answer(second.value, [where[2 * n], where[2 * n + 1]])

    example = Example(passages)
    example.turns += [through(n) for n in range(min(len(chains), shape.turns))]
    w.r.shuffle(example.turns)  # before the questions of one hop, whose answers would give half of these away
    left = [(f, where[n]) for n, f in enumerate(facts) if not any(f.value in reply for _, reply in example.turns)]
    example.turns += _more(w, Example(passages), left, replace(shape, turns=shape.turns + 1 - len(example.turns))).turns
    return example


_CORRECTIONS = ("Correction: {x}", "Correction: {x}", "Correction: {x}", "Update: {x}", "Update: {x}", "This has changed: {x}", "The earlier note is wrong. {x}",
                "Newer information: {x}", "Change: {x}", "Corrected: {x}", "New: {x}")
_MORE_CORRECTIONS = ("From now on, {x}", "Starting on Monday: {x}", "Since May, {x}", "Attention: {x}", "It is different now: {x}", "Not any more. {x}", "The following is new: {x}", "Effective immediately: {x}",
                     "Important: {x}", "We had it wrong: {x}", "Revised: {x}", "Amendment: {x}", "What used to be is over. {x}", "Today's news: {x}", "Instead of what was said before: {x}",
                     "Be aware that this is new: {x}", "As decided yesterday, {x}", "These days, {x}", "Contrary to the older note, {x}", "Latest state: {x}", "For the record, things have moved on: {x}")
_HELD_CORRECTIONS = ("As of today, {x}", "Please note the change: {x}")


def correction(w: World, shape: Shape) -> Example:
    """An older statement and a newer one, anywhere in the list; the newer one counts and is the only one cited."""
    fact = new_fact(w)
    new = fact.value
    while new == fact.value:
        new = words.make(fact.value_kind, w.r, w.held_names)
    others = distractors(w, fact, max(shape.passages - 2 + _extra(w, shape.passages), 0), [])
    items = [item(w, "old", fact, max(shape.pairs, 0.2) if not w.easy else 0.0)] + [item(w, n, f, shape.pairs) for n, f in enumerate(others)]
    if w.chance(0.15) and shape.passages > 3:  # the same outdated fact may have been noted twice
        items.append(item(w, "old2", fact, 0.5))
    if w.chance(0.5) and not w.held_forms:
        text = "Correction: " + as_pair(w, fact, new)
    else:
        forms = _CORRECTIONS + _MORE_CORRECTIONS if w.practice else _CORRECTIONS
        said = replace(opening(replace(fact, value=new)), value=fact.value) if w.practice and w.chance(0.3) else fact
        text = w.r.choice(_HELD_CORRECTIONS if w.held_forms else forms).replace("{x}", statement(w, said, new))
    items.append(Item("new", text, alone=True))
    passages, where = lay_out(w, items, max(shape.passages, 2), shape.notes)
    fact = replace(fact, value=new)
    example = Example(passages, [(ask(w, passages, fact), answer(new, [where["new"]]))])
    return _more(w, example, [(f, where[n]) for n, f in enumerate(others)] + [(fact, where["new"])], shape)


# what is compared: attribute or named relation, the words for more and for less
_MEASURES = (("weight", "heavier", "lighter"), ("height", "taller", "shorter"), ("length", "longer", "shorter"), ("width", "wider", "narrower"),
             ("age", "older", "younger"), ("speed", "faster", "slower"), ("depth", "deeper", "shallower"), ("score", "higher", "lower"))
_NAMED_COMPARISONS = (("cost", "more expensive", "cheaper"), ("ticket", "more expensive", "cheaper"), ("population", "larger", "smaller"), ("capacity", "larger", "smaller"))
_COMPARE = ("Which is {c}, {a} or {b}?", "What is {c}: {a} or {b}?", "Is {a} or {b} {c}?", "Which one is {c}, {a} or {b}?", "{a} or {b}: which is {c}?")
_COMPARE_OPEN = ("Which has the {c} {w}, {a} or {b}?", "What has the {c} {w}: {a} or {b}?", "Does {a} or {b} have the {c} {w}?")


@dataclass
class Scale:
    """Numbers of one kind that can be compared: two facts that have no values yet, and how one asks for more and for less."""

    left: Fact
    right: Fact
    unit: str
    forms: tuple[str, ...]
    template: str
    words: tuple[str, str]


def _scale(w: World, more: bool) -> Scale:
    r = w.r
    kind = r.random()
    if kind < 0.4 and not w.held_forms:
        key, *names = r.choice(_NAMED_COMPARISONS)
        relation = next(n for n in relations.NAMED if n.key == key)
        like = Fact(key, "", "", "", "", (), (), relation=relation)
        left, right = new_fact(w, like=like), new_fact(w, like=like)
        return Scale(left, right, r.choice((" euros", " dollars", " crowns", " pounds")) if relation.value == "money" else "", _COMPARE, r.choice(_COMPARE), tuple(names))
    subject_kind = r.choice(words.ENTITIES)
    if kind < 0.8:
        noun, *names = r.choice([m for n, m in enumerate(_MEASURES) if (n % 4 == 3) == w.held_forms])
        unit, forms, template = " " + r.choice(words.UNITS), _COMPARE, r.choice(_COMPARE)
    else:
        noun, unit = r.choice([n for n in relations.ATTRIBUTES["number"] if words.is_held("attribute " + n) == w.held_forms] or ["tally"]), ""
        forms = tuple(form.replace("{w}", noun) for form in _COMPARE_OPEN)
        template, word = r.choice(forms), r.choice(("larger", "higher") if more else ("smaller", "lower"))
        names = ("larger", "smaller") if word in ("larger", "smaller") else ("higher", "lower")
    like = Fact("open " + noun, "", subject_kind, "", "number", (), relations.OPEN_HELD_QUESTIONS if w.held_forms else relations.OPEN_QUESTIONS, attribute=noun)
    return Scale(new_fact(w, like=like), new_fact(w, like=like), unit, forms, template, tuple(names))


def _number(w: World, digits: int) -> int:
    return w.r.randint(10 ** (digits - 1) + (digits == 1), 10**digits - 1)


def _near(w: World, digits: int, taken: list[int]) -> int:
    """A number of about as many digits, none of those taken."""
    while True:
        number = _number(w, max(1, digits + w.r.choice((0, 0, 0, 0, -1, 1))))
        if number not in taken:
            return number


def _against(example: Example, template: str, word: str, left: tuple[Fact, int], right: tuple[Fact, int], winner: str, more: bool) -> None:
    """Ask for one of two, cite both."""
    (a, home), (b, other) = left, right
    text = words.capital(template.replace("{c}", word).replace("{a}", a.subject).replace("{b}", b.subject))
    example.turns.append((text, answer(winner, [home, other])))
    example.compared[text] = (a.value, b.value, word, more)


def comparison(w: World, shape: Shape) -> Example:
    """Two numbers of the same kind; the answer is the name that goes with the larger or the smaller one."""
    digits = w.r.choice((1, 2, 2, 3, 3, 4))
    x = _number(w, digits)
    y = _near(w, digits, [x])
    more = w.r.random() < 0.5
    scale = _scale(w, more)
    left, right = scale.left, scale.right
    while right.subject == left.subject or right.claims & left.claims:
        right = new_fact(w, like=right)
    left, right = replace(left, value=f"{x}{scale.unit}"), replace(right, value=f"{y}{scale.unit}")
    others = distractors(w, left, max(shape.passages - 2 + _extra(w, shape.passages), 0), [right])
    facts = [left, right] + others
    passages, where = lay_out(w, [item(w, n, f, shape.pairs / 2) for n, f in enumerate(facts)], shape.passages, shape.notes)
    example = Example(passages)
    _against(example, scale.template, scale.words[not more], (left, where[0]), (right, where[1]), left.subject if (x > y) == more else right.subject, more)
    return _more(w, example, [(f, where[n]) for n, f in enumerate(facts)], shape)


def comparisons(w: World, shape: Shape) -> Example:
    """Many things measured on one scale and many pairs of them compared, for training: no pair twice, or an answer would follow from another."""
    r = w.r
    count = max(2, min(shape.passages, 6))
    scale, digits = _scale(w, r.random() < 0.5), r.choice((1, 2, 2, 3, 3, 4))
    facts: list[Fact] = []
    numbers: list[int] = []
    for fact in [scale.left, scale.right] + [new_fact(w, like=scale.left) for _ in range(30)]:
        if len(facts) < count and not any(fact.claims & f.claims or fact.subject == f.subject for f in facts):
            numbers.append(_near(w, digits, numbers))
            facts.append(replace(fact, value=f"{numbers[-1]}{scale.unit}"))
    passages, where = lay_out(w, [item(w, n, f, shape.pairs / 2) for n, f in enumerate(facts)], shape.passages, shape.notes)
    example = Example(passages)
    pairs = [(a, b) for a in range(len(facts)) for b in range(a)]
    r.shuffle(pairs)
    for pair in pairs[: max(1, shape.turns)]:
        a, b = pair if w.chance(0.5) else pair[::-1]
        more = w.chance(0.5)
        winner = facts[a].subject if (numbers[a] > numbers[b]) == more else facts[b].subject
        _against(example, r.choice(scale.forms), scale.words[not more], (facts[a], where[a]), (facts[b], where[b]), winner, more)
    return example


def judge(w: World, shape: Shape) -> Example:
    """Score somebody's answer: 5 right, 4 right value but citation wrong or missing, 3 refused although known, 2 other value, 1 invented."""
    fact = new_fact(w)
    others = distractors(w, fact, max(shape.passages - 1 + _extra(w, shape.passages), 1), [])
    passages, where = lay_out(w, [item(w, n, f, shape.pairs) for n, f in enumerate([fact] + others)], shape.passages, shape.notes)
    example = Example(passages)
    for _ in range(shape.turns):
        score, right = w.r.randint(1, 5), where[0]
        wrong = w.r.choice([n for n in range(1, 10) if n != right])
        cite = [w.r.choice((right, wrong))]
        if score == 5:
            given = answer(fact.value, [right])
        elif score == 4:
            given = answer(fact.value, [wrong]) if w.chance(0.5) else fact.value
        elif score == 3:
            given = REFUSAL
        elif score == 2 and others:
            given = answer(w.r.choice(others).value, cite)
        else:
            score = 1
            value = words.make(fact.value_kind, w.r, w.held_names)
            while value in " ".join(passages):
                value = words.make("code" if w.chance(0.1) else fact.value_kind if fact.value_kind not in ("weekday", "colour", "number") else "phone", w.r, w.held_names)
            given = answer(value, cite)
        text = f"{ask(w, passages, fact)}\nAnswer: {given}\nScore the answer from 1 to 5."
        example.about[text] = right
        if given != REFUSAL:
            example.judged[text] = (fact.value, given.split("] ")[-1], given.startswith(f"[{right}]"))
        example.turns.append((text, str(score)))
    return example


def quote(w: World, shape: Shape) -> Example:
    """Say again what a passage says, or which passage speaks of somebody: the densest lesson in copying and in pointing."""
    facts = [new_fact(w)]
    while len(facts) < max(shape.passages, 2):
        fact = new_fact(w)
        if fact.subject not in [f.subject for f in facts]:
            facts.append(fact)
    texts = [statement(w, f) for f in facts]
    example = Example(texts)
    order = list(range(len(facts)))
    w.r.shuffle(order)
    for n in order[: shape.turns]:
        x = w.r.random()
        if x < 0.4:
            example.turns.append((f"Quote the passage about {facts[n].subject}.", answer(texts[n], [n + 1])))
        elif x < 0.65:
            example.turns.append((f"Repeat passage {n + 1}.", answer(texts[n], [n + 1])))
        else:
            example.turns.append((w.r.choice(("Which passage is about {s}?", "Which passage mentions {s}?")).replace("{s}", facts[n].subject), f"[{n + 1}]"))
    return example


_CAN = "I answer questions from the passages I am given and name the passages I used. If the answer is not there, I say so."
_GENERAL = (
    (("Hello", "Hi", "Hey", "Hi there", "Good morning", "Good evening", "Good afternoon", "Hello there", "Hey there", "Greetings"), "Hello! Ask me a question about your notes."),
    (("Thanks", "Thank you", "Thank you very much", "Thanks a lot", "Great, thanks", "Many thanks", "Thx", "Cheers"), "You are welcome."),
    (("What can you do", "Help", "What do you do", "How can you help me", "How does this work", "What are you for", "What can I ask you", "Can you help me"), _CAN),
    (("Who are you", "What are you", "What is your name", "Tell me about yourself", "Are you a robot", "Which model are you", "Introduce yourself"),
     "I am a small demo model of ruvllm. I answer from passages."),
    (("Goodbye", "Bye", "See you", "Good night", "See you later", "Bye bye", "That is all"), "Goodbye!"),
    (("How are you", "How are you today", "How is it going", "Are you well", "How do you do"), "I am fine, thank you. What would you like to know?"),
    (("OK", "Okay", "Fine", "Good", "Great", "I see", "Understood", "Nice", "All right"), "Good. Ask me a question about your notes."),
)


def general(w: World, shape: Shape) -> Example:
    """Small talk, and questions that come without any passages."""
    passages: list[str] = []
    if w.chance(0.3):
        passages = one_hop(w, replace(shape, turns=1)).passages
    example = Example(passages, bare=w.chance(0.5))
    for _ in range(w.r.choice((1, 1, 2, 3))):
        if w.chance(0.65):
            prompts, reply = w.r.choice(_GENERAL)
            text = w.r.choice(prompts)
            text = text.lower() if w.chance(0.3) else text
            example.turns.append((text + w.r.choice(("", "", "?", ".", "!")), reply))
        elif passages:
            example.turns.append((question(w, _missing(w, [])), REFUSAL))
        else:
            example.turns.append((question(w, new_fact(w)), REFUSAL))
    return example


def session(w: World, shape: Shape) -> Example:
    """A question on passages after others in the same session, whose passages are gone and whose numbers mean nothing now."""
    r = w.r
    example = r.choice((one_hop, notes, notes, two_hop, correction))(w, shape)
    for _ in range(r.choice((1, 1, 2, 3, 4))):
        x = r.random()
        if x < 0.55:
            fact = new_fact(w)
            example.history.append((question(w, fact), answer(fact.value, [r.randint(1, 5)])))
        elif x < 0.75:
            text, reply = r.choice(example.turns)
            example.history.append((text, re.sub(r"\[\d+\]", lambda _: f"[{r.randint(1, 5)}]", reply)))
        elif x < 0.9:
            example.history.append((question(w, new_fact(w)), REFUSAL))
        else:
            prompts, reply = r.choice(_GENERAL)
            example.history.append((r.choice(prompts), reply))
    return example


TASKS = dict(one=one_hop, front=front, notes=notes, none=notes_refusal, chain=notes_chain, two=two_hop, fix=correction, cmp=comparison, cmps=comparisons, no=refusal, judge=judge, quote=quote,
             session=session, chat=general, own=own_notes)

# Share of each task while the training goes on: at the start, in the first half, at the end.
_MIX_START = dict(one=50, notes=6, quote=25, fix=6, two=4, cmp=2, no=4, judge=2, chat=3)
_MIX_MIDDLE = dict(one=19, notes=19, none=3, chain=6, two=16, fix=10, cmp=9, no=7, judge=6, quote=5, session=3, chat=2)
_MIX_LATE = dict(one=10, notes=11, none=7, chain=13, two=24, fix=6, cmp=5, cmps=8, no=5, judge=8, session=3, chat=1, own=8)
_MIX_END = dict(one=12, notes=14, none=8, chain=11, two=17, fix=8, cmp=6, cmps=5, no=6, judge=8, session=6, chat=4, own=9)


def sample(r: random.Random, p: float, more: dict[str, int] | None = None) -> Example:
    """One exercise as it is set when the share `p` of the curriculum has passed; `more` raises the weight of single tasks.

    Several questions on the same passages are the cheapest way to more supervision per token, so there are many at first.
    """
    easy = 1.0 if p < 0.12 else max(0.0, 0.9 - (p - 0.12) * 4)
    if p < 0.15:
        mix, count, turns = dict(_MIX_START), r.choice((1, 2, 2, 3)), r.choice((5, 6, 7))
    elif p < 0.45:
        mix, count, turns = _MIX_MIDDLE, r.choice((1, 2, 3, 3, 4, 5)), r.choice((4, 5, 6))
    else:
        mix = _MIX_LATE if p < 0.85 else _MIX_END
        count, turns = r.choice((1, 2, 3, 4, 4, 5, 6, 6, 7, 8)), r.choice((4, 5, 6, 7)) if p < 0.85 else r.choice((1, 2, 4, 5))
    if p < 0.10:
        mix["quote"] += round(120 * (1 - p / 0.10))
    more = {name: weight for name, weight in (more or {}).items() if name in TASKS}
    mix = {name: mix.get(name, 0) + more.get(name, 0) for name in (*mix, *more)}
    task = r.choices(list(mix), list(mix.values()))[0]
    notes = 0.0 if p < 0.2 else min(0.5, (p - 0.2) * 1.5) * (r.random() < 0.8)
    pairs = 0.0 if p < 0.1 else 0.12
    if task in ("two", "fix", "cmp", "cmps", "chain", "session"):
        count = max(count, 2)
    if task == "two" and p >= 0.45:  # among many passages it is hardest, and rare otherwise
        count = max(count, r.choice((2, 4, 6, 8)))
    if task in ("notes", "none", "chain"):  # long passages, few of them, and more questions on each page
        count, turns = min(count, r.choice((1, 2, 3, 4, 4, 5, 6))), turns + r.choice((0, 1, 2))
    return TASKS[task](World(r, easy=easy), Shape(count, turns, notes, pairs))
