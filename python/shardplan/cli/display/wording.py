"""How the commands write names, counts and bytes for people."""

from __future__ import annotations

from ...diagnosis import units

# Counts from here on are of a broken or invented checkpoint; of those the magnitude is shown.
_MAX_SHOWN = 10**18


def printable(text: str) -> str:
    """A text in one line without characters that move a cursor, hide or reorder others.

    Names come from files: every one that is printed goes through this. Control and bidi characters,
    line separators and surrogates become the escapes that Python writes for them.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def shortened(text: str, most: int = 60) -> str:
    """A text that fits a title, its middle left out."""
    if len(text) <= most:
        return text
    kept = most - 3
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def number_text(number: int) -> str:
    """``1,234``; ``about 10^4,800`` where that would fill lines."""
    if abs(number) < _MAX_SHOWN:
        return f"{number:,}"
    sign = "-" if number < 0 else ""
    return f"about {sign}10^{len(str(abs(number))) - 1:,}"


def counted(number: int, one: str, many: str = "") -> str:
    """``1 box``, ``2 boxes``; ``many`` where it is not ``one`` with an s."""
    return f"{number_text(number)} {one if number == 1 else many or f'{one}s'}"


def bytes_text(count: float) -> str:
    """``1.5 GB``; ``about 10^400 bytes`` where there is no such unit."""
    if isinstance(count, int) and abs(count) >= _MAX_SHOWN:
        return f"{number_text(count)} bytes"
    return "1 byte" if count == 1 else units.bytes_text(count)
