"""The story of the tutorial keeps the promises of its grammar."""

import hashlib
import re
import string
from itertools import pairwise

import pytest

from toolkit.errors import UsageError
from toolkit.learning import story
from toolkit.learning.story import PEOPLE, PLACES, THINGS, WEATHER

WHERE = {where: place for place, where in PLACES.items()}


def lines_of(text: str) -> list[tuple[str, str]]:
    """Who says what, without the line at the end that may be cut."""
    found = re.findall(r"(\w+):\n(.+)\n\n", text)
    assert text.startswith("".join(f"{who}:\n{said}\n\n" for who, said in found))
    return found


LINES = lines_of(story(60_000, seed=3))


def addressed(said: str) -> str:
    """The one to whom a question is put: "Ben, who has …?", "Good evening, Ben. How are you?"."""
    first, last = re.findall(r"^(\w+),|, (\w+)[.?]", said[: said.index("?") + 1])[-1]
    return first or last


def test_the_same_story_each_time() -> None:
    text = story()
    assert len(text) == 100_000
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "1433356bf9d4a7091f1db3f639d41354e6286a297c7bb9c307475c1dd92bbda1"


@pytest.mark.parametrize("length", [0, 1, 997])
def test_it_has_the_length_asked_for_and_a_longer_one_goes_on(length: int) -> None:
    assert story(length) == story(2000)[:length]
    assert len(story(length)) == length


def test_another_seed_is_another_story() -> None:
    assert story(500, seed=2) != story(500, seed=1)


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(UsageError, match="-1 characters: expected 0 or more"):
        story(-1)


def test_all_letters_and_all_names_occur() -> None:
    text = story()
    assert set(string.ascii_lowercase) <= set(text)
    for name in (*PEOPLE, *PLACES, *THINGS, *WEATHER):
        assert text.count(name) >= 10


def test_who_is_asked_answers_and_names_who_asked() -> None:
    questions = [pair for pair in pairwise(LINES) if "?" in pair[0][1]]
    assert len(questions) > 300
    for (asks, question), (answers, answer) in questions:
        assert addressed(question) == answers != asks
        assert f", {asks}." in answer


def test_a_greeting_and_a_farewell_are_returned() -> None:
    for (_, said), (_, answer) in pairwise(LINES):
        if said.startswith("Good ") and " I " in said:
            assert answer.startswith(said.split(",")[0])
        elif said.startswith("Goodbye") and " and " in said:
            assert answer.startswith("Goodbye")


def test_weather_and_things_have_their_own_phrases() -> None:
    for (_, said), (_, answer) in pairwise(LINES):
        for weather, then in WEATHER.items():
            assert said.startswith(weather) == answer.startswith(then)
    text = story()
    for thing, (adjective, reason) in THINGS.items():
        assert set(re.findall(rf"The {thing} is (\w+)\.", text)) == {adjective}
        assert set(re.findall(rf"give me the {thing}\? (.+)", text)) == {reason}


def test_pronouns_fit_the_person_before() -> None:
    assert set(PEOPLE.values()) == {("she", "her"), ("he", "him")}
    fitting = 0
    for (_, before), (_, said), (_, after) in zip(LINES, LINES[1:], LINES[2:], strict=False):
        about = re.search(r", where is (\w+)\?", before) or re.match(r"(\w+) has it", said)
        if about:
            subject, object_ = PEOPLE[about[1]]
            assert re.findall(r"\b(He|She) ", said)[0] == subject.capitalize()
            assert f" {object_}" in after
            fitting += 1
    assert fitting > 50


def test_things_are_where_earlier_lines_have_put_them() -> None:
    owner: dict[str, str] = {}
    checked = 0
    for (before, asked), (who, said) in pairwise(LINES):
        wanted = re.search(r"who has the (\w+)\?", asked)
        if gives := re.search(r"Here is the (\w+)", said):
            assert owner[gives[1]] == who
            owner[gives[1]] = before
        elif wanted:
            has = who if said.startswith("I have it") else said.split()[0]
            checked += wanted[1] in owner
            assert owner.setdefault(wanted[1], has) == has
        elif re.search(r"I have (the|nothing)", said):
            things = re.findall(r"the (\w+)", said.split("?")[0])
            for thing in things:
                checked += thing in owner
                assert owner.setdefault(thing, who) == who
            if "what do you have?" in asked:
                assert {thing for thing, has in owner.items() if has == who} == set(things)
    assert checked > 100


def test_people_are_where_earlier_lines_have_sent_them() -> None:
    place: dict[str, str] = {}
    checked = 0
    for (_, asked), (who, said) in pairwise(LINES):
        about = re.search(r", where is (\w+)\?", asked) or re.match(r"(\w+) has it", said)
        claims = []
        if origin := re.search(r"I come from the (\w+)", said):
            claims.append((who, origin[1]))
        if "I was here before you" in said and who in place:
            claims.append((said.split()[2][:-1], place[who]))
        if where := re.search(r"\b(It is quiet|He is|She is) (\w+ the \w+)", said):
            claims.append((about[1] if about else who, WHERE[where[2]]))
        if about and "is here" in said and who in place:
            claims.append((about[1], place[who]))
        for person, there in claims:
            checked += person in place
            assert place.setdefault(person, there) == there
        if arrives := re.match(r"Good \w+, (\w+)\. I (was|come)", said):
            place.pop(who, None)
            if arrives[1] in place:
                place[who] = place[arrives[1]]
        if leaves := re.search(r"I go to the (\w+)", said):
            place[who] = leaves[1]
    assert checked > 200
