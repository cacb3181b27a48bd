"""Notes that people write for themselves: short, in the first person, about their own things, people, codes and times."""

import re
from dataclasses import dataclass

import words
from facts import World

# What it is about | value | statements | questions. `{a}` is one of the nouns, `{v}` the value, `{p}` the preposition a spot needs, `{on}` on or at.
_ROWS = """
bike, keys, wallet, passport, umbrella, suitcase, glasses, tent, skis, toolbox, camera, spare key, drill, ladder, charger, helmet, sleeping bag, raincoat, guitar, torch, lawn mower, birth certificate | spot |
My {a} is {p} {v}. ; I keep my {a} {p} {v}. ; I put my {a} {p} {v}. ; The {a} is {p} {v}. ; I left my {a} {p} {v}. ; My {a} can be found {p} {v}. ; I hid the {a} {p} {v}. |
Where is my {a}? ; Where did I put my {a}? ; Where do I keep my {a}? ; Where can I find my {a}? ; Where did I leave my {a}? ; Where is the {a}?
car, van, motorbike, bicycle | spot | I parked the {a} {p} {v}. ; My {a} is parked {p} {v}. ; I park my {a} {p} {v}. | Where did I park the {a}? ; Where is my {a} parked? ; Where do I park my {a}? ; Where is my {a}?
sister, brother, mother, father, son, daughter, wife, husband, boss, dentist, doctor, neighbour, landlord, teacher, cousin, uncle, aunt, cat, dog, best friend, trainer, lawyer, plumber | person |
My {a} is called {v}. ; My {a}'s name is {v}. ; The name of my {a} is {v}. ; {v} is my {a}. ; My {a} is {v}. ; I have a {a} called {v}. |
What is my {a} called? ; What is the name of my {a}? ; Who is my {a}? ; What's my {a}'s name? ; How is my {a} called?
wifi password, door code, alarm code, locker number, membership number, licence plate, library card number, customer number, garage code, password of the printer, bike lock code, tax number | secret |
The {a} is {v}. ; My {a} is {v}. ; Remember the {a}: {v}. ; {a}: {v}. ; I set the {a} to {v}. ; Note to self: the {a} is {v}. | What is the {a}? ; What is my {a}? ; Tell me the {a}. ; What's the {a}? ; Which {a} do I have?
sister, brother, mother, dentist, doctor, boss, landlord, bank, garage, vet, hairdresser | phone | My {a}'s number is {v}. ; The phone number of my {a} is {v}. ; Call my {a} on {v}. |
What is the phone number of my {a}? ; What is my {a}'s number? ; How can I call my {a}? ; How do I reach my {a}?
dentist appointment, birthday, train, flight, exam, interview, yoga class, meeting with the bank, doctor's appointment, driving lesson, haircut, choir practice, job interview, parents' evening | time |
My {a} is {on} {v}. ; I have my {a} {on} {v}. ; The {a} is {on} {v}. ; Do not forget: my {a} is {on} {v}. ; My {a} was moved to {v}. | When is my {a}? ; When do I have my {a}? ; When is the {a}? ; When was my {a}?
nothing | time | We meet {on} {v}. ; We always meet {on} {v}. ; Our group meets {on} {v}. | When do we meet? ; When are we meeting? ; When does our group meet?
nothing | food | I am allergic to {v}. ; I have an allergy to {v}. ; I must not eat {v}, I am allergic. | What am I allergic to? ; Which allergy do I have? ; What must I not eat?
nothing | food | I love {v}. ; I like {v} best. ; My favourite food is {v}. ; What I like most is {v}. | What do I like best? ; What is my favourite food? ; What do I love?
nothing | place | I live in {v}. ; My flat is in {v}. ; I moved to {v}. | Where do I live? ; Where is my flat? ; Where did I move to?
nothing | place | I was born in {v}. ; My birthplace is {v}. | Where was I born? ; What is my birthplace?
nothing | org | I work for {v}. ; I work at {v}. ; My employer is {v}. | Where do I work? ; Who do I work for? ; Who is my employer?
nothing | spot | We meet {p} {v}. ; Our meetings are {p} {v}. | Where do we meet? ; Where are our meetings?
bike, tent, drill, ladder, camera, guitar, sofa, phone, washing machine, laptop, rent, gym, insurance, piano lessons | money | I paid {v} for the {a}. ; The {a} cost me {v}. ; For the {a} I pay {v}. | How much did I pay for the {a}? ; What did the {a} cost me? ; How much is the {a}?
bike, tent, drill, ladder, camera, guitar, book, suitcase, raincoat, saw | person | I lent the {a} to {v}. ; I gave my {a} to {v}. ; {v} has my {a}. ; {v} borrowed my {a}. | Who has my {a}? ; Who did I lend the {a} to? ; Who borrowed my {a}? ; Who did I give my {a} to?
shirt, shoe, ring, coat, hat, glove | number | My {a} size is {v}. ; I wear {a} size {v}. | What is my {a} size? ; Which {a} size do I wear?
bedroom, car, kitchen, front door, bike, fence, living room | colour | I painted the {a} {v}. ; My {a} is {v}. ; The {a} is {v} now. | What colour is my {a}? ; Which colour does my {a} have? ; What colour did I paint the {a}?
"""


@dataclass(frozen=True)
class Kind:
    nouns: tuple[str, ...]
    value: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]


def _kind(line: str) -> Kind:
    nouns, value, statements, questions = (part.strip() for part in line.split(" | "))
    return Kind(tuple(nouns.split(", ")), value, tuple(statements.split(" ; ")), tuple(questions.split(" ; ")))


KINDS = tuple(_kind(line) for line in re.sub(r" \|\n", " | ", _ROWS.strip()).splitlines())


@dataclass
class Note:
    text: str
    question: str
    value: str
    subject: tuple[str, str]  # no second note of a context is about the same


def _value(w: World, kind: str) -> tuple[str, str]:
    """A value, and `on` or `at` if it is a time."""
    r = w.r
    if kind == "time":
        kind, on = r.choice((("weekday", "on"), ("date", "on"), ("clock", "at")))
        value = words.make(kind, r, w.held_names)
        if kind == "weekday" and r.random() < 0.3:
            value = f"{value} at {words.clock(r)}"
        return value, on
    if kind == "secret":
        return (words.code(r) if r.random() < 0.5 else "-".join((r.choice(words.COLOURS), r.choice(words.THINGS).replace(" ", "-"), str(r.randint(1, 99))))), ""
    if kind == "spot" and r.random() < 0.5:  # nobody says more of a place at home than its name
        return r.choice(("the ", "the ", "the old ", "the small ")) + r.choice(words.ROOMS) if r.random() < 0.8 else f"level {r.randint(1, 9)}", ""
    return words.make(kind, r, w.held_names), ""


def note(w: World) -> Note:
    kind = w.r.choice(KINDS)
    noun = w.r.choice(kind.nouns)
    value, on = _value(w, kind.value)
    text, question = w.r.choice(kind.statements), w.r.choice(kind.questions)
    place = "on" if value.startswith("level") else words.preposition(value, w.r) if kind.value == "spot" else ""
    said = {"{a}": noun, "{v}": value, "{p}": place, "{on}": on}
    for slot, word in said.items():
        text, question = text.replace(slot, word), question.replace(slot, word)
    if w.chance(0.12):  # as somebody else would tell it
        text = re.sub(r"\b(I am|my|My|I|We|Our)\b", lambda m: {"I am": "You are", "my": "your", "My": "Your", "I": "You", "We": "You", "Our": "Your"}[m[0]], text)
    if w.chance(0.1):
        question = question.rstrip("?.").lower()
    about = noun if noun != "nothing" else kind.questions[0]
    return Note(words.capital(text), question, value, (about, "who" if kind.value in ("person", "phone") and kind.nouns[0] == "sister" else kind.value))
