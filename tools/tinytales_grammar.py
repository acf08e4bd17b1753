"""The grammar of TinyTales: short stories that state facts, change them, and ask about them at the end.

A `World` keeps the score while a story is told: who has what, where things are, how many are left and how everybody
feels. Each event writes its sentence and updates the world, so the answer to a question is always the latest state.

    python tools/tinytales_grammar.py 7        # print the tale of seed 7

Only NumPy is needed. tools/train_tinytales.py trains the course's language model on these stories.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

GIRLS = ("Ann", "Sue", "Mia", "Lily", "Rosa", "Eva", "Nora", "Ella", "Jane", "Kate", "Ruth", "Zoe")
BOYS = ("Tom", "Ben", "Sam", "Max", "Leo", "Jack", "Tim", "Paul", "Adam", "Finn", "Hugo", "Oscar")
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "pink", "brown", "purple", "grey")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
# left + part = more, three different numbers
SUMS = tuple(
    (NUMBERS[i - 2], NUMBERS[j - 2], NUMBERS[i + j - 2]) for i in range(2, 8) for j in range(2, 10 - i) if i != j
)
THINGS = (
    *("ball", "kite", "hat", "drum", "boat", "bell", "scarf", "doll", "ring", "flute", "robot", "mask"),
    *("cup", "book", "pen", "key", "lamp", "whistle", "mug", "spoon", "ribbon", "brush", "glove", "coin"),
)
FOODS = (
    *("apples", "pears", "plums", "figs", "cherries", "berries"),
    *("nuts", "cakes", "eggs", "buns", "cookies", "carrots"),
)
ANIMALS = ("dog", "cat", "rabbit", "fox", "duck", "goat", "pony", "hen", "lamb", "puppy")
WEATHER = ("warm", "sunny", "bright", "fine", "windy", "cold", "quiet")
# Places and hiding spots: the noun is the answer to "where", the phrase is what the story says.
PLACES = {
    "park": "at the park",
    "garden": "in the garden",
    "beach": "on the beach",
    "forest": "in the forest",
    "lake": "at the lake",
    "market": "at the market",
    "farm": "on the farm",
    "school": "at the school",
    "hill": "on the hill",
    "river": "by the river",
    "meadow": "in the meadow",
    "village": "in the village",
}
INDOORS = {
    "kitchen": "in the kitchen",
    "barn": "in the barn",
    "attic": "in the attic",
    "hall": "in the hall",
    "cellar": "in the cellar",
    "library": "in the library",
}
SPOTS = {
    "bed": "under the bed",
    "box": "in the box",
    "door": "behind the door",
    "shelf": "on the shelf",
    "table": "under the table",
    "drawer": "in the drawer",
    "sofa": "behind the sofa",
    "basket": "in the basket",
}
SPOTS_OUTSIDE = {
    "tree": "under the tree",
    "bush": "behind the bush",
    "bench": "under the bench",
    "wall": "behind the wall",
    "bridge": "under the bridge",
    "rock": "behind the rock",
    "bucket": "in the bucket",
    "fence": "behind the fence",
}
PHRASES = {"home": "at home"} | PLACES | INDOORS | SPOTS | SPOTS_OUTSIDE
KINDS = ("who", "colour", "where", "number", "feeling")


@dataclass(frozen=True)
class Question:
    """A question about a story; the answer is one word that the story contains."""

    kind: str
    question: str
    answer: str

    @property
    def text(self) -> str:
        return f"Question: {self.question} Answer: {self.answer}."


@dataclass(frozen=True)
class Tale:
    """A story and the questions about it."""

    story: str
    questions: tuple[Question, ...]

    @property
    def text(self) -> str:
        """The story and its questions, one to a line, exactly as the model reads them."""
        return "\n".join([self.story, *(question.text for question in self.questions)])


@dataclass(frozen=True)
class Person:
    """Somebody in a story. The fields are named after the words that they hold."""

    name: str
    he: str
    his: str
    child: str

    def __str__(self) -> str:
        return self.name


class World:
    """What is true now. A later event overwrites what an earlier one said."""

    def __init__(self) -> None:
        self.holder: dict[str, Person] = {}
        self.place: dict[str, str] = {}
        self.colour: dict[str, str] = {}
        self.number: dict[tuple[Person, str], str] = {}
        self.mood: dict[Person, str] = {}

    def give(self, thing: str, person: Person) -> None:
        """A thing that somebody holds lies nowhere."""
        self.holder[thing] = person
        self.place.pop(thing, None)

    def put(self, thing: str, place: str) -> None:
        """A thing that lies somewhere is held by nobody."""
        self.place[thing] = place
        self.holder.pop(thing, None)

    def go(self, place: str, *people: Person) -> None:
        """People are somewhere else; what they hold goes with them."""
        for person in people:
            self.place[str(person)] = place

    def feel(self, person: Person, mood: str) -> None:
        """The latest feeling stands last."""
        self.mood.pop(person, None)
        self.mood[person] = mood

    def questions(self) -> list[Question]:
        """Every question that can be asked about the present state; of feelings, only the one told last."""
        return [
            *(Question("who", f"who has the {thing}?", str(person)) for thing, person in self.holder.items()),
            *(Question("colour", f"what colour is the {thing}?", colour) for thing, colour in self.colour.items()),
            *(Question("where", f"where is {_the(thing)}?", place) for thing, place in self.place.items()),
            *(
                Question("number", f"how many {food} does {person} have?", number)
                for (person, food), number in self.number.items()
            ),
            # Of the one whose feeling was told last: to keep two people's feelings apart takes far longer to learn.
            *(Question("feeling", f"how does {person} feel?", mood) for person, mood in list(self.mood.items())[-1:]),
        ]


class Teller:
    """Tells one story: draws the people and things, then writes an opening, a plot and an ending."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.world = World()
        self.sentences: list[str] = []
        # The hero and the friend are a girl and a boy, so that "he" and "she" always tell them apart.
        hero, friend = self.some((GIRLS, BOYS), 2)
        self.a, self.b = self._person(self.some(hero)), self._person(self.some(friend))
        self.c = self._person(self.some(name for name in GIRLS + BOYS if name not in (self.a.name, self.b.name)))
        self.thing, self.colour = self.some(THINGS), self.some(COLOURS)
        self.place, self.far = self.some(PLACES, 2)
        self.spot, self.spot2 = self.some(SPOTS, 2)
        self.outside = self.some(SPOTS_OUTSIDE)
        self.room = self.some(INDOORS)
        self.food = self.some(FOODS)
        self.animal = self.some(ANIMALS)

    def some(self, words, count: int | None = None):
        """Draw one word, or `count` different ones."""
        words = list(words)
        if count is None:
            return words[self.rng.integers(len(words))]
        return [words[i] for i in self.rng.permutation(len(words))[:count]]

    def maybe(self, chance: float = 0.5) -> bool:
        return self.rng.random() < chance

    def say(self, *choices: str) -> None:
        """Add one of the choices to the story: a sentence, or a few, each beginning with a capital."""
        sentences = self.some(choices).split(". ")
        self.sentences.append(". ".join(sentence[0].upper() + sentence[1:] for sentence in sentences))

    def _person(self, name: str) -> Person:
        if name in GIRLS:
            return Person(name, "she", "her", "girl")
        return Person(name, "he", "his", "boy")

    # Facts and feelings -------------------------------------------------------------------------------------------

    def introduce(self) -> None:
        """The hero and the hero's thing."""
        a, thing, colour = self.a, self.thing, self.colour
        parent = self.some(["mother", "father", "aunt", "uncle"])
        self.say(
            f"{a} has a {colour} {thing}.",
            f"{a} had a {colour} {thing}.",
            f"once there was a {a.child} named {a}. {a.he} had a {colour} {thing}.",
            f"{a} got a {thing} from {a.his} {parent}. the {thing} was {colour}.",
            f"one day, {a} found a {thing}. the {thing} was {colour}.",
            f"{a} loved {a.his} {thing}. the {thing} was {colour}.",
        )
        self.world.give(thing, a)
        self.world.colour[thing] = colour

    def meet(self) -> None:
        """The hero's friend."""
        a, b = self.a, self.b
        self.say(
            f"{a.his} friend {b} lived next door.",
            f"{b} was {a.his} best friend.",
            f"{a} and {b} played together every day.",
            f"{b} always had time for {a}.",
        )
        self.say(
            f"{b} was {self.some(['tall', 'funny', 'shy', 'strong'])}.",
            f"{b} liked the {self.thing}, too.",
            f"{b} had no {self.thing}.",
        )

    def carry(self, person: Person, food: str, number: str) -> None:
        """Somebody has something to eat."""
        self.say(
            f"{person} had {number} {food}.",
            f"{person} had {number} {food} in a bag.",
            f"{person} brought {number} {food}.",
            f"{person} picked {number} {food}.",
        )
        self.world.number[person, food] = number

    def name(self, person: Person) -> str:
        """The name or, where the last sentence is about nobody else, now and then the pronoun."""
        named = {str(p) for p in (self.a, self.b, self.c) if self.sentences and str(p) in self.sentences[-1]}
        return person.he if named == {str(person)} and self.maybe(0.4) else str(person)

    def the(self, thing: str) -> str:
        """The thing, now and then with its colour."""
        return f"the {self.world.colour[thing]} {thing}" if self.maybe(0.4) else f"the {thing}"

    def feel(self, person: Person, mood: str, reason: str = "") -> None:
        """Feelings are stated, and now and then spoken about."""
        name, because = self.name(person), f" {reason}" if reason else ""
        self.say(f"{name} was {mood}{because}.", f"{name} felt {mood}{because}.")
        if self.maybe(0.3):
            self.say(f'"I am {mood}," said {person}.', f'"I feel so {mood}," said {person}.')
        self.world.feel(person, mood)

    def go(self, place: str, *people: Person) -> None:
        """People walk to a place."""
        where, together = PHRASES[place], len(people) > 1
        to = place if place == "home" else f"to the {place}"
        names = " and ".join(map(str, people)) if together else self.name(people[0])
        self.say(
            f"{names} went {to}.",
            f"{names} walked {to}.",
            f"{names} ran {to}.",
            f"soon {names} {'were' if together else 'was'} {where}.",
        )
        self.world.go(place, *people)
        if place != "home" and self.maybe():
            self.say(
                f"the {place} was {self.some(['quiet', 'empty', 'big', 'lovely'])}.",
                f"it was {self.some(['quiet', 'warm', 'cold', 'dark'])} there.",
                "it was not far.",
                "nobody else was there.",
            )

    def give(self, thing: str, giver: Person, taker: Person) -> None:
        it = self.the(thing)
        self.say(
            f"{giver} gave {it} to {taker}.",
            f"so {giver} gave {it} to {taker}.",
            f"{giver} handed {it} to {taker}.",
            f"{taker} got {it} from {giver}.",
        )
        self.world.give(thing, taker)
        if self.maybe(0.6):
            self.say(f"now the {thing} belonged to {taker}.", f"now the {thing} was in the hands of {taker}.")

    def put(self, thing: str, place: str, person: Person) -> None:
        name, it, where = self.name(person), self.the(thing), PHRASES[place]
        self.say(
            f"{name} put {it} {where}.",
            f"{name} left {it} {where}.",
            f"{name} hid {it} {where}.",
        )
        self.world.put(thing, place)

    # Plots: a beginning, a turn and an end ------------------------------------------------------------------------

    def lost_and_found(self) -> None:
        """The thing is gone, they search, and somebody finds it."""
        a, b, thing, spot = self.a, self.b, self.thing, self.outside
        self.go(self.place, a, b)
        self.say(f"there {a} lost the {thing}.", f"the {thing} fell from {a.his} bag.", f"then the {thing} was gone.")
        self.feel(
            a,
            self.some(["sad", "worried", "upset"]),
            self.some(["", f"about the {thing}", f"because the {thing} was gone"]),
        )
        self.say(
            f'{b} said, "I will help you."',
            f"they looked for the {thing} all day.",
            "they looked here and there.",
            f'"Do not cry," said {b}.',
        )
        if self.maybe(0.15):
            self.say(f"but they did not find the {thing}.", "but it was too late, and night fell.")
            del self.world.holder[thing]
            self.go("home", a)
            self.feel(a, self.some(["sad", "tired", "lonely"]))
            return
        finder = self.some([a, b])
        self.say(
            f"at last {finder} found {self.the(thing)} {PHRASES[spot]}.",
            f"then {finder} saw {self.the(thing)} {PHRASES[spot]}.",
        )
        self.world.put(thing, spot)
        if finder is a:
            self.say(f"{a} picked up the {thing}.", f"{a} took the {thing} and smiled.")
            self.world.give(thing, a)
        elif self.maybe(0.6):
            self.say(f"{b} picked up the {thing} and gave the {thing} to {a}.", f"{b} took the {thing} back to {a}.")
            self.world.give(thing, a)
        else:
            self.say(f'"You can keep it," said {a}. {b} took the {thing}.', f"{a} let {b} keep the {thing}.")
            self.world.give(thing, b)
            self.feel(b, self.some(["proud", "happy", "surprised"]))
        self.feel(a, self.some(["happy", "glad", "calm"]), self.some(["", "again"]))

    def gift(self) -> None:
        """A birthday present, which may be passed on."""
        a, b, c, thing = self.a, self.b, self.c, self.thing
        self.say(f"it was the birthday of {b}.", f"{b} had a birthday.", f"nobody came to see {b}.")
        self.feel(b, self.some(["lonely", "sad", "bored"]), self.some(["", "all morning", "because nobody came"]))
        self.say(f"{a} wanted to help.", f"{a} had an idea.", f'"I know what to do," said {a}.')
        self.go(self.room, a, b)
        self.say(f'"This is for you," said {a}.', f'"Close your eyes," said {a}.', f'"Do you like it?" said {a}.')
        self.give(thing, a, b)
        self.feel(b, self.some(["happy", "excited", "surprised"]))
        self.feel(a, self.some(["proud", "glad"]), self.some(["", "of the gift"]))
        if self.maybe(0.4):
            self.say(f"the next day {c} came by.", f"then {c} wanted to play too.")
            self.give(thing, b, c)
            self.feel(c, self.some(["glad", "happy", "excited"]))

    def trip(self) -> None:
        """Out into the world and back, with a surprise on the way."""
        a, b, animal = self.a, self.b, self.animal
        self.say(
            f"{a} and {b} wanted to see the {self.place}.",
            f'"Let us go out," said {a}.',
            f"{a} asked {b} to come for a walk.",
        )
        self.go(self.place, a, b)
        self.say(f"there they saw a {animal}.", f"a {animal} came up to them.", f"then they heard a {animal}.")
        if self.maybe():
            self.feel(b, "scared", f"of the {animal}")
            self.say(f"but the {animal} was kind.", f"but the {animal} only wanted to play.")
        self.say(f"{b} played with the {animal}.", f"the {animal} sat down beside {b}.", f"{b} fed the {animal}.")
        self.feel(b, self.some(["excited", "surprised", "happy"]))
        if self.maybe():
            self.say(f"{a} wanted to rest.", f"{a} was out of breath.")
            self.put(self.thing, self.outside, a)
        self.say("the sun went down.", "soon it was late.", f'"I must go," said {a}.', "they talked for a long time.")
        if self.maybe():
            self.go(self.some(["home", self.far]), a, b)
        else:
            self.say(f"{b} wanted to stay.", f'"Goodbye," said {b}.')
            self.go(self.some(["home", self.far]), a)
        self.feel(a, self.some(["tired", "hungry", "sleepy"]), self.some(["", "after the long walk"]))

    def sharing(self) -> None:
        """One has much to eat, the other nothing."""
        a, b, food = self.a, self.b, self.food
        left, part, more = self.some(SUMS)
        self.carry(a, food, more)
        self.say(f"{b} had nothing to eat.", f"{b} had no {food}.", f"{b} had no food at all.")
        self.feel(b, self.some(["hungry", "sad"]))
        self.say(f'"Have some of my {food}," said {a}.', f"{a} was a good friend.", f'"Let us share," said {a}.')
        self.say(
            f"{a} gave {part} {food} to {b} and kept {left} {food}.",
            f"now {b} had {part} {food} and {a} had {left} {food}.",
            f"{b} took {part} {food}, and {a} still had {left} {food}.",
        )
        self.world.number[a, food], self.world.number[b, food] = left, part
        self.go(self.place, a, b)
        self.say("they sat down and talked.", "they talked and sang.", "they sat in the sun.")
        self.feel(b, self.some(["happy", "glad", "excited"]))
        self.feel(a, self.some(["proud", "glad", "happy"]))

    def hiding(self) -> None:
        """A game of hide and seek, or a joke that goes on too long."""
        a, b, thing = self.a, self.b, self.thing
        self.say(f"{a} and {b} played a game.", f"{a} wanted to trick {b}.", f"{b} asked {a} for a game.")
        self.go(self.room, a, b)
        self.put(thing, self.spot, a)
        self.say(f"{b} looked for the {thing} here and there.", f'"Where is the {thing}?" said {b}.')
        if self.maybe():
            self.feel(b, self.some(["angry", "bored", "upset"]))
        if self.maybe(0.6):
            self.say(f"but {a} was quick.", f"when {b} looked away, {a} ran.", f"{a} had a new idea.")
            self.say(
                f"{a} moved the {thing} and hid the {thing} {PHRASES[self.spot2]}.",
                f"{a} put the {thing} {PHRASES[self.spot2]}.",
            )
            self.world.put(thing, self.spot2)
        if self.maybe(0.4):
            self.say(f"at last {b} found the {thing}. {b} kept the {thing}.", f"then {b} found and took the {thing}.")
            self.world.give(thing, b)
            self.feel(b, self.some(["proud", "happy"]))
            self.feel(a, self.some(["surprised", "glad"]))
        else:
            self.say(f"{b} did not find it.", f"{b} gave up.")
            self.feel(b, self.some(["sad", "tired", "sleepy"]))
            self.feel(a, self.some(["proud", "sorry"]))

    def bad_weather(self) -> None:
        """Rain or wind spoils a plan, and a better one is found indoors."""
        a, b, thing, room = self.a, self.b, self.thing, self.room
        self.say(f"{a} and {b} wanted to play outside.", f"{a} wanted to go to the {self.place} with {b}.")
        self.say("but it began to rain.", "but a storm came.", "but the wind was cold.", "but it snowed all day.")
        self.feel(a, self.some(["sad", "angry", "upset"]), self.some(["", "about the weather"]))
        self.say(f"{b} had an idea.", f'"We can play inside," said {b}.', f'"Come with me," said {b}.')
        self.go(room, a, b)
        if self.maybe():
            self.put(thing, self.spot, a)
            self.say("they told stories.", "they sang and danced.", "they read an old book.")
        else:
            self.say("they played all day.", "they made up a game.")
            self.give(thing, a, b)
        self.feel(b, self.some(["happy", "proud", "excited"]))
        self.feel(a, self.some(["happy", "calm", "glad"]), self.some(["", "again"]))

    def trade(self) -> None:
        """A thing for something to eat."""
        a, b, thing, food, number = self.a, self.b, self.thing, self.food, self.some(NUMBERS)
        self.feel(a, self.some(["bored", "hungry"]))
        self.go(self.place, a, b)
        self.carry(b, food, number)
        self.say(f'"Let us swap," said {b}.', f"{b} liked the {thing}.", f"{b} wanted the {thing}.")
        self.give(thing, a, b)
        self.say(f"{a} got the {number} {food} from {b}.", f"now {a} had the {number} {food}.")
        del self.world.number[b, food]
        self.world.number[a, food] = number
        self.feel(a, self.some(["happy", "excited", "glad", "full"]))
        self.feel(b, self.some(["happy", "glad"]), f"with the {thing}")

    def broken(self) -> None:
        """A borrowed thing breaks, and is mended."""
        a, b, c, thing = self.a, self.b, self.c, self.thing
        self.say(f"{b} wanted to play with the {thing}.", f'"May I have the {thing}?" said {b}.')
        self.give(thing, a, b)
        self.say(f"but {b} fell and the {thing} broke.", f"but {b} broke the {thing}.")
        self.feel(a, self.some(["angry", "sad", "upset"]))
        self.feel(b, self.some(["sorry", "scared", "worried"]))
        fixer = self.some([b, c])
        self.say(f"{fixer} could fix it.", f"{fixer} knew what to do.", f'"I can fix it," said {fixer}.')
        if self.maybe():
            self.go(self.room, fixer)
        if fixer is c:
            self.give(thing, b, c)
        self.say("it took a long time.", f"{fixer} worked all day.")
        if self.maybe():
            self.say(f"now the {thing} was as good as new.", "it looked as good as new.")
            self.give(thing, fixer, a)
        self.feel(a, self.some(["happy", "glad", "calm"]), self.some(["", "again"]))

    def runaway(self) -> None:
        """An animal runs away."""
        a, b, animal = self.a, self.b, self.animal
        self.say(f"{a} had a {animal} too.", f"{a} had a little {animal}.")
        self.say(f"one night the {animal} ran away.", f"the {animal} ran off.", f"a noise scared the {animal}.")
        self.feel(a, self.some(["worried", "sad", "scared"]))
        self.say(f"{b} came to help.", f"{a} called {b} for help.")
        place, spot = self.some([(self.place, self.outside), (self.room, self.some(["bed", "door", "table", "sofa"]))])
        self.go(place, a, b)
        finder = self.some([a, b])
        self.say(
            f"{finder} found the {animal} {PHRASES[spot]}.",
            f"the {animal} was {PHRASES[spot]}.",
            f"there was the {animal}, {PHRASES[spot]}.",
        )
        self.world.put(animal, spot)
        if self.maybe():
            self.say(f"{finder} picked up the {animal}.", f"{finder} took the {animal} in {finder.his} arms.")
            del self.world.place[animal]
        else:
            self.say(f"the {animal} was asleep.", f"the {animal} did not want to come out.")
        if self.maybe():
            self.say(f'"Thank you for your help," said {a}.', f"{a} wanted to thank {b}.")
            self.give(self.thing, a, b)
        self.feel(b, self.some(["proud", "tired", "sleepy"]))
        self.feel(a, self.some(["happy", "glad", "calm"]), self.some(["", "again"]))

    def market(self) -> None:
        """Something bought gets lost on the way."""
        a, b, food = self.a, self.b, self.food
        few, many = (NUMBERS[i] for i in sorted(self.rng.permutation(len(NUMBERS))[:2]))
        self.say(f"{a} wanted to cook for {b}.", f"{a} wanted to make a meal for {b}.")
        self.go("market", a)
        self.say(f"{a} bought {many} {food}.", f"there {a} got {many} {food}.")
        self.say(f"on the way {a} fell.", "but the bag had a hole.", f"a {self.animal} ran into {a}.")
        self.say(f"now {a} had only {few} {food}.", f"{a} had {few} {food} left.")
        self.world.number[a, food] = few
        self.feel(a, self.some(["sad", "upset", "angry"]))
        self.go(self.room, a, b)
        self.say(f'{b} said, "That is enough."', f'"It does not matter," said {b}.')
        self.say("they cooked soup instead.", "they baked bread instead.", "there was bread and soup.")
        if self.maybe():
            self.give(self.thing, a, b)
        self.feel(b, self.some(["full", "happy", "surprised"]))
        self.feel(a, self.some(["glad", "calm", "happy"]), self.some(["", "again"]))

    def race(self) -> None:
        """The winner gets the thing."""
        a, b, c, thing = self.a, self.b, self.c, self.thing
        self.go(self.place, a, b)
        self.say(f'"Let us race," said {b}.', f"{a} and {b} ran a race.", "they had a race.")
        winner, loser = self.some([a, b], 2)
        self.say(f"{winner} was fast and won.", f"{winner} won the race.", f"{loser} fell, so {winner} won.")
        if winner is b:
            self.give(thing, a, b)
        else:
            self.say(f"so {a} kept {self.the(thing)}.", f"so {self.the(thing)} stayed with {a}.")
        self.feel(winner, self.some(["proud", "excited", "happy"]), self.some(["", "after the race"]))
        self.feel(loser, self.some(["sad", "angry", "tired"]))
        if self.maybe():
            self.say(f"then {c} came to see them.", f"{c} saw it all.")
            if self.maybe():
                self.give(thing, winner, c)
            self.feel(c, self.some(["glad", "surprised", "excited"]))

    def tell(self, questions: int | None = None) -> Tale:
        """A whole story, with three to five questions about how things stand at the end, or as many as you want."""
        self.introduce()
        self.say(
            f"it was a {self.some(WEATHER)} {self.some(['day', 'morning'])}.",
            f"it was {self.some(['old', 'new', 'small', 'pretty'])} and {self.some(['light', 'shiny', 'strong'])}.",
            f"{self.a} was a {self.some(['kind', 'clever', 'brave', 'quiet'])} {self.a.child}.",
            f"{self.a} liked the {self.thing} a lot.",
            f"the {self.thing} belonged to {self.a} alone.",
        )
        if self.maybe(0.8):
            self.meet()
        plot = self.some(PLOTS)
        if plot not in PLOTS_THAT_COUNT and self.maybe(0.6):
            self.carry(self.some([self.a, self.b]), self.food, self.some(NUMBERS))
        plot(self)
        speaker = self.some([self.a, self.b])
        self.say("it was getting dark.", "it was a day to remember.", f'"What a day!" said {speaker}.')
        self.say(
            f"from that day on {self.a} and {self.b} were good friends.",
            f"{self.a} told {self.a.his} mother all about it.",
            f"{self.a} never forgot that day.",
            f"{self.a} never forgot the {self.colour} {self.thing}.",
            f"{self.a} and {self.b} talked about it for a long time.",
            "the end.",
        )
        return Tale(" ".join(self.sentences), tuple(self.ask(questions)))

    def ask(self, count: int | None = None) -> list[Question]:
        """Questions of as many kinds as the story allows."""
        possible = self.world.questions()
        shuffled = [possible[i] for i in self.rng.permutation(len(possible))]
        if self.maybe():  # people's places outnumber those of things, which stories are about
            shuffled.sort(key=lambda question: question.kind == "where" and "where is the" not in question.question)
        first = {question.kind: question for question in reversed(shuffled)}  # one of each kind
        others = [question for question in shuffled if question not in first.values()]
        chosen = self.some(first.values(), len(first)) + others
        return chosen[: count or self.rng.integers(3, 6)]


PLOTS = (
    Teller.lost_and_found,
    Teller.gift,
    Teller.trip,
    Teller.sharing,
    Teller.hiding,
    Teller.bad_weather,
    Teller.trade,
    Teller.broken,
    Teller.runaway,
    Teller.market,
    Teller.race,
)
PLOTS_THAT_COUNT = (Teller.sharing, Teller.trade, Teller.market)


def write_tale(rng: np.random.Generator, questions: int | None = None) -> Tale:
    """The next story that `rng` leads to, with three to five questions, or up to as many as you want."""
    return Teller(rng).tell(questions)


def _the(name: str) -> str:
    """A thing takes an article, a person does not."""
    return name if name[0].isupper() else f"the {name}"


if __name__ == "__main__":
    print(write_tale(np.random.default_rng(int(sys.argv[1]) if len(sys.argv) > 1 else None)).text)
