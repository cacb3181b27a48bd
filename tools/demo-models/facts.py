"""Facts: one subject, one value, and every sentence and question that the grammar can make of them."""

import random
from dataclasses import dataclass, field

import relations
import words
from relations import NAMED, Relation


@dataclass
class World:
    """Where a piece of text is drawn from: the random source, and which held-out parts it may use."""

    r: random.Random
    held_names: bool = False
    held_forms: bool = False
    easy: float = 0.0  # share of statements that name the entity before the value, with no traps among the distractors

    @property
    def practice(self) -> bool:
        """Training text, which may use forms that the tests do not know."""
        return not self.held_names and not self.held_forms and self.easy < 0.5

    def chance(self, p: float) -> bool:
        return self.r.random() < p


@dataclass
class Fact:
    key: str
    subject: str
    subject_kind: str
    value: str
    value_kind: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    hops: tuple[str, ...] = ()
    attribute: str = ""
    relation: Relation | None = None
    claims: set = field(default_factory=set)  # what no second fact of one context may also say


_BY_HELD = {held: [n for n in NAMED if (n.key in relations.HELD_RELATIONS) == held] for held in (False, True)}
_MODIFIERS = ("main", "second", "old", "new", "first", "best", "local", "spare", "next", "last", "usual", "official", "summer", "winter", "daily", "final")


def _fill(template: str, subject: str, value: str, attribute: str, r: random.Random) -> str:
    text = template.replace("{a}", attribute)
    if "{p}" in text:
        text = text.replace("{p}", words.preposition(value, r))
    return text.replace("{s}", subject).replace("{v}", value)


def forward(templates: tuple[str, ...]) -> tuple[str, ...]:
    """The forms that name the entity before the value: easier to copy from, used first."""
    return tuple(t for t in templates if 0 <= t.find("{s}") < t.find("{v}")) or templates


def statement(w: World, fact: Fact, value: str | None = None) -> str:
    templates = forward(fact.statements) if w.easy and w.chance(w.easy) else fact.statements
    return words.capital(_fill(w.r.choice(templates), fact.subject, value or fact.value, fact.attribute, w.r))


def question(w: World, fact: Fact, subject: str | None = None) -> str:
    """One of the ways to ask for the value; users also write in lower case and without the question mark."""
    text = words.capital(_fill(w.r.choice(fact.questions), subject or fact.subject, "", fact.attribute, w.r))
    if not w.easy and w.chance(0.07):
        text = text.rstrip("?.")
        text = text[0].lower() + text[1:] if w.chance(0.6) else text
    return text


def silent(w: World, fact: Fact) -> str:
    """The fact on a page about its subject, which is not named again; nothing if there is no such form."""
    forms = relations.SILENT_OPEN if fact.key.startswith("open ") else relations.SILENT.get(fact.key, ())
    if not forms or w.held_forms:
        return ""
    return words.capital(_fill(w.r.choice(forms), fact.subject, fact.value, fact.attribute, w.r))


def brief_question(w: World, fact: Fact) -> str:
    """`Who is the treasurer?`: the question without its subject, where only one treasurer is in sight."""
    forms = [q.replace(" of {s}", "") for q in fact.questions if " of {s}" in q]
    return words.capital(_fill(w.r.choice(forms), "", "", fact.attribute, w.r)) if forms else question(w, fact)


def as_pair(w: World, fact: Fact, value: str | None = None) -> str:
    """A remembered question and answer, in the form in which the product stores it."""
    text = words.capital(_fill(w.r.choice(fact.questions), fact.subject, "", fact.attribute, w.r))
    return f"Q: {text} A: {value or fact.value}"


def _attribute(w: World, kind: str | None) -> tuple[str, str]:
    """An attribute noun and the kind of value that suits it; some nouns are made up."""
    if not w.held_forms and not w.easy and w.chance(0.15):
        return words.opaque(w.r), kind if kind in relations.ATTRIBUTES else w.r.choice(tuple(relations.ATTRIBUTES))
    while True:
        kind_ = kind if kind in relations.ATTRIBUTES else w.r.choice(tuple(relations.ATTRIBUTES))
        noun = w.r.choice(relations.ATTRIBUTES[kind_])
        if words.is_held("attribute " + noun) != w.held_forms:
            if kind and all(words.is_held("attribute " + n) != w.held_forms for n in relations.ATTRIBUTES[kind_]):
                kind = None
            continue
        if w.chance(0.35):
            modifier = w.r.choice(_MODIFIERS)
            if modifier not in noun:
                noun = f"{modifier} {noun}"
        return noun, kind_


def open_fact(w: World, subject: str | None, subject_kind: str | None, value_kind: str | None, like: Fact | None) -> Fact:
    if like:
        noun, kind, subject_kind = like.attribute, like.value_kind, like.subject_kind
        typed = tuple(q for q in like.questions if q not in relations.OPEN_QUESTIONS)
    else:
        noun, natural = _attribute(w, value_kind)
        kind = value_kind or (natural if w.chance(0.85) else w.r.choice(tuple(words.MAKERS)))
        kind = "phrase" if kind == "group" else kind
        typed = relations.TYPED_QUESTIONS.get(natural, ()) if kind == natural and not w.held_forms else ()
        if noun == "home" and not w.held_names:  # `Where is the home of {s}?` is one of the questions about where somebody lives that only tests ask
            typed = ()
    subject_kind = subject_kind or w.r.choice(words.ENTITIES)
    subject = subject or words.make(subject_kind, w.r, w.held_names)
    value = words.make(kind, w.r, w.held_names)
    bare = noun.split(" ", 1)[-1] if noun.split(" ", 1)[0] in _MODIFIERS else noun
    meaning = relations.SAME_MEANING.get(noun, noun)
    statements = relations.OPEN_HELD_STATEMENTS if w.held_forms else relations.OPEN_STATEMENTS
    questions = relations.OPEN_HELD_QUESTIONS if w.held_forms else relations.OPEN_QUESTIONS + typed * 3
    if w.practice and w.chance(0.45):
        statements, more = relations.composed(w.r)
        questions = more if w.chance(0.5) else questions
    if like:
        questions = like.questions
    fact = Fact("open " + noun, subject, subject_kind, value, kind, statements, questions, (f"the {noun} of {{s}}",), noun)
    fact.claims = {(subject, meaning), (subject, relations.SAME_MEANING.get(bare, bare))}
    return fact


def count_fact(w: World, subject: str | None, subject_kind: str | None, like: Fact | None) -> Fact:
    """How many of something a place or a company has."""
    noun = like.attribute if like else w.r.choice(relations.COUNTED)
    subject_kind = subject_kind or (like.subject_kind if like else w.r.choice(("venue", "org", "place", "venue")))
    subject = subject or words.make(subject_kind, w.r, w.held_names)
    fact = Fact("count " + noun, subject, subject_kind, words.number(w.r), "number", relations.COUNT_STATEMENTS, relations.COUNT_QUESTIONS, (), noun)
    fact.claims = {(subject, noun)}
    return fact


def named_fact(w: World, relation: Relation, subject: str | None) -> Fact:
    subject = subject or words.make(relation.subject, w.r, w.held_names)
    statements, questions = relation.phrased(w.held_forms)
    value = words.make(relation.value, w.r, w.held_names)
    fact = Fact(relation.key, subject, relation.subject, value, relation.value, statements, questions, relation.hops, "", relation)
    fact.claims = {(subject, _FAMILY.get(relation.key, relation.key))}
    return fact


# Relations whose questions overlap: a context holds at most one of each family about one subject.
_FAMILY = {"due": "when", "eventday": "when", "starts": "starts", "phone": "reach", "email": "reach", "kept": "where", "venueat": "where", "eventat": "where",
           "meetsat": "where", "born": "from", "closes": "closes", "closedday": "closes", "cost": "cost", "rent": "cost", "ticket": "cost", "keeper": "charge",
           "key": "charge", "leader": "charge", "host": "charge", "donor": "donor", "food": "likes", "hobby": "likes", "capacity": "count", "guestcount": "count",
           "population": "size", "size": "size", "opens": "opens", "founded": "founded", "founder": "founder", "colour": "colour", "material": "material"}
_WHEN = {"weekday": ("on", ("When", "When", "On which day", "On what day")), "date": ("on", ("When", "When", "On which date")),
         "clock": ("at", ("When", "When", "At what time", "At which time"))}


def action_fact(w: World, subject: str | None, subject_kind: str | None, like: Fact | None) -> Fact:
    """Somebody does something to something, somewhere, at some time; any one of the parts is what is asked."""
    r = w.r
    verb, asked = (like.key.split()[1:3]) if like else (None, r.choice(("who", "what", "where", "when", "when")))
    rows = [v for v in relations.VERBS if (v[0] in relations.HELD_VERBS) == w.held_forms and (verb is None or v[0] == verb)]
    base, third, past, participle, object_kind = r.choice(rows) if rows else (verb, f"{verb}s", f"{verb}ed", f"{verb}ed", "thing")
    if not verb and not w.held_forms and not w.easy and w.chance(0.3):
        base = words.opaque(r).rstrip("e")
        third, past, participle, object_kind = f"{base}s", f"{base}ed", f"{base}ed", r.choice(("thing", "venue", "event", "goods", "food", "person"))
    actor_kind = "person" if r.random() < 0.8 else "org"
    if subject and subject_kind and asked != "who":
        actor_kind = subject_kind
    actor = words.make(actor_kind, r, w.held_names)
    thing = words.make(object_kind, r, w.held_names)
    spot = words.spot(r, w.held_names)
    when_kind = like.value_kind if like and asked == "when" else r.choice(tuple(_WHEN))
    when = words.make(when_kind, r)
    if subject and asked == "who":
        thing = subject
    elif subject:
        actor = subject
    now = r.random() < 0.5
    active, passive = (third if now else past), f"{'is' if now else 'was'} {participle}"
    if object_kind in ("goods", "food") and not now or object_kind == "goods":
        passive = passive.replace("is ", "are ").replace("was ", "were ")
    ask = f"does {{s}} {base}" if now else f"did {{s}} {base}"
    ss = "{v}" if asked == "who" else "{s}"
    oo = {"who": "{s}", "what": "{v}"}.get(asked, thing)
    place = " {p} {v}" if asked == "where" else f" {words.preposition(spot, r)} {spot}" if r.random() < 0.35 else ""
    lead, asks = _WHEN[when_kind]
    time = f" {lead} {{v}}" if asked == "when" else f" {lead} {when}" if r.random() < 0.35 else ""
    front = time.strip()
    statements = [f"{ss} {active} {oo}{place}{time}.", f"{ss} {active} {oo}{time}{place}.", f"{oo} {passive} by {ss}{place}{time}."]
    if front:
        statements += [f"{words.capital(front)}, {ss} {active} {oo}{place}.", f"{words.capital(front)} {oo} {passive} by {ss}{place}."]
    if asked == "who":
        s, kind, value, skind = thing, actor_kind, actor, object_kind
        questions = (f"Who {active} {{s}}?", f"Who {active} {{s}}?", f"By whom {passive.split()[0]} {{s}} {participle}?", f"Who {passive.split()[0]} {{s}} {participle} by?")
    else:
        s, skind = actor, actor_kind
        if asked == "what":
            kind, value = object_kind, thing
            word = "Who" if object_kind == "person" else "What"
            questions = (f"{word} {ask}?", f"{word} {ask}?") + ((f"{word} {ask}{time}?",) if time else ()) + ((f"{word} {ask}{place}?",) if place else ())
        elif asked == "where":
            kind, value = "spot", spot
            questions = (f"Where {ask} {thing}?", f"Where {ask} {thing}?", f"Where {passive.split()[0]} {thing} {participle}?", f"In which place {ask} {thing}?")
        else:
            kind, value = when_kind, when
            questions = tuple(f"{q} {ask} {thing}?" for q in asks) + (f"When {passive.split()[0]} {thing} {participle}?",)
    fact = Fact(f"act {base} {asked}", s, skind, value, kind, tuple(statements), questions)
    fact.claims = {(actor, base), (thing, base)}
    if asked == "who":
        fact.claims.add((thing, "charge"))
    return fact


def new_fact(w: World, like: Fact | None = None, subject: str | None = None, subject_kind: str | None = None, value_kind: str | None = None,
             hop: bool = False, everyday: bool = False) -> Fact:
    """A fresh fact: of the same relation as `like`, or about `subject`, or with a value of one kind; `hop` if its value must be nameable;
    `everyday` prefers the named relations."""
    if like:
        if like.relation:
            return named_fact(w, like.relation, subject)
        if like.key.startswith("count "):
            return count_fact(w, subject, None, like)
        return action_fact(w, subject, like.subject_kind, like) if like.key.startswith("act ") else open_fact(w, subject, None, None, like)
    if w.practice and w.chance(0.16):
        kind = subject_kind or w.r.choice(words.ENTITIES)
        relation = relations.invented(w.r, kind, value_kind or (w.r.choice(words.ENTITIES) if hop else None), words.opaque(w.r).rstrip("e"))
        if kind in words.ENTITIES and value_kind in (None, relation.value):
            return named_fact(w, relation, subject)
    x = w.r.random()
    if x < 0.18 and not hop and value_kind is None and subject_kind in (None, "person", "org"):
        fact = action_fact(w, None, None, None)
        if subject is None:
            return fact
        if not fact.key.endswith("who"):
            return action_fact(w, subject, subject_kind, fact)
    if x > 0.94 and not hop and not w.held_forms and value_kind in (None, "number") and subject_kind in (None, "venue", "org", "place"):
        return count_fact(w, subject, subject_kind, None)
    if x < (0.85 if everyday else 0.62):
        rows = [n for n in _BY_HELD[w.held_forms] if (subject_kind is None or n.subject == subject_kind) and (value_kind is None or n.value == value_kind)
                and (not hop or n.hops)]
        if rows:
            return named_fact(w, w.r.choice(rows), subject)
    return open_fact(w, subject, "person" if subject_kind == "group" else subject_kind, value_kind, None)
