"""The task `date`: a day, written as people write it, in ISO 8601.

"Tuesday 12 March 2024", "Mar 12th, 2024" and "3/12/24 (m/d/y)" are "2024-03-12". Where a form could
be read in two ways it says the order; of years with two digits, 70 to 99 are of the 20th century
and 00 to 69 of the 21st. Names are English, whatever the machine's language. All forms of one day
are on one side: a held-out day was never seen in any.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from datetime import date, timedelta
from random import Random

from toolkit.errors import UsageError
from toolkit.tasks.base import Pair
from toolkit.tasks.synthetic import SyntheticTask

FIRST = date(1970, 1, 1)
LAST = date(2069, 12, 31)
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def ordinal(number: int) -> str:
    """A number as it counts: 1st, 2nd, 3rd, 4th … 11th, 12th, 13th … 21st.

    >>> [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 22, 30)]
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '22nd', '30th']
    """
    teens = 10 < number < 20
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _month(day: date) -> str:
    return _MONTHS[day.month - 1]


def _weekday(day: date) -> str:
    return _DAYS[day.weekday()]


def _year(day: date) -> str:
    return f"{day.year % 100:02d}"


FORMS: tuple[Callable[[date], str], ...] = (
    lambda d: f"{d.day} {_month(d)} {d.year}",
    lambda d: f"{d.day} {_month(d)[:3]} {d.year}",
    lambda d: f"{d.day} {_month(d).lower()} {d.year}",
    lambda d: f"{d.day} {_month(d).upper()} {d.year}",
    lambda d: f"{ordinal(d.day)} of {_month(d)} {d.year}",
    lambda d: f"the {ordinal(d.day)} of {_month(d)}, {d.year}",
    lambda d: f"{_month(d)} {d.day}, {d.year}",
    lambda d: f"{_month(d)[:3]} {ordinal(d.day)}, {d.year}",
    lambda d: f"{_month(d)} {d.day} {d.year}",
    lambda d: f"{_month(d)[:3]} {d.day} '{_year(d)}",
    lambda d: f"{_weekday(d)} {d.day} {_month(d)} {d.year}",
    lambda d: f"{_weekday(d)}, {_month(d)} {ordinal(d.day)}, {d.year}",
    lambda d: f"{_weekday(d)[:3]}, {d.day:02d} {_month(d)[:3]} {d.year}",
    lambda d: f"{d.day:02d}-{_month(d)[:3]}-{d.year}",
    lambda d: f"{d.day}/{d.month}/{_year(d)} (d/m/y)",
    lambda d: f"{d.month}/{d.day}/{_year(d)} (m/d/y)",
    lambda d: f"{d.day:02d}/{d.month:02d}/{d.year} (d/m/y)",
    lambda d: f"{d.month:02d}/{d.day:02d}/{d.year} (m/d/y)",
    lambda d: f"{d.year}/{d.month}/{d.day} (y/m/d)",
    lambda d: f"{d.year} {_month(d)} {d.day}",
    lambda d: f"{d.year}{d.month:02d}{d.day:02d}",
)
"""How a day is written."""


class DateTask(SyntheticTask):
    """Days from 1970 to 2069 in many forms; it has no length.

    >>> day = date(2024, 3, 12)
    >>> FORMS[10](day), FORMS[15](day), day.isoformat()
    ('Tuesday 12 March 2024', '3/12/24 (m/d/y)', '2024-03-12')
    """

    default_length = 1
    alphabet = "".join(sorted({*string.ascii_letters, *string.digits, *" ,/-'()"}))

    def __init__(self, name: str, length: int | None = None, *, held_out: float = 0.1) -> None:
        if length is not None:
            raise UsageError(f"The task date has no length: write {name}, not {name}:{length}.")
        super().__init__(name, None, held_out=held_out)
        self.spec = name

    def draw(self, random: Random) -> Pair:
        day = FIRST + timedelta(days=random.randrange((LAST - FIRST).days + 1))
        return Pair(random.choice(FORMS)(day), day.isoformat())

    def target_of(self, source: str) -> str | None:
        """
        >>> DateTask("date").target_of("3/12/24 (m/d/y)"), DateTask("date").target_of("today")
        ('2024-03-12', None)
        """
        for number in range((LAST - FIRST).days + 1):
            day = FIRST + timedelta(days=number)
            # All forms have the year's last two digits; to write each day in each takes a second.
            if _year(day) in source and any(form(day) == source for form in FORMS):
                return day.isoformat()
        return None

    def key(self, pair: Pair) -> str:
        return pair.target
