"""The text that the tutorial trains on: a story without end, told by a small grammar of ours.

    Ada:
    Ben, who has the lamp?

    Ben:
    I have it, Ada. The lamp is bright.

Eight people meet at eight places, three at a time, and carry eight things. Each line has reasons at
several distances, for models that look back more or less far: letters make words, words make fixed
phrases, a thing is bright or heavy; whoever is asked answers next, and names who asked; a "good
evening" is answered by another; "she" and "him" fit the name before. And nobody lies: who has a
thing, and who is where, is what earlier lines have made it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from toolkit.errors import UsageError

PEOPLE = {  # and their pronouns
    "Ada": ("she", "her"),
    "Ben": ("he", "him"),
    "Clara": ("she", "her"),
    "Emil": ("he", "him"),
    "Flora": ("she", "her"),
    "Hugo": ("he", "him"),
    "Nora": ("she", "her"),
    "Otto": ("he", "him"),
}
PLACES = {  # and where one is who is there
    "bridge": "on the bridge",
    "garden": "in the garden",
    "kitchen": "in the kitchen",
    "market": "at the market",
    "mill": "at the mill",
    "river": "by the river",
    "square": "on the square",
    "tower": "in the tower",
}
THINGS = {  # what each is like, and why one wants it
    "bell": ("loud", "Nobody hears me."),
    "box": ("heavy", "I bring apples to the market."),
    "jar": ("empty", "I want water from the river."),
    "key": ("small", "The door is closed."),
    "lamp": ("bright", "It is dark in the tower."),
    "map": ("old", "I never find the mill."),
    "rope": ("long", "The boat must not swim away."),
    "violin": ("lovely", "We want to dance."),
}
WEATHER = {  # and an answer
    "It rains": "Then we need a roof",
    "It is freezing": "Then we need a fire",
    "The sun shines": "Then we go for a walk",
    "The wind blows": "Then we fly a kite",
}


def story(num_characters: int = 100_000, seed: int = 1) -> str:
    """The first characters of a story; another seed tells another one.

    The same arguments give the same text with every version of Python.

    Raises:
        UsageError: `num_characters` is negative.

    >>> story(49)
    'Ada:\\nGood morning, Otto. I come from the garden.\\n'
    """
    if num_characters < 0:
        raise UsageError(f"A story of {num_characters} characters: expected 0 or more.")
    world = _World(seed)
    lines: list[str] = []
    length = 0
    while length < num_characters:
        for speaker, sentences in world.scene():
            lines.append(f"{speaker}:\n{sentences}\n\n")
            length += len(lines[-1])
    return "".join(lines)[:num_characters]


_Line = tuple[str, str]  # who speaks, and what is said
_T = TypeVar("_T")


class _World:
    """Who is where, and who has what; its scenes change both."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._place_of = {person: self._choose(list(PLACES)) for person in PEOPLE}
        self._owner_of = {thing: self._choose(list(PEOPLE)) for thing in THINGS}
        self._company: list[str] = []
        self._weather = ""

    def scene(self) -> Iterator[_Line]:
        """Two people come to a third; they talk, and one of them goes."""
        time = self._choose(["morning", "evening"])
        host = self._choose(list(PEOPLE))
        self._weather = self._choose(list(WEATHER))
        self._company = [host]
        for _ in range(2):
            guest = self._choose(_without(PEOPLE, *self._company))
            yield from self._greeting(host, guest, time)
            self._company.append(guest)
        talks = [self._who_has, self._what_have_you, self._do_you_need, self._where_is, self._sky]
        for _ in range(2 + self._below(3)):
            talk = self._choose(talks)
            talks.remove(talk)
            asks = self._choose(self._company)
            yield from talk(asks, self._choose(_without(self._company, asks)))
        yield from self._farewell()

    def _greeting(self, host: str, guest: str, time: str) -> Iterator[_Line]:
        here, there = self._place_of[host], self._place_of[guest]
        origin = "I was here before you" if here == there else f"I come from the {there}"
        self._place_of[guest] = here
        yield guest, f"Good {time}, {host}. {origin}."
        if self._below(2):
            yield host, f"Good {time}, {guest}. How are you?"
            yield guest, f"I am {self._choose(['well', 'tired', 'hungry'])}, {host}."
        else:
            yield host, f"Good {time}, {guest}. It is quiet {PLACES[here]}."

    def _who_has(self, asks: str, asked: str) -> Iterator[_Line]:
        things = _without(THINGS, *self._things_of(asks))
        if self._below(2):  # or it would seldom be the one who is asked
            things = self._things_of(asked)
        if not things:
            return
        thing = self._choose(things)
        owner = self._owner_of[thing]
        yield asks, f"{asked}, who has the {thing}?"
        if owner == asked:
            yield asked, f"I have it, {asks}. The {thing} is {THINGS[thing][0]}."
            yield from self._please(asks, owner, thing)
        else:
            yield asked, f"{owner} has it, {asks}. {self._where(owner, asked)}."
            yield asks, f"Thank you, {asked}. I will ask {PEOPLE[owner][1]}."

    def _what_have_you(self, asks: str, asked: str) -> Iterator[_Line]:
        things = self._things_of(asked)
        yield asks, f"{asked}, what do you have?"
        yield asked, f"I have {_listed(things)}, {asks}."
        if things:
            yield from self._please(asks, asked, self._choose(things))

    def _please(self, asks: str, owner: str, thing: str) -> Iterator[_Line]:
        yield asks, f"{owner}, will you give me the {thing}? {THINGS[thing][1]}"
        if self._below(3):
            self._owner_of[thing] = asks
            yield owner, f"Yes, {asks}. Here is the {thing}."
            yield asks, f"Thank you, {owner}. Now I have the {thing}."
        else:
            yield owner, f"No, {asks}. I need the {thing} myself."
            yield asks, f"What a pity, {owner}."

    def _do_you_need(self, asks: str, asked: str) -> Iterator[_Line]:
        things = self._things_of(asks)
        if not things:
            return
        thing = self._choose(things)
        yield asks, f"I have the {thing}. Do you need it, {asked}?"
        if self._below(2):
            self._owner_of[thing] = asked
            yield asked, f"Yes, {asks}. {THINGS[thing][1]}"
            yield asks, f"Here is the {thing}, {asked}."
        else:
            yield asked, f"No, {asks}. Keep the {thing}."

    def _where_is(self, asks: str, asked: str) -> Iterator[_Line]:
        here = self._place_of[asked]
        elsewhere = [person for person in PEOPLE if self._place_of[person] != here]
        if not elsewhere:
            return
        person = self._choose(elsewhere)
        subject, object_ = PEOPLE[person]
        yield asks, f"{asked}, where is {person}?"
        has = f"{subject.capitalize()} has {_listed(self._things_of(person))}"
        yield asked, f"{self._where(person, asked)}, {asks}. {has}."
        yield asks, f"I will visit {object_} tomorrow."

    def _sky(self, asks: str, asked: str) -> Iterator[_Line]:
        yield asks, f"How is the weather, {asked}?"
        yield asked, f"{self._weather}, {asks}."
        yield asks, f"{WEATHER[self._weather]}, {asked}."

    def _farewell(self) -> Iterator[_Line]:
        leaves = self._choose(self._company)
        first, second = _without(self._company, leaves)
        place = self._choose(_without(PLACES, self._place_of[leaves]))
        self._place_of[leaves] = place
        yield leaves, f"Goodbye, {first} and {second}. I go to the {place}."
        yield first, f"Goodbye, {leaves}."
        yield second, f"Goodbye, {leaves}. Come back soon."

    def _where(self, person: str, speaker: str) -> str:
        place = self._place_of[person]
        where = "here" if place == self._place_of[speaker] else PLACES[place]
        return f"{PEOPLE[person][0].capitalize()} is {where}"

    def _things_of(self, person: str) -> list[str]:
        return [thing for thing, owner in self._owner_of.items() if owner == person]

    def _choose(self, options: Sequence[_T]) -> _T:
        return options[self._below(len(options))]

    def _below(self, limit: int) -> int:
        """From 0 to limit - 1. Of `random`, only this method is the same in all Pythons."""
        return int(self._random.random() * limit)


def _without(names: Iterable[str], *left_out: str) -> list[str]:
    return [name for name in names if name not in left_out]


def _listed(things: Sequence[str]) -> str:
    """These things: "the key and the map"."""
    return " and ".join(f"the {thing}" for thing in things) or "nothing"
