"""Formats names, counts and bytes as text."""

from __future__ import annotations

from ...diagnosis import units

# Larger counts come from broken checkpoints; only their magnitude is shown.
_MAX_SHOWN = 10**18


def printable(text: str) -> str:
    """Escapes characters that are not printable, as Python's ``ascii`` does.

    Every name from a file is printed through this function. It escapes control and bidi characters,
    line separators and surrogates, so that the text stays in one line and in order.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def shortened(text: str, most: int = 60) -> str:
    """Shortens a text to ``most`` characters by leaving out its middle."""
    if len(text) <= most:
        return text
    kept = most - 3
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def number_text(number: int) -> str:
    """Formats a number: ``1,234``, or ``about 10^4,800`` for 10^18 and more."""
    if abs(number) < _MAX_SHOWN:
        return f"{number:,}"
    sign = "-" if number < 0 else ""
    return f"about {sign}10^{len(str(abs(number))) - 1:,}"


def counted(number: int, one: str, many: str = "") -> str:
    """Formats a count: ``1 box``, ``2 boxes``.

    Args:
        number: the count.
        one: the singular.
        many: the plural; default: the singular and an "s".
    """
    return f"{number_text(number)} {one if number == 1 else many or f'{one}s'}"


def bytes_text(count: float) -> str:
    """Formats bytes: ``1.5 GB``, or ``about 10^400 bytes`` for 10^18 and more."""
    if isinstance(count, int) and abs(count) >= _MAX_SHOWN:
        return f"{number_text(count)} bytes"
    return "1 byte" if count == 1 else units.bytes_text(count)
