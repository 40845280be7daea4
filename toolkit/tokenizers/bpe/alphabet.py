"""The byte-level alphabet of GPT-2: one printable character for each byte.

Hugging Face's files hold tokens as text, but a token may be any bytes. GPT-2's way out is to give
each byte a character: bytes that are printable in Latin-1 stand for themselves, the other 68 get
U+0100, U+0101, … in order of their value. A space becomes "Ġ", a newline "Ċ".

Source: Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.2.
"""

from __future__ import annotations


def _printable(byte: int) -> bool:
    return 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255


def _byte_characters() -> tuple[str, ...]:
    characters = []
    unprintable = 0
    for byte in range(256):
        if _printable(byte):
            characters.append(chr(byte))
        else:
            characters.append(chr(256 + unprintable))
            unprintable += 1
    return tuple(characters)


BYTE_CHARACTERS = _byte_characters()
"""The character of each byte."""

CHARACTER_BYTES = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
"""The byte of each character."""

CHARACTER_ORDER = tuple(sorted(range(256), key=lambda byte: BYTE_CHARACTERS[byte]))
"""The bytes in the order of their characters: the order in which Hugging Face's trainer numbers
them, where this toolkit numbers bytes by value."""


def bytes_to_characters(token: bytes) -> str:
    """Write a token in the byte-level alphabet.

    >>> bytes_to_characters(" né".encode())
    'ĠnÃ©'
    """
    return "".join([BYTE_CHARACTERS[byte] for byte in token])


def characters_to_bytes(text: str) -> bytes:
    """The inverse of `bytes_to_characters`.

    >>> characters_to_bytes("ĠnÃ©").decode()
    ' né'

    Raises:
        ValueError: a character that stands for no byte.
    """
    try:
        return bytes([CHARACTER_BYTES[character] for character in text])
    except KeyError as error:
        raise ValueError(
            f"{text!r} is not in the byte-level alphabet: {error.args[0]!r} stands for no byte"
        ) from None
