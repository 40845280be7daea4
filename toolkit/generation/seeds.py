"""Seeds: fresh ones, one for each of several samples, and the generator that a seed makes.

All randomness of this package comes from here; torch's global state is never touched.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from toolkit.errors import UsageError

if TYPE_CHECKING:
    import torch


def fresh_seed() -> int:
    """A seed that nobody has chosen, small enough to type again."""
    return secrets.randbelow(2**31)


def sample_seed(seed: int, number: int) -> int:
    """The seed of sample `number`: the first is `seed` itself, the others follow from it.

    Hashed, not added: otherwise the second sample of seed 7 would be the first of seed 8.

    >>> sample_seed(7, 0), sample_seed(7, 1) == sample_seed(8, 0)
    (7, False)
    """
    if number == 0:
        return seed
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def seeded_generator(seed: int) -> torch.Generator:
    """A generator of the CPU that starts from `seed`.

    Raises:
        UsageError: not a whole number of at least 0 and below 2^63.
    """
    import torch

    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise UsageError(f"--seed {seed} must be a whole number of at least 0 and below 2^63")
    return torch.Generator().manual_seed(seed)
