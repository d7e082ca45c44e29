"""Numbers and names as a person reads them."""

from __future__ import annotations

from datetime import datetime

PRIORITIES = {"1": "critical", "2": "high", "3": "medium", "4": "low", "5": "background"}
NOTHING = "–"  # noqa: RUF001 (a dash that stands for no value)


def seconds(value: float | None) -> str:
    """Return a duration with the unit that fits.

    Examples
    --------
    >>> seconds(0.0123), seconds(1.25), seconds(192)
    ('12 ms', '1.2 s', '3 min 12 s')
    """
    if value is None:
        return NOTHING
    if abs(value) < 0.9995:
        return f"{value * 1000:.0f} ms" if abs(value) >= 0.00995 else f"{value * 1000:.2g} ms"
    if abs(value) < 120:
        return f"{value:.1f} s" if abs(value) < 99.95 else f"{value:.0f} s"
    whole = round(value)
    return f"{whole // 60:,} min {whole % 60} s"


def size(value: float | None) -> str:
    """Return bytes with a binary unit.

    Examples
    --------
    >>> size(512), size(3 * 2**20), size(2.5 * 2**30)
    ('512 B', '3.0 MiB', '2.5 GiB')
    """
    if value is None:
        return NOTHING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def percent(share: float | None) -> str:
    """Return a share of 1 in percent; never 100 % while something is missing.

    Examples
    --------
    >>> percent(0.5), percent(0.9996), percent(1.0)
    ('50 %', '99.9 %', '100 %')
    """
    if share is None:
        return NOTHING
    if 0.99 <= share < 1:
        return f"{min(share * 100, 99.9):.1f} %"
    return f"{share * 100:.0f} %"


def moment(value: object) -> str:
    """Return an ISO 8601 moment as a person writes it.

    Examples
    --------
    >>> moment("2026-05-04T09:12:44.250+00:00"), moment("soon"), moment(None)
    ('4 May 2026, 09:12 UTC', 'soon', '')
    """
    try:
        when = datetime.fromisoformat(str(value or ""))
    except ValueError:
        return short(value or "", 40)
    return f"{when.day} {when:%B %Y, %H:%M} {when.tzname() or ''}".strip()


def priority(value: object) -> str:
    """Return a priority with its name.

    Examples
    --------
    >>> priority(1), priority("9")
    ('1 critical', '9')
    """
    return f"{value} {PRIORITIES.get(str(value), '')}".strip()


def short(text: object, limit: int = 28) -> str:
    """Return `text` on one line, without control characters, at most `limit` characters long.

    Examples
    --------
    >>> short("a\\x1b[31mred\\n", 20), short("x" * 50, 5)
    ('a[31mred', 'xxxx…')
    """
    clean = "".join(letter for letter in str(text) if letter.isprintable())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
