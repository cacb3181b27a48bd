"""Names and values that no model can know by heart.

Entities are built from random syllables or from an adjective and a noun, so that answering means copying from
the passages. A tenth of all names, chosen by hash, never occurs in training: `held=True` draws from that tenth.
"""

import random
import zlib

ONSETS = "b br c d dr f g gr h j k kl l m n p pr qu r s sh sk st t th tr v w z bl cr".split()
VOWELS = "a e i o u ai ea ou ie a e i o".split()
CODAS = "n r l s th nd rk m ck x t v d ".split(" ")
# A second, wider stock in the manner of English words, so that copying does not depend on the first one's combinations.
WIDE_ONSETS = "b c d f g h j l m n p r s t v w y ch sh th wh sp st sc sn sw sl sm bl cl fl gl pl br cr dr fr gr pr tr qu str spr scr shr thr kn wr".split()
WIDE_VOWELS = "a e i o u a e i o u ai ay ea ee ei ew ie oa oo ou ow oi y ue au aw igh".split()
WIDE_CODAS = "b ck d ff g l ll m mp n nd ng nk nt p r rd rk rm rn rt rst s ss sh st t th tch x z lt lm ft ct pt ght dge nch".split()
TAILS = "wood ford ton ham berg burg ville field land stein sson man well worth more ley by den er el in on ac ard ano escu ova ez i o a us is ia um".split()

WOMEN = """Ada Alba Alice Amina Anna Berta Carla Clara Dora Elena Ella Emma Eva Fatima Flora Freya Grace Greta Hana Helga
Ida Ines Iris Jana Joan Julia Karin Lara Lena Lina Lotte Lucia Mara Maria Marta Mei Mila Mina Nadia Nina Nora Olga Paula
Petra Rita Rosa Ruth Salma Sara Selma Sofia Tamar Tessa Uma Ursula Vera Wanda Yara Yuki Zara Zoe Agnes Britt Edith Hilda""".split()
MEN = """Adam Alan Amir Anton Arne Ben Boris Bruno Carl Chen Daniel David Diego Emil Erik Felix Finn Frank Georg Hassan Henri
Hugo Igor Ivan Jakob Jan Jonas Josef Karl Kofi Lars Leo Luca Malik Marek Martin Max Milan Nils Noah Omar Oscar Otto Paul
Pavel Peter Piet Ralf Samir Simon Stefan Sven Tariq Theo Tim Tom Umar Victor Walter Yusuf Abel Basil Edgar Gustav""".split()
ADJECTIVES = """old new big small long short tall heavy light round square wooden iron folding spare second third main upper lower
front back left right north south east west inner outer large little wide narrow warm cold dry quiet bright dark
electric portable digital manual common public private winter summer spring autumn morning evening weekly monthly
yearly open closed famous local central first last green red blue white black yellow grey brown""".split()
THINGS = """lamp printer server camera bridge tower engine ladder drill saw oven kiln loom press wheelbarrow mower piano
bicycle van boat tent projector scanner freezer kettle pump heater cabinet bench desk table shelf mirror clock radio
telescope microscope sewing machine laser cutter hammer anvil lathe compressor generator router laptop keyboard
whiteboard curtain carpet sofa chair fridge stove washer trailer cart canoe kayak guitar violin drum statue painting
fountain greenhouse compost bin rain barrel hose shovel rake beehive bell key box toolbox first aid kit map book atlas
manual sign mailbox microphone speaker amplifier battery charger cable adapter helmet apron vase globe puzzle stamp"""
VENUES = """library workshop garden museum theatre archive cinema bakery cafe shop market school office studio gallery pool gym
church hall kitchen clinic pharmacy station harbour zoo park playground nursery warehouse laboratory reading room
meeting room tool shed bike shed farm mill restaurant hotel bar bank post office town hall community centre ticket office
repair cafe seed bank music room sewing room wood shop print shop boat house tea house observatory canteen""".split("\n")
EVENTS = """fair festival concert meeting course lecture workshop day market party race tournament exhibition tour walk picnic
auction dinner rehearsal inspection sale open day film night book club quiz night sewing class pottery class yoga class
language class planting day harvest cleaning day budget meeting members' meeting board meeting summer party repair evening"""
GROUPS = """members visitors children students adults volunteers guests families pensioners groups beginners teachers
non-members residents trainees apprentices tenants drivers cyclists dog owners school classes helpers""".split("\n")
COLOURS = """red blue green black white yellow orange purple brown grey pink silver golden violet crimson amber scarlet
turquoise navy olive ivory teal""".split()
MATERIALS = "oak steel copper glass granite marble paper wool silk bamboo brick leather clay tin bronze cotton slate rubber pine linen".split()
FOODS = """green tea black coffee apple cake rye bread goat cheese lentil soup plum jam honey tomatoes walnuts mushrooms
pancakes noodles rice pudding fresh figs olives cherries dark chocolate ginger biscuits carrot salad onion pie roast
potatoes lemonade peppermint tea bean stew pears"""
ROLES = """gardener carpenter teacher nurse driver baker painter librarian treasurer secretary mechanic plumber programmer
cook tailor porter guide surveyor photographer beekeeper bookbinder translator caretaker cashier designer musician
potter weaver trainer welder lawyer doctor farmer fisher judge pilot sailor tutor volunteer coordinator""".split()
HOBBIES = """old maps stamps rare coins chess rowing model trains pottery wild herbs glass bottles folk songs bird watching
hiking poetry post cards sea shells knitting clocks juggling fossils comic books jazz records origami archery running
cycling photography puppets kites swimming theatre masks"""
GOODS = """bicycles furniture shoes paper toys candles windows bread clocks ropes tents tools carpets soap lamps violins boats
bricks cheese maps gloves kettles baskets knives seeds honey beer stoves mirrors pens blankets bags glasses tiles"""
UNITS = "metres kilograms litres hours pages seats rooms degrees miles grams watts tons rows centimetres volts boxes".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
ROOMS = """cellar attic kitchen garden yard hallway lobby garage basement library workshop office shed barn storeroom tower
courtyard foyer archive north wing south wing east wing west wing back room front room main hall reading room meeting room
tool shed boat house greenhouse canteen playground car park entrance side entrance town hall village hall sports hall
old school market square community centre gallery"""
BELOW = ("in", "in", "in", "behind", "next to", "near")
CONTAINERS = ("a jar", "a cup", "a bowl", "a bag", "a bottle", "a glass", "a plate", "a box", "a slice", "a kilogram", "a litre", "a pot", "a sack", "a bunch")
PLURALS = """bicycles shoes toys candles windows clocks ropes tents tools carpets lamps violins boats bricks maps gloves kettles baskets knives seeds
pens blankets bags glasses tiles rakes spades ladders keys cups plates books films newspapers letters tickets helmets boxes chairs tables brushes
photographs records costumes stamps batteries bottles towels benches flags cables paints drawings magazines coats umbrellas nails screws hens sheep""".split()
PLACE_NOUNS = """harbour valley castle hill bay island forest lake mountain beach canal road street square""".split()


def phrases(text: str, pairs: tuple[str, ...] = ()) -> list[str]:
    """Split a word list on white space, keeping the two- and three-word entries named in `pairs` together."""
    text = " ".join(text.split())
    found = []
    for pair in sorted(pairs, key=len, reverse=True):
        if f" {pair} " in f" {text} ":
            found.append(pair)
            text = f" {text} ".replace(f" {pair} ", " ", 1).strip()
    return sorted(set(text.split()) | set(found))


THINGS = phrases(THINGS, ("sewing machine", "laser cutter", "compost bin", "rain barrel", "first aid kit"))
VENUES = phrases(" ".join(VENUES), ("reading room", "meeting room", "tool shed", "bike shed", "post office", "town hall", "community centre",
                 "ticket office", "repair cafe", "seed bank", "music room", "sewing room", "wood shop", "print shop", "boat house", "tea house"))
EVENTS = phrases(EVENTS, ("open day", "film night", "book club", "quiz night", "sewing class", "pottery class", "yoga class", "language class",
                 "planting day", "cleaning day", "budget meeting", "members' meeting", "board meeting", "summer party", "repair evening"))
GROUPS = phrases(" ".join(GROUPS), ("dog owners", "school classes"))
FOODS = phrases(FOODS, ("green tea", "black coffee", "apple cake", "rye bread", "goat cheese", "lentil soup", "plum jam", "rice pudding", "fresh figs",
                "dark chocolate", "ginger biscuits", "carrot salad", "onion pie", "roast potatoes", "peppermint tea", "bean stew"))
HOBBIES = phrases(HOBBIES, ("old maps", "rare coins", "model trains", "wild herbs", "glass bottles", "folk songs", "bird watching", "post cards",
                  "sea shells", "comic books", "jazz records", "theatre masks"))
GOODS = phrases(GOODS)
ROOMS = phrases(ROOMS, ("north wing", "south wing", "east wing", "west wing", "back room", "front room", "main hall", "reading room", "meeting room",
                "tool shed", "boat house", "car park", "side entrance", "town hall", "village hall", "sports hall", "old school", "market square",
                "community centre"))


def crc(text: str) -> int:
    return zlib.crc32(text.encode())


def is_held(text: str) -> bool:
    """True for the tenth of all names that only the tests use."""
    return crc(text) % 10 == 0


def syllable(r: random.Random) -> str:
    return r.choice(ONSETS) + r.choice(VOWELS) + (r.choice(CODAS) if r.random() < 0.5 else "")


def wide(r: random.Random) -> str:
    """A made-up word that could be English: `snorfield`, `gleck`, `thrawnter`."""
    word = r.choice(WIDE_ONSETS) + r.choice(WIDE_VOWELS) + r.choice(WIDE_CODAS)
    if r.random() < 0.35:
        word += r.choice(WIDE_VOWELS[:10]) + (r.choice(WIDE_CODAS) if r.random() < 0.5 else "")
    return word + r.choice(TAILS) if r.random() < 0.45 else word


def opaque(r: random.Random) -> str:
    """A made-up word for what is said of something: a model that copes with it can match words it has never seen."""
    while True:
        word = wide(r)
        if 4 <= len(word) <= 9 and not is_held(word):
            return word


def proper(r: random.Random, held: bool) -> str:
    """A capitalised name of two or three random syllables, or a made-up word."""
    while True:
        name = wide(r) if r.random() < 0.4 else "".join(syllable(r) for _ in range(r.choice((2, 2, 2, 3))))
        if 4 <= len(name) <= 10 and is_held(name) == held:
            return name.capitalize()


def named(r: random.Random, held: bool, adjectives: list[str], nouns: list[str], with_name: float) -> str:
    """`the old lamp` or `the Drejan lamp`; the pair is what the hash holds out."""
    while True:
        noun = r.choice(nouns)
        x = r.random()
        if x < with_name:
            return f"the {proper(r, held)} {noun}"
        if x < with_name + 0.15 and not held:
            return f"the {noun}"
        pair = f"{r.choice(adjectives)} {noun}"
        if is_held(pair) == held:
            return f"the {pair}"


def person(r: random.Random, held: bool = False) -> str:
    first = r.choice(WOMEN) if r.random() < 0.5 else r.choice(MEN)
    x = r.random()
    if x < 0.12 and not held:
        return first
    if x < 0.25:
        first = proper(r, held)
    elif x < 0.30:
        first = r.choice(("Mr", "Ms", "Dr"))
    return f"{first} {proper(r, held)}"


def place(r: random.Random, held: bool = False) -> str:
    name, x = proper(r, held), r.random()
    return name if x < 0.8 else r.choice(("Port ", "New ", "Lake ", "Mount ", "East ", "Saint ", "North ", "Upper ")) + name


def org(r: random.Random, held: bool = False) -> str:
    name, x = proper(r, held), r.random()
    if x < 0.15:
        return f"{name} {r.choice(('House', 'School', 'Museum', 'Hall', 'Bakery', 'Inn'))}"
    if x < 0.55:
        return name + r.choice((" Ltd", " Group", " Works", " Labs", " Foods", " Bank", "", "", " Institute", " Motors", " Press", " Systems", " Trust"))
    kind = r.choice(("club", "society", "team", "committee", "choir", "council", "band", "circle", "association", "project", "school", "board"))
    if x < 0.8:
        return f"the {name} {kind}"
    while True:
        topic = r.choice(("chess", "rowing", "film", "garden", "history", "music", "book", "repair", "youth", "dance", "tennis", "ski", "drama", "bee",
                          "street", "river", "energy", "finance", "safety", "press", "kitchen", "sailing", "science", "robot", "math", "craft"))
        pair = f"{topic} {kind}"
        if is_held(pair) == held:
            return f"the {pair}"


def thing(r: random.Random, held: bool = False) -> str:
    return named(r, held, ADJECTIVES, THINGS, 0.3)


def venue(r: random.Random, held: bool = False) -> str:
    return named(r, held, ADJECTIVES, VENUES, 0.35)


def event(r: random.Random, held: bool = False) -> str:
    return named(r, held, ADJECTIVES, EVENTS, 0.25)


def group(r: random.Random, held: bool = False) -> str:
    return r.choice(GROUPS)


def name(r: random.Random, held: bool = False) -> str:
    """What a boat, a server or an animal is called."""
    return proper(r, held) if r.random() < 0.7 else proper(r, held).lower()


def number(r: random.Random, held: bool = False) -> str:
    digits = r.choice((1, 2, 2, 3, 3, 4))
    return str(r.randint(10 ** (digits - 1) + (digits == 1), 10**digits - 1))


def year(r: random.Random, held: bool = False) -> str:
    return str(r.randint(1100, 2029) if r.random() < 0.4 else r.randint(1900, 2029))


def date(r: random.Random, held: bool = False) -> str:
    day, month = str(r.randint(1, 28)), r.choice(MONTHS)
    return r.choice((f"{day} {month}", f"{day} {month}", f"{month} {day}", f"{day} {month} {year(r)}"))


def weekday(r: random.Random, held: bool = False) -> str:
    return r.choice(WEEKDAYS)


def clock(r: random.Random, held: bool = False) -> str:
    hour, minute, x = r.randint(0, 23), r.choice((0, 0, 0, 30, 30, 15, 45, 10, 20, 40, 5, 50)), r.random()
    if x < 0.55:
        return f"{hour}:{minute:02d}"
    if x < 0.85:
        return f"{hour:02d}:{minute:02d}"
    return f"{r.randint(1, 12)} {r.choice(('am', 'pm'))}"


def code(r: random.Random, held: bool = False) -> str:
    letters = "".join(r.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(r.choice((1, 2, 2, 3))))
    digits = "".join(r.choice("0123456789") for _ in range(r.choice((2, 3, 4))))
    return r.choice((f"{letters}-{digits}", letters + digits, digits + letters, f"{digits}-{letters}", digits + str(r.randint(0, 9))))


def phone(r: random.Random, held: bool = False) -> str:
    digits = "".join(r.choice("0123456789") for _ in range(r.choice((3, 4, 5, 6))))
    return r.choice((digits, digits, f"555 {digits[:4]}", f"0{r.randint(10, 99)} {digits}"))


def email(r: random.Random, held: bool = False) -> str:
    return f"{proper(r, held).lower()}@{proper(r, held).lower()}.{r.choice(('org', 'net', 'example', 'com'))}"


def measure(r: random.Random, held: bool = False) -> str:
    return f"{number(r)} {r.choice(UNITS)}"


def duration(r: random.Random, held: bool = False) -> str:
    words = ("two", "three", "four", "five", "six", "ten", "twelve")
    amount = str(r.randint(2, 90)) if r.random() < 0.7 else r.choice(words)
    return f"{amount} {r.choice(('days', 'weeks', 'months', 'hours', 'minutes', 'years', 'nights'))}"


def money(r: random.Random, held: bool = False) -> str:
    n = number(r)
    return r.choice((f"{n} euros", f"{n} euros", f"{n} dollars", f"${n}", f"{n} crowns", f"{n} pounds", f"{n} cents"))


def colour(r: random.Random, held: bool = False) -> str:
    return r.choice(COLOURS)


def material(r: random.Random, held: bool = False) -> str:
    return r.choice(MATERIALS)


def food(r: random.Random, held: bool = False) -> str:
    return r.choice(FOODS)


def role(r: random.Random, held: bool = False) -> str:
    return r.choice(ROLES)


def hobby(r: random.Random, held: bool = False) -> str:
    return r.choice(HOBBIES)


def goods(r: random.Random, held: bool = False) -> str:
    return r.choice(GOODS) if r.random() < 0.6 else f"{r.choice(MATERIALS + COLOURS)} {r.choice(GOODS)}"


def spot(r: random.Random, held: bool = False) -> str:
    """Where a thing is kept or a thing happens: a room, a shelf, a floor, a town."""
    x = r.random()
    if x < 0.36:
        return f"the {r.choice(ROOMS)}"
    if x < 0.40:
        return f"the {r.choice(ROOMS)} of {proper(r, held)}"
    if x < 0.45:
        return f"{r.choice(('', f'{r.randint(1, 99)} '))}{proper(r, held)} {r.choice(('Road', 'Lane', 'Street', 'Square', 'Hill', 'Park'))}"
    if x < 0.60:
        return f"{r.choice(('room', 'shelf', 'locker', 'box', 'drawer', 'rack', 'bay', 'hall'))} {r.randint(1, 40)}"
    if x < 0.70:
        return f"the {r.choice(('first', 'second', 'third', 'fourth', 'ground', 'top'))} floor"
    if x < 0.85:
        return f"the {r.choice(ADJECTIVES)} {r.choice(THINGS)}"
    return place(r, held)


def phrase(r: random.Random, held: bool = False) -> str:
    """A free noun phrase, for attributes of no particular kind."""
    x = r.random()
    if x < 0.2:
        return r.choice(GOODS + FOODS + HOBBIES)
    if x < 0.35:
        return r.choice(ROLES + THINGS + MATERIALS)
    if x < 0.6:  # any word can be an answer, with or without an article
        return r.choice(("", "", "the ", "the ", "a ", f"{r.choice(ADJECTIVES)} ", f"the {r.choice(ADJECTIVES)} ")) + wide(r)
    return f"{r.choice(ADJECTIVES + COLOURS + MATERIALS)} {r.choice(GOODS + THINGS + PLACE_NOUNS)}"


def item(r: random.Random, held: bool = False) -> str:
    """One of something that has a price: `a jar of honey`, `an hour on the loom`."""
    while True:
        x = r.random()
        if x < 0.4:
            text = f"{r.choice(CONTAINERS)} of {r.choice(FOODS) if r.random() < 0.6 else wide(r)}"
        elif x < 0.6:
            text = f"{r.choice(('a day', 'an hour', 'a lesson', 'a morning', 'a turn'))} {r.choice(('on', 'at', 'with'))} {named(r, held, ADJECTIVES, THINGS, 0.2)}"
        else:
            text = f"a {r.choice(ADJECTIVES[:30])} {r.choice(THINGS + EVENTS)}" if r.random() < 0.5 else f"a {wide(r)} {r.choice(THINGS)}"
        if is_held(text) == held:
            return text


def stuff(r: random.Random, held: bool = False) -> str:
    """Many of something: `spades`, `the spare keys`, `broken lamps`."""
    while True:
        noun = r.choice(PLURALS)
        x = r.random()
        text = noun if x < 0.3 else f"the {noun}" if x < 0.5 else f"{r.choice(('', 'the '))}{r.choice(ADJECTIVES[:40] + COLOURS)} {noun}"
        if is_held(text) == held:
            return text


MAKERS = dict(person=person, item=item, stuff=stuff, place=place, org=org, thing=thing, venue=venue, event=event, group=group, number=number, year=year, date=date,
              weekday=weekday, clock=clock, code=code, phone=phone, email=email, measure=measure, duration=duration, money=money,
              colour=colour, material=material, food=food, role=role, hobby=hobby, goods=goods, spot=spot, phrase=phrase, name=name)
ENTITIES = ("person", "org", "place", "thing", "venue", "event")


def make(kind: str, r: random.Random, held: bool = False) -> str:
    return MAKERS[kind](r, held)


def preposition(value: str, r: random.Random) -> str:
    """The word that leads up to a spot: on the second floor, on shelf 4, in room 12, behind the shed."""
    last = value.split()[-1]
    if last == "floor" or value.startswith(("shelf", "rack")):
        return "on"
    if last in ("square", "playground"):
        return "on"
    if value.startswith("the ") and any(value.endswith(t) for t in THINGS):
        return r.choice(("behind", "next to", "near", "under"))
    return r.choice(BELOW) if value.startswith("the ") else "in"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
