"""What can be said about an entity, and in how many ways it can be said and asked.

A named relation is a row of the table below: its kind of subject and value, statements, questions, and the noun phrases
that stand for its value in a two-hop question. The open relation, `the <noun> of <entity> is <value>`, takes its noun
from ATTRIBUTES and its phrasing from OPEN_STATEMENTS and OPEN_QUESTIONS; it lets a model meet attributes that it
has never seen. In every list of phrasings the entries after HELD are used by the tests only.

In a template `{s}` is the subject, `{v}` the value, `{a}` the attribute noun, `{p}` the preposition a spot needs.
"""

import random
from dataclasses import dataclass

HELD = "--"
HELD_RELATIONS = frozenset(("spouse", "river", "makes", "designer", "deadline"))


@dataclass(frozen=True)
class Relation:
    """One kind of fact: who it is about, what kind of value it has, and its phrasings."""

    key: str
    subject: str
    value: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    held_statements: tuple[str, ...]
    held_questions: tuple[str, ...]
    hops: tuple[str, ...] = ()
    attribute: str = ""

    def phrased(self, held: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (self.held_statements, self.held_questions) if held else (self.statements, self.questions)


def cut(lines: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split `a | b | -- | c` into what training may use and what it may not."""
    parts = [part.strip() for part in lines.replace("\n", " ").split("|")]
    where = parts.index(HELD)
    return tuple(parts[:where]), tuple(parts[where + 1 :])


def row(key: str, subject: str, value: str, statements: str, questions: str, hops: str = "") -> Relation:
    seen_s, held_s = cut(statements)
    seen_q, held_q = cut(questions)
    return Relation(key, subject, value, seen_s, seen_q, held_s, held_q, tuple(h.strip() for h in hops.split("|") if h.strip()))


NAMED = (
    row("born", "person", "place",
        "{s} was born in {v}. | {s} comes from {v}. | Born in {v}, {s} later moved away. | {v} is the birthplace of {s}. | {s} is originally from {v}. | {s} grew up in {v}. | The birthplace of {s} is {v}. | Like many others, {s} comes from {v}. | -- | It was in {v} that {s} was born. | {s} is a native of {v}.",
        "Where was {s} born? | What is the birthplace of {s}? | In which place was {s} born? | Where is {s} from? | Which town does {s} come from? | Where did {s} grow up? | -- | Where does {s} come from? | In what town was {s} born?",
        "the birthplace of {s} | the town where {s} was born"),
    row("birthyear", "person", "year",
        "{s} was born in {v}. | {s} (born {v}) is a writer. | The birth year of {s} is {v}. | In {v}, {s} was born. | {s}, born in {v}, is the youngest. | {s} has been around since {v}. | Born in {v}, {s} is now retired. | {v} is the year {s} was born. | -- | {s} came into the world in {v}. | {s} was a child of {v}.",
        "When was {s} born? | In which year was {s} born? | What is the birth year of {s}? | What year was {s} born in? | In what year was {s} born? | Tell me the birth year of {s}. | -- | {s} was born in what year? | From which year is {s}?"),
    row("works", "person", "org",
        "{s} works for {v}. | {s} works at {v}. | {s} is employed by {v}. | {v} hired {s} last year. | {s} has a job at {v}. | {s} joined {v}. | The employer of {s} is {v}. | {v} employs {s}. | {s} belongs to the staff of {v}. | -- | At {v}, {s} has been on the staff for years. | {s} earns a living at {v}.",
        "Where does {s} work? | Who employs {s}? | Which company does {s} work for? | Who does {s} work for? | At which company is {s} employed? | What is the employer of {s}? | -- | By whom is {s} employed? | Who hired {s}?",
        "the employer of {s} | the company that employs {s} | the company {s} works for"),
    row("lives", "person", "place",
        "{s} lives in {v}. | {s} has a house in {v}. | The home town of {s} is {v}. | {s} moved to {v}. | {s} now lives in {v}. | {s} settled in {v}. | {v} is the home of {s}. | {s} rents a flat in {v}. | -- | These days {v} is home to {s}. | {s} resides in {v}.",
        "Where does {s} live? | In which town does {s} live? | What is the home town of {s}? | Where is {s} living now? | Which town does {s} live in? | Where did {s} move to? | -- | Where is the home of {s}? | In what place does {s} live?",
        "the home town of {s} | the town where {s} lives"),
    row("boss", "person", "person",
        "{s} reports to {v}. | The manager of {s} is {v}. | {v} manages {s}. | {v} is the boss of {s}. | {s} works under {v}. | {v} supervises {s}. | The supervisor of {s} is {v}. | {v} is the manager of {s}. | -- | {s} takes orders from {v}. | {s} has {v} as a boss.",
        "Who manages {s}? | Who is the manager of {s}? | Who does {s} report to? | Who supervises {s}? | Who does {s} work under? | What is the name of the manager of {s}? | -- | Who is the boss of {s}? | Whom does {s} report to?",
        "the manager of {s} | the person who manages {s} | the boss of {s}"),
    row("spouse", "person", "person",
        "{s} is married to {v}. | {s} married {v}. | The partner of {s} is {v}. | -- | {v} is the spouse of {s}. | {s} is married to {v}. | {s} married {v}.",
        "Who is {s} married to? | Who is the partner of {s}? | -- | Who did {s} marry? | Who is the spouse of {s}? | Who is {s} married to?",
        "the partner of {s}"),
    row("phone", "person", "phone",
        "The phone number of {s} is {v}. | You can call {s} on {v}. | {s} can be reached at {v}. | Call {v} to reach {s}. | To reach {s}, call {v}. | {s}'s number is {v}. | The number of {s} is {v}. | Phone {s} on {v}. | -- | If you need {s}, dial {v}. | {s} answers on {v}.",
        "What is the phone number of {s}? | Which number reaches {s}? | How can I call {s}? | What is {s}'s phone number? | How can I reach {s}? | On which number can I call {s}? | -- | What number does {s} have? | Which number do I dial for {s}?"),
    row("email", "person", "email",
        "The email of {s} is {v}. | Write to {s} at {v}. | {s} can be reached at {v}. | Mail for {s} goes to {v}. | {s} reads mail sent to {v}. | The address of {s} is {v}. | Send questions to {s}: {v}. | The email address of {s} is {v}. | -- | {s} answers mail at {v}. | To write to {s}, use {v}.",
        "What is the email of {s}? | What is the email address of {s}? | Where can I write to {s}? | Which address does {s} use? | How do I write to {s}? | What is {s}'s email address? | -- | To which address do I write for {s}? | What email does {s} have?"),
    row("job", "person", "role",
        "{s} works as a {v}. | {s} is a {v}. | {s} is the {v} here. | The job of {s} is {v}. | {s} trained as a {v}. | As a {v}, {s} is busy all year. | {s} is our {v}. | The profession of {s} is {v}. | -- | {s} makes a living as a {v}. | {s} has always been a {v}.",
        "What does {s} do? | What is the job of {s}? | What does {s} work as? | Which job does {s} have? | What is {s}'s profession? | What is the profession of {s}? | -- | As what does {s} work? | What kind of job does {s} have?"),
    row("hobby", "person", "hobby",
        "{s} collects {v}. | {s} has a collection of {v}. | The hobby of {s} is {v}. | {s} spends weekends on {v}. | In the evening {s} enjoys {v}. | {s}'s hobby is {v}. | {s} is fond of {v}. | {s} has loved {v} since school. | -- | In free hours {s} turns to {v}. | {s} cannot stop talking about {v}.",
        "What is the hobby of {s}? | Which hobby does {s} have? | What is {s}'s hobby? | What does {s} do on weekends? | What hobby does {s} have? | What does {s} enjoy? | -- | What does {s} do in free hours? | What is {s} fond of?"),
    row("food", "person", "food",
        "{s} likes {v}. | {s} always brings {v}. | The favourite food of {s} is {v}. | {s} loves {v}. | {s} prefers {v}. | {s} usually orders {v}. | {s}'s favourite food is {v}. | {v} is what {s} likes best. | -- | Nothing pleases {s} more than {v}. | {s} never says no to {v}.",
        "What does {s} like? | What does {s} like best? | What is the favourite food of {s}? | What does {s} prefer? | What does {s} love? | Which food does {s} like? | -- | What food pleases {s}? | What would {s} like to eat?"),
    row("based", "org", "place",
        "{s} is based in {v}. | The head office of {s} is in {v}. | {s} has its seat in {v}. | {v} is the seat of {s}. | {s} has its offices in {v}. | {s} operates from {v}. | {s} is located in {v}. | The seat of {s} is {v}. | -- | From {v}, {s} runs all its business. | {s} has its main address in {v}.",
        "Where is {s} based? | In which town is {s} based? | Where is the head office of {s}? | Where does {s} have its seat? | Where is {s} located? | Where are the offices of {s}? | -- | What is the seat of {s}? | From where does {s} operate?",
        "the seat of {s} | the town where {s} is based"),
    row("founder", "org", "person",
        "{s} was founded by {v}. | {v} founded {s}. | The founder of {s} is {v}. | {v} started {s} in a garage. | {s} was started by {v}. | {v} is the founder of {s}. | {v} set up {s}. | {s} was set up by {v}. | -- | It was {v} who created {s}. | {s} goes back to {v}.",
        "Who founded {s}? | Who is the founder of {s}? | Who started {s}? | Who was {s} founded by? | Who set up {s}? | What is the name of the founder of {s}? | -- | By whom was {s} founded? | Who created {s}?",
        "the founder of {s} | the person who founded {s}"),
    row("founded", "org", "year",
        "{s} was founded in {v}. | {s} was started in {v}. | Founded in {v}, {s} is still active. | Since {v}, {s} has been in business. | {s} began in {v}. | {s} has existed since {v}. | The founding year of {s} is {v}. | {s} goes back to {v}. | -- | In {v} the story of {s} began. | {s} came to life in {v}.",
        "When was {s} founded? | In which year was {s} founded? | When did {s} begin? | When was {s} started? | Since when has {s} existed? | What is the founding year of {s}? | -- | What year did {s} begin? | How long has {s} existed?"),
    row("makes", "org", "goods",
        "{s} makes {v}. | {s} produces {v}. | -- | The main product of {s} is {v}. | {s} makes {v}. | {s} produces {v}. | {s} is known for its {v}.",
        "What does {s} make? | What does {s} produce? | -- | What does {s} make? | What is the main product of {s}? | What does {s} produce? | What is {s} known for?"),
    row("sells", "org", "goods",
        "{s} sells {v}. | {s} deals in {v}. | {s} trades in {v}. | You can buy {v} from {s}. | {s} offers {v}. | {s} has {v} for sale. | {s} earns its money with {v}. | At {s} they sell {v}. | -- | {v} can be bought at {s}. | {s} stocks {v}.",
        "What does {s} sell? | What does {s} deal in? | What can I buy from {s}? | What does {s} offer? | What does {s} trade in? | Which goods does {s} sell? | -- | What is sold by {s}? | What is for sale at {s}?"),
    row("leader", "org", "person",
        "{s} is led by {v}. | {v} leads {s}. | The director of {s} is {v}. | {v} is in charge of {s}. | {v} runs {s}. | {v} is the head of {s}. | {s} is run by {v}. | {v} chairs {s}. | The head of {s} is {v}. | The leader of {s} is {v}. | -- | {v} took over as head of {s}. | At the top of {s} is {v}.",
        "Who leads {s}? | Who is the director of {s}? | Who is in charge of {s}? | Who runs {s}? | Who is {s} led by? | Who is the leader of {s}? | -- | Who is the head of {s}? | Who is at the top of {s}?",
        "the director of {s} | the person who leads {s} | the leader of {s} | the head of {s}"),
    row("meets", "org", "weekday",
        "{s} meets on {v}. | {s} meets every {v}. | Every {v}, {s} meets. | {s} gathers on {v}. | The meeting day of {s} is {v}. | {v} is the day {s} meets. | {s} comes together each {v}. | On {v} evenings {s} meets. | -- | {s} holds its meetings on {v}. | You will find {s} together on {v}.",
        "When does {s} meet? | On which day does {s} meet? | What day does {s} meet? | Which day does {s} meet on? | What is the meeting day of {s}? | When does {s} gather? | -- | When are the meetings of {s}? | On what day is {s} together?"),
    row("meetsat", "org", "spot",
        "{s} meets {p} {v}. | The meetings of {s} are held {p} {v}. | {s} gathers {p} {v}. | {s} comes together {p} {v}. | The members of {s} meet {p} {v}. | The meeting place of {s} is {v}. | {s} uses {v} for its meetings. | You find {s} {p} {v}. | -- | {s} sits together {p} {v}. | Meetings of {s} take place {p} {v}.",
        "Where does {s} meet? | Where are the meetings of {s}? | What is the meeting place of {s}? | In which place does {s} meet? | Where does {s} gather? | Where can I find {s}? | -- | Where do the members of {s} meet? | Where does {s} come together?"),
    row("river", "place", "place",
        "{s} lies on the river {v}. | The river {v} flows through {s}. | -- | {s} lies on the river {v}. | The river in {s} is the {v}. | The river {v} flows through {s}.",
        "Which river flows through {s}? | On which river does {s} lie? | -- | Which river flows through {s}? | On which river does {s} lie? | What is the river of {s}?",
        "the river of {s}"),
    row("mayor", "place", "person",
        "The mayor of {s} is {v}. | {v} is the mayor of {s}. | {s} elected {v} as mayor. | In {s}, {v} serves as mayor. | {v} was elected mayor of {s}. | {s} has a new mayor, {v}. | Mayor {v} has governed {s} for years. | {v} governs {s}. | -- | The people of {s} chose {v} as mayor. | The town hall of {s} is led by {v}.",
        "Who is the mayor of {s}? | Who was elected mayor of {s}? | What is the name of the mayor of {s}? | Who governs {s}? | Who serves as mayor in {s}? | Which mayor does {s} have? | -- | Who did {s} elect as mayor? | Who is mayor in {s}?",
        "the mayor of {s}"),
    row("population", "place", "number",
        "{s} has {v} inhabitants. | The population of {s} is {v}. | About {v} people live in {s}. | {v} people live in {s}. | {s} is home to {v} people. | {s} counts {v} inhabitants. | There are {v} people in {s}. | With {v} inhabitants, {s} is a quiet place. | -- | {v} people call {s} home. | {s} numbers {v} souls.",
        "How many people live in {s}? | What is the population of {s}? | How many inhabitants does {s} have? | How many inhabitants are there in {s}? | How big is {s}? | How large is the population of {s}? | -- | How many people call {s} home? | What number of people live in {s}?"),
    row("builtin", "thing", "year",
        "{s} was built in {v}. | {s} dates from {v}. | {s} was finished in {v}. | In {v}, {s} was finished. | {s} was made in {v}. | {s} is from {v}. | The building year of {s} is {v}. | Built in {v}, {s} still works. | -- | Work on {s} ended in {v}. | {s} has stood since {v}.",
        "When was {s} built? | From which year is {s}? | In which year was {s} built? | When was {s} made? | How old is {s}? | What year is {s} from? | -- | When was {s} finished? | What is the building year of {s}?"),
    row("designer", "thing", "person",
        "{s} was designed by {v}. | {v} designed {s}. | -- | {s} was designed by {v}. | {v} designed {s}. | The designer of {s} is {v}. | {s} is the work of {v}.",
        "Who designed {s}? | Who is the designer of {s}? | -- | Who designed {s}? | Who is the designer of {s}? | By whom was {s} designed?",
        "the designer of {s}"),
    row("kept", "thing", "spot",
        "{s} is {p} {v}. | {s} is kept {p} {v}. | {s} stands {p} {v}. | You can find {s} {p} {v}. | We keep {s} {p} {v}. | {s} is stored {p} {v}. | {s} can be found {p} {v}. | {s} belongs {p} {v}. | Look for {s} {p} {v}. | -- | {s} has its place {p} {v}. | Put {s} back {p} {v}.",
        "Where is {s}? | Where is {s} kept? | Where can I find {s}? | Where do we keep {s}? | Where does {s} stand? | Where is {s} stored? | -- | Where does {s} belong? | In which place is {s}?",
        "the place where {s} is kept"),
    row("venueat", "venue", "spot",
        "{s} is {p} {v}. | {s} is located {p} {v}. | You find {s} {p} {v}. | {s} lies {p} {v}. | {s} was built {p} {v}. | {s} has moved to {v}. | {s} is right {p} {v}. | The entrance of {s} is {p} {v}. | -- | {s} has its door {p} {v}. | Go to {v} to find {s}.",
        "Where is {s}? | Where can I find {s}? | Where is {s} located? | In which place is {s}? | Where do I find {s}? | Where has {s} moved to? | -- | Where does {s} lie? | How do I find {s}?"),
    row("material", "thing", "material",
        "{s} is made of {v}. | {s} was built from {v}. | The material of {s} is {v}. | They used {v} for {s}. | {s} consists of {v}. | {s} was made from {v}. | {v} was used for {s}. | {s} is all {v}. | -- | The makers chose {v} for {s}. | {s} is a piece of {v}.",
        "What is {s} made of? | Which material is {s} made of? | What is the material of {s}? | What is {s} made from? | What was {s} built from? | What material is {s}? | -- | What was used for {s}? | Of what is {s} made?"),
    row("colour", "thing", "colour",
        "{s} is {v}. | {s} was painted {v}. | The colour of {s} is {v}. | They painted {s} {v}. | {s} is painted {v}. | {s} has a {v} finish. | {s} now shines in {v}. | {v} is the colour of {s}. | -- | {s} got a {v} coat. | We painted {s} in {v}.",
        "What colour is {s}? | What is the colour of {s}? | Which colour does {s} have? | In which colour was {s} painted? | What colour does {s} have? | Which colour is {s}? | -- | What colour was {s} painted? | In what colour is {s}?"),
    row("opens", "venue", "clock",
        "{s} opens at {v}. | The doors of {s} open at {v}. | {s} is open from {v}. | From {v} on, {s} is open. | {s} starts work at {v}. | {s} opens its doors at {v}. | The opening time of {s} is {v}. | {s} opens at {v} every day. | {s} opens at {v} in the morning. | -- | You can enter {s} from {v}. | {s} unlocks its doors at {v}.",
        "When does {s} open? | At what time does {s} open? | What is the opening time of {s}? | From when is {s} open? | What time does {s} open? | When do the doors of {s} open? | -- | At which hour does {s} open? | When can I enter {s}?"),
    row("closes", "venue", "clock",
        "{s} closes at {v}. | The doors of {s} close at {v}. | {s} is open until {v}. | At {v}, {s} closes. | {s} shuts at {v}. | {s} closes its doors at {v}. | The closing time of {s} is {v}. | {s} closes at {v} every day. | {s} closes at {v} in the evening. | -- | You must leave {s} by {v}. | {s} locks its doors at {v}.",
        "When does {s} close? | At what time does {s} close? | What is the closing time of {s}? | Until when is {s} open? | What time does {s} close? | How long is {s} open? | -- | At which hour does {s} close? | When must I leave {s}?"),
    row("closedday", "venue", "weekday",
        "{s} is closed on {v}. | On {v}, {s} is closed. | {s} stays closed on {v}. | {s} does not open on {v}. | {s} is shut every {v}. | {s} closes on {v}. | {v} is the day off for {s}. | Every {v}, {s} is closed. | -- | Do not come to {s} on {v}. | {s} rests on {v}.",
        "On which day is {s} closed? | When is {s} closed? | What day is {s} closed? | On what day is {s} shut? | Which day is {s} closed? | Which day does {s} not open? | -- | When does {s} stay closed? | What is the day off for {s}?"),
    row("capacity", "venue", "number",
        "{s} has room for {v} people. | {s} seats {v} people. | {s} holds {v} people. | {v} people fit into {s}. | There are {v} seats in {s}. | {s} has {v} seats. | At most {v} people may use {s}. | The capacity of {s} is {v}. | -- | {s} can take {v} people. | {s} offers space to {v} people.",
        "How many people fit into {s}? | How many seats does {s} have? | How many people does {s} hold? | What is the capacity of {s}? | How many seats are there in {s}? | How many people can use {s}? | -- | For how many people is {s}? | How much room does {s} have?"),
    row("doorcode", "venue", "code",
        "The door code of {s} is {v}. | {s} opens with the code {v}. | The code for {s} is {v}. | Use {v} to open {s}. | Enter {v} at the door of {s}. | The code of {s} is {v}. | To open {s}, type {v}. | The lock of {s} takes {v}. | -- | {s} can be unlocked with {v}. | Type {v} to get into {s}.",
        "What is the door code of {s}? | What is the code for {s}? | Which code opens {s}? | What is the code of {s}? | Which code do I need for {s}? | How do I open {s}? | -- | With which code can I unlock {s}? | What do I type to get into {s}?"),
    row("keeper", "thing", "person",
        "{v} looks after {s}. | {v} takes care of {s}. | {v} is responsible for {s}. | {s} is looked after by {v}. | {v} repairs {s}. | {v} maintains {s}. | {v} is in charge of {s}. | Ask {v} about {s}. | {s} is maintained by {v}. | -- | The care of {s} is up to {v}. | {v} keeps {s} in order.",
        "Who looks after {s}? | Who takes care of {s}? | Who is responsible for {s}? | Who maintains {s}? | Who is in charge of {s}? | Who do I ask about {s}? | -- | Who keeps {s} in order? | Who cares for {s}?",
        "the person who looks after {s} | the person responsible for {s}"),
    row("key", "venue", "person",
        "{v} has the key to {s}. | The key to {s} is with {v}. | {v} keeps the key to {s}. | Ask {v} for the key to {s}. | {v} runs {s}. | {v} is responsible for {s}. | {v} holds the key to {s}. | You get the key to {s} from {v}. | -- | {v} can unlock {s}. | The key to {s} belongs to {v}.",
        "Who has the key to {s}? | Who keeps the key to {s}? | Who holds the key to {s}? | Who do I ask for the key to {s}? | From whom do I get the key to {s}? | Where do I get the key to {s}? | -- | Who can unlock {s}? | With whom is the key to {s}?",
        "the person who has the key to {s}"),
    row("donor", "thing", "person",
        "{s} was donated by {v}. | {v} donated {s}. | {v} gave us {s}. | {s} was given by {v}. | {s} is a gift from {v}. | {v} paid for {s}. | {s} was bought by {v}. | {s} comes from {v}. | -- | We owe {s} to {v}. | {v} made us a present of {s}.",
        "Who donated {s}? | Who gave us {s}? | Who was {s} donated by? | Who paid for {s}? | From whom is {s}? | Who bought {s}? | -- | Whom do we thank for {s}? | By whom was {s} donated?",
        "the person who donated {s}"),
    row("cost", "thing", "money",
        "{s} costs {v}. | The price of {s} is {v}. | {s} was sold for {v}. | You pay {v} for {s}. | {s} cost {v}. | {s} is on sale for {v}. | We paid {v} for {s}. | The cost of {s} is {v}. | -- | {v} is what {s} costs. | {s} sets you back {v}.",
        "How much does {s} cost? | What is the price of {s}? | What does {s} cost? | How much is {s}? | How much did {s} cost? | What is the cost of {s}? | -- | How much do I pay for {s}? | For how much was {s} sold?"),
    row("rent", "venue", "money",
        "Renting {s} costs {v}. | The rent for {s} is {v}. | {s} can be rented for {v}. | {s} costs {v} a day. | Entry to {s} costs {v}. | A day in {s} costs {v}. | You pay {v} for {s}. | The fee for {s} is {v}. | -- | {v} is the rent for {s}. | {s} is let for {v}.",
        "How much does it cost to rent {s}? | What is the rent for {s}? | How much is {s}? | What does {s} cost? | What is the fee for {s}? | How much does {s} cost? | -- | What do I pay to rent {s}? | For how much can I rent {s}?"),
    row("ticket", "event", "money",
        "A ticket for {s} costs {v}. | {s} costs {v}. | Tickets for {s} cost {v}. | The fee for {s} is {v}. | You pay {v} for {s}. | Entry to {s} costs {v}. | {s} is {v} per person. | The price of {s} is {v}. | -- | {v} buys a ticket for {s}. | A seat at {s} is {v}.",
        "How much is a ticket for {s}? | What does {s} cost? | How much does {s} cost? | What is the fee for {s}? | What is the price of {s}? | How much are tickets for {s}? | -- | How much do I pay for {s}? | What do tickets for {s} cost?"),
    row("fee", "group", "money",
        "{s} pay {v}. | {s} pay {v} a year. | The fee for {s} is {v}. | For {s}, entry costs {v}. | {s} are charged {v}. | {s} get in for {v}. | The price for {s} is {v}. | {s} pay {v} per month. | -- | {v} is due from {s}. | We charge {s} {v}.",
        "How much do {s} pay? | What do {s} pay? | What is the fee for {s}? | What is the price for {s}? | How much are {s} charged? | How much does it cost for {s}? | -- | What do we charge {s}? | For {s}, how much is it?"),
    row("loan", "thing", "duration",
        "{s} can be borrowed for {v}. | You may keep {s} for {v}. | {s} is lent for {v}. | The loan period for {s} is {v}. | We lend {s} for {v}. | {s} may be kept for {v}. | {s} must be returned after {v}. | Members can borrow {s} for {v}. | -- | {s} may stay with you for {v}. | {s} has to come back within {v}.",
        "How long can I borrow {s}? | For how long can {s} be borrowed? | How long may I keep {s}? | What is the loan period for {s}? | For how long is {s} lent? | After how long must {s} be returned? | -- | How long may {s} stay with me? | For how long do we lend {s}?"),
    row("lasts", "event", "duration",
        "{s} lasts {v}. | {s} takes {v}. | {s} goes on for {v}. | The length of {s} is {v}. | {s} runs for {v}. | {s} will last {v}. | {s} takes about {v}. | Plan {v} for {s}. | -- | {s} is over after {v}. | We need {v} for {s}.",
        "How long does {s} last? | How long is {s}? | How long does {s} take? | For how long does {s} run? | What is the length of {s}? | How long will {s} be? | -- | After how long is {s} over? | How much time does {s} take?"),
    row("size", "thing", "measure",
        "{s} measures {v}. | The size of {s} is {v}. | {s} reaches {v}. | {s} holds {v}. | {s} has a size of {v}. | {s} can take {v}. | {s} is rated at {v}. | {s} comes to {v}. | -- | With {v}, {s} is impressive. | {s} amounts to {v}.",
        "What is the size of {s}? | How big is {s}? | How much does {s} measure? | How much can {s} take? | How large is {s}? | How much does {s} hold? | -- | What size does {s} have? | What does {s} measure?"),
    row("serial", "thing", "code",
        "The serial number of {s} is {v}. | {s} carries the code {v}. | {s} is listed as {v}. | The label on {s} reads {v}. | {s} has the number {v}. | {s} is marked {v}. | The code on {s} is {v}. | In the inventory {s} is {v}. | -- | We filed {s} under {v}. | {s} bears the mark {v}.",
        "What is the serial number of {s}? | Which code does {s} carry? | What is the code of {s}? | What does the label on {s} say? | Which number does {s} have? | Under which code is {s} listed? | -- | What does the label on {s} read? | How is {s} marked?"),
    row("due", "event", "date",
        "{s} is on {v}. | {s} takes place on {v}. | {s} will be held on {v}. | {s} is planned for {v}. | On {v} we hold {s}. | The date of {s} is {v}. | {s} starts on {v}. | Come to {s} on {v}. | {s} is set for {v}. | -- | {v} is the day of {s}. | We look forward to {s} on {v}.",
        "When is {s}? | On which date is {s}? | When does {s} take place? | What is the date of {s}? | When will {s} be held? | On what day is {s}? | -- | For when is {s} planned? | Which day is {s}?"),
    row("eventday", "event", "weekday",
        "{s} is on {v}. | {s} takes place on {v}. | {s} will be held on {v}. | {s} is planned for {v}. | On {v} we hold {s}. | {s} is held every {v}. | Every {v} there is {s}. | Come to {s} on {v}. | -- | {v} is the day of {s}. | We look forward to {s} on {v}.",
        "When is {s}? | On which day is {s}? | When does {s} take place? | What day is {s}? | When will {s} be held? | Which day is {s} on? | -- | For when is {s} planned? | On what weekday is {s}?"),
    row("starts", "event", "clock",
        "{s} starts at {v}. | {s} begins at {v}. | At {v}, {s} begins. | The starting time of {s} is {v}. | {s} will start at {v}. | {s} kicks off at {v}. | Be at {s} by {v}. | We start {s} at {v}. | -- | {s} gets going at {v}. | Doors for {s} open at {v}.",
        "When does {s} start? | At what time does {s} begin? | What time does {s} start? | When does {s} begin? | What is the starting time of {s}? | At what time does {s} start? | -- | At which hour does {s} start? | When does {s} get going?"),
    row("eventat", "event", "spot",
        "{s} is held {p} {v}. | {s} takes place {p} {v}. | {s} is {p} {v}. | {s} will be {p} {v}. | We hold {s} {p} {v}. | The place of {s} is {v}. | {s} happens {p} {v}. | {s} was moved to {v}. | -- | Come to {v} for {s}. | {v} hosts {s}.",
        "Where is {s}? | Where is {s} held? | Where does {s} take place? | Where will {s} be? | What is the place of {s}? | In which place is {s}? | -- | Where do I go for {s}? | Where does {s} happen?"),
    row("host", "event", "person",
        "{v} leads {s}. | {s} is led by {v}. | {v} organises {s}. | {v} hosts {s}. | {s} is run by {v}. | {v} is in charge of {s}. | {v} teaches {s}. | {v} plans {s}. | Sign up for {s} with {v}. | -- | {s} is in the hands of {v}. | {v} prepares {s}.",
        "Who leads {s}? | Who organises {s}? | Who hosts {s}? | Who runs {s}? | Who is in charge of {s}? | Who teaches {s}? | -- | Who prepares {s}? | In whose hands is {s}?",
        "the person who leads {s} | the person who organises {s}"),
    row("belongs", "thing", "org",
        "{s} belongs to {v}. | {v} owns {s}. | {s} is owned by {v}. | The owner of {s} is {v}. | {s} is the property of {v}. | {s} is on loan from {v}. | {v} is the owner of {s}. | We share {s} with {v}. | -- | {s} is in the hands of {v}. | {v} lends us {s}.",
        "Who does {s} belong to? | Who owns {s}? | Who is the owner of {s}? | To whom does {s} belong? | Who is {s} owned by? | What is the owner of {s}? | -- | Whose is {s}? | Whose property is {s}?",
        "the owner of {s}"),
    row("called", "thing", "name",
        "{s} is called {v}. | The name of {s} is {v}. | {s} is named {v}. | {s} has the name {v}. | We call {s} {v}. | {s} goes by the name of {v}. | {s} is known as {v}. | Everybody calls {s} {v}. | -- | {s} was christened {v}. | {s} answers to {v}.",
        "What is {s} called? | What is the name of {s}? | How is {s} called? | What do we call {s}? | Which name does {s} have? | What is {s} named? | -- | By what name does {s} go? | What name was given to {s}?"),
    row("arrives", "thing", "date",
        "{s} will arrive on {v}. | {s} arrives on {v}. | {s} will be delivered on {v}. | We expect {s} on {v}. | {s} is due on {v}. | {s} was bought on {v}. | The delivery of {s} is on {v}. | {s} comes on {v}. | -- | {s} should be here on {v}. | {s} is expected on {v}.",
        "When will {s} arrive? | When does {s} arrive? | On which date does {s} arrive? | When will {s} be delivered? | When is {s} due? | When does {s} come? | -- | For when is {s} expected? | On what day will {s} be here?"),
    row("reaches", "place", "duration",
        "The trip to {s} takes {v}. | {s} is {v} away. | It takes {v} to get to {s}. | You need {v} to reach {s}. | The way to {s} takes {v}. | The bus to {s} takes {v}. | We were in {s} after {v}. | A trip to {s} lasts {v}. | -- | Plan {v} for the way to {s}. | {s} can be reached in {v}.",
        "How long does the trip to {s} take? | How far is {s}? | How long does it take to get to {s}? | How long is the way to {s}? | How long does the bus to {s} take? | How far away is {s}? | -- | How much time do I need to reach {s}? | In what time can {s} be reached?"),
    row("leaves", "place", "clock",
        "The bus to {s} leaves at {v}. | The train to {s} leaves at {v}. | The boat to {s} leaves at {v}. | At {v} a bus goes to {s}. | The last bus to {s} is at {v}. | You can take the bus to {s} at {v}. | The bus for {s} departs at {v}. | We leave for {s} at {v}. | -- | There is a bus to {s} at {v}. | Departure for {s} is at {v}.",
        "When does the bus to {s} leave? | When do we leave for {s}? | At what time does the bus to {s} leave? | When is the bus to {s}? | When does the train to {s} leave? | What time is the bus to {s}? | -- | When is the departure for {s}? | At which hour can I go to {s}?"),
    row("itemcost", "item", "money",
        "{s} costs {v}. | You pay {v} for {s}. | {s} is {v}. | For {s} we ask {v}. | The price of {s} is {v}. | {s} is sold for {v}. | {v} buys {s}. | We sell {s} for {v}. | -- | {s} goes for {v}. | {v} is asked for {s}.",
        "How much is {s}? | How much does {s} cost? | What is the price of {s}? | What does {s} cost? | How much do I pay for {s}? | What do I pay for {s}? | -- | For how much is {s} sold? | What is {s} worth?"),
    row("stuffat", "stuff", "spot",
        "{s} are {p} {v}. | {s} are kept {p} {v}. | {s} stand {p} {v}. | {s} hang {p} {v}. | You find {s} {p} {v}. | {s} go {p} {v}. | {s} lie {p} {v}. | {s} belong {p} {v}. | We keep {s} {p} {v}. | -- | Look {p} {v} for {s}. | {s} wait {p} {v}.",
        "Where are {s}? | Where are {s} kept? | Where do I find {s}? | Where do {s} go? | Where do {s} belong? | Where do we keep {s}? | -- | In which place are {s}? | Where can I get {s}?"),
    row("stuffloan", "stuff", "duration",
        "{s} can be borrowed for {v}. | You may keep {s} for {v}. | {s} are lent for {v}. | {s} are kept for {v}. | {s} may be kept for {v}. | We lend {s} for {v}. | {s} go back after {v}. | Members can borrow {s} for {v}. | -- | {s} may stay with you for {v}. | {s} have to come back within {v}.",
        "How long can I borrow {s}? | For how long can {s} be borrowed? | How long may I keep {s}? | How long are {s} kept? | For how long are {s} lent? | How long can {s} be kept? | -- | How long may {s} stay with me? | When do {s} have to come back?"),
    row("stuffowner", "stuff", "org",
        "{s} belong to {v}. | {v} owns {s}. | {s} are owned by {v}. | {s} are on loan from {v}. | {s} come from {v}. | We got {s} from {v}. | {v} gave us {s}. | {s} were bought from {v}. | -- | {s} are the property of {v}. | {v} lends us {s}.",
        "Who do {s} belong to? | Who owns {s}? | Who are {s} owned by? | To whom do {s} belong? | From whom are {s}? | Who did we get {s} from? | -- | Whose are {s}? | Who is the owner of {s}?"),
    row("deadline", "event", "date",
        "The deadline for {s} is {v}. | Sign up for {s} by {v}. | -- | The deadline for {s} is {v}. | Sign up for {s} by {v}. | Registration for {s} ends on {v}.",
        "What is the deadline for {s}? | When is the deadline for {s}? | -- | What is the deadline for {s}? | By when must I sign up for {s}? | When does registration for {s} end?"),
    row("guestcount", "event", "number",
        "{v} people came to {s}. | {s} had {v} visitors. | {v} guests attended {s}. | {s} has {v} places. | There are {v} places in {s}. | {s} is limited to {v} people. | We expect {v} people at {s}. | At most {v} people can join {s}. | -- | {s} drew {v} people. | {v} tickets for {s} are gone.",
        "How many people came to {s}? | How many visitors did {s} have? | How many places does {s} have? | How many people can join {s}? | How many people are expected at {s}? | How many places are there in {s}? | -- | How many people did {s} draw? | For how many people is {s}?"),
)

# Attribute nouns of the open relation by the kind of value that suits them.
ATTRIBUTES = {
    "person": """manager owner leader keeper guardian author builder inspector sponsor trainer winner chair captain host editor treasurer
        secretary patron caretaker successor neighbour deputy assistant contact inventor teacher landlord partner champion curator chief
        librarian director founder guest artist composer coach tenant heir rival agent doctor lawyer spokesperson supplier buyer seller""",
    "spot": """location storage place parking place hiding place meeting point office desk address site home room exit entrance corner spot
        station shelter end point starting point""",
    "place": "origin destination headquarters birthplace capital port twin town branch base next stop home town hometown",
    "org": "employer publisher sponsor supplier owner operator bank insurer maker school team club partner customer tenant contractor",
    "clock": "opening time closing time starting time departure time arrival time lunch break curfew alarm time delivery time visiting time feeding time",
    "date": "deadline due date start date end date birthday anniversary delivery date test date inspection opening day renewal launch expiry date",
    "weekday": "day off rest day cleaning day market day meeting day pick-up day collection day training day",
    "number": """age score size rank seat number room number width height depth length weight speed capacity count limit total population stock
        page count quota floor shelf number house number tally record level share ration strength""",
    "measure": "weight height length width depth speed range volume load power output temperature distance dose area radius thickness",
    "money": "price cost fee rent budget deposit salary fine value debt income ticket price entry fee donation prize balance toll wage charge bill",
    "code": "password code serial number door code access code label reference key licence plate model number call sign flight number pin part number",
    "phone": "phone number hotline extension fax number emergency number mobile number office number",
    "email": "email address email contact address mail address",
    "duration": "loan period warranty duration waiting time notice period term lifetime travel time cooking time delay trial period",
    "colour": "colour paint cover colour flag uniform shade trim ribbon",
    "material": "material frame surface roof cover lining floor coating shell wall",
    "food": "menu snack breakfast dessert lunch dish favourite dish drink speciality recipe",
    "role": "profession job title duty function position trade",
    "phrase": """symbol emblem motto theme topic title subject name nickname purpose mascot goal product reward gift exhibit content weakness
        advantage problem origin shape pattern style legend secret treasure tool hobby task project mission treatment cause effect
        method language signal sport instrument animal tree flower logo decoration souvenir main product first choice""",
}
_PAIRS = {
    "spot": ("storage place", "parking place", "hiding place", "meeting point", "end point", "starting point"),
    "place": ("twin town", "next stop", "home town"),
    "clock": ("opening time", "closing time", "starting time", "departure time", "arrival time", "lunch break", "alarm time", "delivery time",
              "visiting time", "feeding time"),
    "date": ("due date", "start date", "end date", "delivery date", "test date", "opening day", "expiry date"),
    "weekday": ("day off", "rest day", "cleaning day", "market day", "meeting day", "pick-up day", "collection day", "training day"),
    "number": ("seat number", "room number", "page count", "shelf number", "house number"),
    "money": ("ticket price", "entry fee"),
    "code": ("serial number", "door code", "access code", "licence plate", "model number", "call sign", "flight number", "part number"),
    "phone": ("phone number", "fax number", "emergency number", "mobile number", "office number"),
    "email": ("email address", "contact address", "mail address"),
    "duration": ("loan period", "waiting time", "notice period", "travel time", "cooking time", "trial period"),
    "colour": ("cover colour",),
    "food": ("favourite dish",),
    "phrase": ("main product", "first choice"),
}


def _nouns(kind: str) -> tuple[str, ...]:
    text = " " + " ".join(ATTRIBUTES[kind].split()) + " "
    pairs = []
    for pair in _PAIRS.get(kind, ()):
        if f" {pair} " in text:
            text = text.replace(f" {pair} ", " ", 1)
            pairs.append(pair)
    return tuple(sorted(set(text.split()) | set(pairs)))


ATTRIBUTES = {kind: _nouns(kind) for kind in ATTRIBUTES}

# How many of something there are in a place or at a company; {a} is the noun in the plural.
COUNT_STATEMENTS = ("{s} has {v} {a}.", "There are {v} {a} in {s}.", "{s} owns {v} {a}.", "{v} {a} belong to {s}.", "{s} counts {v} {a}.", "In {s} there are {v} {a}.",
                    "{s} keeps {v} {a}.", "{v} {a} can be found in {s}.", "At last count {s} had {v} {a}.", "With {v} {a}, {s} is well equipped.")
COUNT_QUESTIONS = ("How many {a} does {s} have?", "How many {a} are there in {s}?", "How many {a} are in {s}?", "What is the number of {a} in {s}?", "How many {a} belong to {s}?",
                   "How many {a} can be found in {s}?")
COUNTED = """bicycles books chairs tables rooms beds lamps boats windows doors desks lockers shelves trees benches members pupils rowers singers volunteers cats sheep hens
    goats cows computers printers keys tents tools ladders maps paintings rowing boats canoes seats toilets bees visitors steps floors cups plates""".replace("rowing boats ", "").split()

OPEN_STATEMENTS, OPEN_HELD_STATEMENTS = cut("""
The {a} of {s} is {v}. | {s} has the {a} {v}. | The {a} for {s}: {v}. | {v} is the {a} of {s}. | For {s}, the {a} is {v}. |
The {a} of {s} was set to {v}. | As the {a} of {s} we use {v}. | In the file of {s}, the {a} reads {v}. | According to the notes, the {a} of {s} is {v}. |
{s} - {a}: {v}. | We know that {v} is the {a} of {s}. | {s} chose {v} as its {a}. | {s}'s {a} is {v}. | The {a} of {s} has been {v} since spring. |
{v} has long been the {a} of {s}. | {s} now has {v} as its {a}. | {s} got {v} as its new {a}. | The new {a} of {s} is {v}. | The {a} of {s} will be {v}. |
It was agreed that the {a} of {s} is {v}. | {v} became the {a} of {s}. | {v} serves as the {a} of {s}. | The list gives {v} as the {a} of {s}. |
The {a} of {s} is still {v}. | The {a} of {s} is now {v}. | Remember that the {a} of {s} is {v}. | Please note: the {a} of {s} is {v}. |
For {s} we noted {v} as the {a}. | The {a} we agreed on for {s} is {v}. | {s}: {a} {v}. | {s}, whose {a} is {v}, needs no introduction. |
With {v} as its {a}, {s} is well known. | Everyone knows the {a} of {s}: {v}. | On the sign, the {a} of {s} is {v}. | The {a} at {s} is {v}. |
{v} was named as the {a} of {s}. | They say the {a} of {s} is {v}. | Since last week the {a} of {s} is {v}. | The board chose {v} as the {a} of {s}. |
The {a} that belongs to {s} is {v}. | {s} uses {v} as the {a}. | You will need the {a} of {s}, which is {v}. | Our notes on {s} say that the {a} is {v}. |
Regarding {s}, the {a} is {v}. | The {a} of {s}, {v}, is on the first page. | {v} is what we call the {a} of {s}. | {a} of {s}: {v}. |
--|
They gave {s} the {a} {v}. | The records list {v} as the {a} of {s}. | When asked about the {a}, {s} answered {v}. | We settled on {v} for the {a} of {s}. | {v} is down as the {a} for {s}.
""")
OPEN_QUESTIONS, OPEN_HELD_QUESTIONS = cut("""
What is the {a} of {s}? | Which {a} does {s} have? | What is {s}'s {a}? | Tell me the {a} of {s}. | Give the {a} of {s}. | The {a} of {s} is what? |
Do you know the {a} of {s}? | Name the {a} of {s}. | For {s}, what is the {a}? | What is the {a} for {s}? | What {a} does {s} have? | What's the {a} of {s}? |
Please tell me the {a} of {s}. | Can you tell me the {a} of {s}? | What is the {a} at {s}? | What do the notes say about the {a} of {s}? |
What was the {a} of {s}? | How about the {a} of {s}? | Say the {a} of {s}. | Which {a} is given for {s}? | What is known about the {a} of {s}? |
Look up the {a} of {s}. | {a} of {s}? | What is the current {a} of {s}? | I want to know the {a} of {s}. | What is listed as the {a} of {s}? | Could you give me the {a} of {s}? |
What is the name of the {a} of {s}? | And the {a} of {s}? |
--|
I need the {a} of {s}. | What {a} was given for {s}? | Can you find the {a} of {s}? | As for {s}, which {a} is it? | What would the {a} of {s} be?
""")
# What a page says of its own topic without naming it again, by relation key.
SILENT = {key: tuple(part.strip() for part in forms.split("|")) for key, forms in {
    "ticket": "Tickets cost {v}. | A ticket is {v}. | Entry costs {v}.", "capacity": "There are {v} seats. | There is room for {v} people.",
    "guestcount": "There are {v} places. | {v} people came.", "opens": "Doors open at {v}. | Opening time is {v}.", "closes": "Closing time is {v}. | Doors close at {v}.",
    "host": "The host is {v}. | {v} organises it. | {v} leads it. | The teacher is {v}.", "leader": "The director is {v}. | The head is {v}. | {v} leads it.",
    "founder": "The founder is {v}. | {v} founded it.", "phone": "The phone number is {v}. | Call {v}.", "email": "The email address is {v}. | Mail goes to {v}.",
    "doorcode": "The code is {v}. | The door code is {v}.", "key": "The key is with {v}. | {v} has the key.", "rent": "The rent is {v}. | A day costs {v}.",
    "due": "The date is {v}. | Mark {v} in your calendar.", "starts": "We start at {v}. | The start is at {v}.", "mayor": "The mayor is {v}.",
    "population": "About {v} people live there. | There are {v} inhabitants.", "cost": "The price is {v}.", "serial": "The serial number is {v}.",
    "keeper": "{v} is responsible for it. | Ask {v} for help. | {v} looks after it.", "leaves": "The bus leaves at {v}. | The train goes at {v}.", "reaches": "The trip takes {v}.",
    "loan": "The loan period is {v}.", "lasts": "The length is {v}.", "works": "The employer is {v}.", "job": "The job: {v}.", "colour": "The colour is {v}.",
    "material": "The material is {v}.", "donor": "It is a gift from {v}.", "founded": "The founding year is {v}.", "meets": "The meeting day is {v}."}.items()}
SILENT_OPEN = ("The {a} is {v}.", "The {a} is {v}.", "{v} is the {a}.", "The {a}: {v}.", "Its {a} is {v}.", "{a}: {v}.", "The {a} will be {v}.", "The {a} is now {v}.",
               "There the {a} is {v}.", "As {a} we have {v}.")
# Question words that suit the kind of value, beside the forms above.
TYPED_QUESTIONS = {
    "person": ("Who is the {a} of {s}?", "Who is {s}'s {a}?", "Who was the {a} of {s}?", "Who serves as the {a} of {s}?"),
    "spot": ("Where is the {a} of {s}?", "Where is {s}'s {a}?"),
    "place": ("Where is the {a} of {s}?", "Which town is the {a} of {s}?"),
    "clock": ("When is the {a} of {s}?", "At what time is the {a} of {s}?"),
    "date": ("When is the {a} of {s}?", "On which date is the {a} of {s}?"),
    "weekday": ("When is the {a} of {s}?", "On which day is the {a} of {s}?"),
    "number": ("How much is the {a} of {s}?", "How high is the {a} of {s}?"),
    "measure": ("How much is the {a} of {s}?", "How large is the {a} of {s}?"),
    "money": ("How much is the {a} of {s}?", "How high is the {a} of {s}?"),
    "duration": ("How long is the {a} of {s}?",),
}
# Attributes that mean the same as a named relation must not contradict it in one context.
SAME_MEANING = {"opening time": "opens", "closing time": "closes", "starting time": "starts", "price": "cost", "cost": "cost", "colour": "colour", "paint": "colour",
                "material": "material", "manager": "boss", "director": "leader", "leader": "leader", "head": "leader", "chief": "leader", "founder": "founder",
                "birthplace": "born", "home town": "lives", "hometown": "lives", "employer": "works", "phone number": "phone", "email address": "email", "email": "email",
                "door code": "doorcode", "code": "doorcode", "access code": "doorcode", "serial number": "serial", "label": "serial", "capacity": "capacity",
                "population": "population", "loan period": "loan", "location": "kept", "storage place": "kept", "job title": "job", "profession": "job", "job": "job",
                "hobby": "hobby", "favourite dish": "food", "headquarters": "based", "rent": "rent", "fee": "rent", "entry fee": "rent", "size": "size",
                "caretaker": "keeper", "keeper": "keeper", "host": "host", "meeting day": "meets", "meeting point": "meetsat", "birthday": "birthyear",
                "duration": "lasts", "ticket price": "ticket", "name": "name", "title": "name", "nickname": "name", "main product": "makes", "product": "makes"}

# Verbs for sentences with several askable parts: base, third person, past, participle, what they take as an object.
VERBS = tuple(tuple(line.split("|")) for line in """repair|repairs|repaired|repaired|thing
clean|cleans|cleaned|cleaned|thing
paint|paints|painted|painted|thing
borrow|borrows|borrowed|borrowed|thing
return|returns|returned|returned|thing
test|tests|tested|tested|thing
carry|carries|carried|carried|thing
inspect|inspects|inspected|inspected|thing
check|checks|checked|checked|thing
move|moves|moved|moved|thing
order|orders|ordered|ordered|goods
sell|sells|sold|sold|goods
buy|buys|bought|bought|goods
collect|collects|collected|collected|goods
deliver|delivers|delivered|delivered|goods
pack|packs|packed|packed|goods
bring|brings|brought|brought|food
cook|cooks|cooked|cooked|food
serve|serves|served|served|food
prepare|prepares|prepared|prepared|food
teach|teaches|taught|taught|event
lead|leads|led|led|event
plan|plans|planned|planned|event
open|opens|opened|opened|venue
visit|visits|visited|visited|venue
lock|locks|locked|locked|venue
clean|cleans|cleaned|cleaned|venue
manage|manages|managed|managed|venue
rent|rents|rented|rented|venue
meet|meets|met|met|person
call|calls|called|called|person
help|helps|helped|helped|person
train|trains|trained|trained|person
photograph|photographs|photographed|photographed|thing
build|builds|built|built|thing
find|finds|found|found|thing
hide|hides|hid|hidden|thing
store|stores|stored|stored|goods
grow|grows|grew|grown|food
bake|bakes|baked|baked|food
water|waters|watered|watered|place_noun
replace|replaces|replaced|replaced|thing
measure|measures|measured|measured|thing
charge|charges|charged|charged|thing
weigh|weighs|weighed|weighed|goods
draw|draws|drew|drawn|thing
print|prints|printed|printed|phrase
write|writes|wrote|written|phrase
design|designs|designed|designed|thing
guard|guards|guarded|guarded|venue""".split("\n") if "place_noun" not in line)
HELD_VERBS = frozenset(("inspect", "deliver", "bake", "guard", "draw"))


# ---------------------------------------------------------------------------------------------- forms without end, for practice only
# Phrasings put together at random, so that reading a sentence does not become knowing a list of sentences. The tests never use them.

_WHO = "We|They|The board|The staff|Everybody|The members|The neighbours|Somebody|The committee|The team|Most people|The guests|Our guide|The council|The owners|Nobody else".split("|")
_AS = "chose|named|picked|entered|registered|noted|wrote down|proposed|accepted|confirmed|kept|took|marked|approved|reported|published|remembered|mentioned|suggested".split("|")
_FOR = "decided on|voted for|went for|agreed on|asked for|wanted|preferred|signed|found".split("|")
_IS = """remains|turned out to be|was fixed at|was changed to|is given as|stands at|is believed to be|is said to be|was announced as|happens to be|ended up being|must be|
should be|is called|can only be|is recorded as|is quoted as|was noted as|became""".replace("\n", "").split("|")
_WITH = "came with|goes by|was given|received|took|works with|has kept|is listed with|appears with|started with|ended up with|is proud of|relies on".split("|")
_LEAD = """In our opinion,|As you know,|By the way,|In short,|As before,|For years,|Officially,|According to the staff,|Oddly enough,|In the end,|It seems that|It is true that|Somebody said that|
I read that|You can see that|Do not forget that|It is written that|Since May,|Until further notice,|On paper,|For the moment,""".replace("\n", "").split("|")
_OTHER = ("{s}? The {a} is {v}.", "{v}: that is the {a} of {s}.", "Looking for the {a} of {s}? It is {v}.", "{s} ({a} {v}) is on the list.", "{v} ({a} of {s}).", "The {a} of {s} - {v}.",
          "Ask {s} about the {a}: {v}.", "{v} can be seen as the {a} of {s}.", "{s} and its {a}, {v}, are well known.", "The {a} {v} belongs to {s}.", "{v} belongs to {s} as its {a}.")
_REQUESTS = "I am looking for|Please look for|Show me|I forgot|Does anyone know|May I ask|I would like to have|Remind me of|Let me know|We are missing|Explain|Write down|Repeat|Help me with|I wonder about".split("|")
_ASKED = ("What {a} does {s} use?", "What {a} was chosen for {s}?", "Which {a} belongs to {s}?", "What {a} goes with {s}?", "Which {a} is listed for {s}?", "What {a} did {s} get?", "{s}: which {a}?",
          "What did they choose as the {a} of {s}?", "What is meant by the {a} of {s}?", "What should the {a} of {s} be?", "What has {s} got as {a}?", "About {s}: what is the {a}?")


def composed(r: random.Random) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A few statements and questions of the open relation that no list holds."""

    def statement() -> str:
        x = r.randrange(6)
        return (f"{r.choice(_WHO)} {r.choice(_AS)} {{v}} as the {{a}} of {{s}}.", f"{r.choice(_WHO)} {r.choice(_FOR)} {{v}} for the {{a}} of {{s}}.", f"The {{a}} of {{s}} {r.choice(_IS)} {{v}}.",
                f"{{s}} {r.choice(_WITH)} {{v}} as {r.choice(('its', 'the', 'a'))} {{a}}.", f"{r.choice(_LEAD)} the {{a}} of {{s}} is {{v}}.", r.choice(_OTHER))[x]

    asked = tuple(f"{r.choice(_REQUESTS)} the {{a}} of {{s}}." if r.random() < 0.5 else r.choice(_ASKED) for _ in range(3))
    return tuple(statement() for _ in range(4)), asked


_ACTS = """admire adopt advise announce answer approach arrange assist attack attract award block border capture celebrate challenge chase confirm connect contact copy cover cross damage
    defend describe direct discover discuss display divide doubt employ enclose encourage enter escort examine explore face favour film finance follow gather greet handle ignore improve include
    influence interview invite judge join kick label launch lift link love mention mirror miss name notice observe obtain occupy offer pass phone picture pick praise present press promote propose
    protect pull push question rate reach reject remember report represent request rescue respect restore reward scan select separate share shelter sign smell sponsor start study suggest supply
    support surround surprise thank threaten touch track trust turn unite unlock use value view wake want warn watch welcome wrap""".split()
_TO = """lean against|rest on|look over|turn to|look to|depend on|border on|wait for|listen to|point at|belong to|apply to|agree with|argue with|travel with|compete with|talk about|
    dream of|complain about|work near|stay with|walk behind|rush past|end at|start from|pass through|open onto|connect to|react to|vote for|search for""".replace("\n", "").split("|")
_CLASSES = dict(
    person="person colleague partner neighbour artist writer friend cousin uncle aunt lawyer student guide singer judge tailor captain author helper rival",
    place="town lake valley island village mountain bay hill port suburb canal coast district farm", org="company club group firm team office agency union network brand",
    thing="machine tool device object engine model exhibit instrument", venue="building room hall site shop house", event="event meeting show session match",
    goods="product ware article", food="dish meal drink", phrase="subject idea topic matter sign", hobby="activity pastime", number="number figure", money="sum amount", code="code key")


def _inflect(verb: str) -> tuple[str, str]:
    """The third person and the past of a regular verb."""
    if verb.endswith("y") and verb[-2] not in "aeou":
        return verb[:-1] + "ies", verb[:-1] + "ied"
    return verb + ("es" if verb.endswith(("s", "x", "ch", "sh", "o")) else "s"), verb + ("d" if verb.endswith("e") else "ed")


def invented(r: random.Random, subject: str, value: str | None, opaque: str) -> Relation:
    """A relation made up on the spot: some verb, known or not, between two things, and the class of thing that its value is."""
    value = value if value in _CLASSES else r.choice(tuple(_CLASSES)[:6] + tuple(_CLASSES))
    cls, who = r.choice(_CLASSES[value].split()), "Who" if value == "person" else "What"
    x = r.random()
    verb, to = r.choice(_TO).strip().split(" ") if x > 0.6 else (opaque if r.random() < 0.3 else r.choice(_ACTS), "")
    third, past = _inflect(verb)
    if x < 0.25 and value in ("person", "org", "place", "thing", "venue", "event"):  # the value acts
        statements = (f"{{v}} {third} {{s}}.", f"{{v}} {past} {{s}}.", f"{{s}} is {past} by {{v}}.", f"The {cls} {{v}} {third} {{s}}.", f"It was {{v}} that {past} {{s}}.", f"{{s}} has been {past} by {{v}}.",
                      f"{{v}} will {verb} {{s}} again.", f"{{s}} was {past} by the {cls} {{v}}.", f"The {cls} that {third} {{s}} is {{v}}.")
        questions = (f"{who} {third} {{s}}?", f"Which {cls} {third} {{s}}?", f"Which {cls} {past} {{s}}?", f"By which {cls} is {{s}} {past}?", f"{{s}} is {past} by which {cls}?", f"What is the {cls} that {third} {{s}}?",
                     f"{who} {past} {{s}}?")
        hops = (f"the {cls} that {third} {{s}}", f"the {cls} that {past} {{s}}")
    else:
        to = f" {to}" if to else ""
        statements = (f"{{s}} {third}{to} {{v}}.", f"{{s}} {past}{to} {{v}}.", f"It is {{v}} that {{s}} {third}{to}.", f"{{s}} {third}{to} the {cls} {{v}}.", f"{{s}} will {verb}{to} {{v}}.",
                      f"The {cls} that {{s}} {third}{to} is {{v}}.", f"The {cls} {{s}} {past}{to} was {{v}}.", f"As {cls}, {{s}} {third}{to} {{v}}.", f"The {cls} {{v}} is what {{s}} {third}{to}.")
        if not to:
            statements += (f"{{v}} is {past} by {{s}}.", f"{{v}} was {past} by {{s}}.", f"The {cls} {{v}} is {past} by {{s}}.")
        questions = (f"{who} does {{s}} {verb}{to}?", f"Which {cls} does {{s}} {verb}{to}?", f"Which {cls} did {{s}} {verb}{to}?", f"What is the {cls} that {{s}} {third}{to}?", f"Name the {cls} {{s}} {third}{to}.",
                     f"{{s}} {third}{to} which {cls}?", f"{who} did {{s}} {verb}{to}?")
        hops = (f"the {cls} {{s}} {third}{to}", f"the {cls} that {{s}} {third}{to}")
    return Relation(f"free {verb}{to} {cls}", subject, value, statements, questions, (), (), hops if value in ("person", "org", "place", "thing", "venue", "event") else ())
