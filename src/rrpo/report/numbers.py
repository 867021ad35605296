"""Numbers as a page shows them: a true minus sign, intervals in brackets or narrow."""

from rrpo.interval import Interval


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """Format a number with a true minus sign; a value that rounds to zero carries no sign.

    Examples:
        >>> number(-0.126), number(0.5, signed=True), number(-0.001)
        ('−0.13', '+0.50', '0.00')
    """
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        return text.lstrip("-")
    return (f"+{text}" if signed and value > 0 else text).replace("-", "−")


def counted(count: int, what: str) -> str:
    """Write a number of things.

    Examples:
        >>> counted(1, "sound"), counted(3, "sound")
        ('1 sound', '3 sounds')
    """
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def with_ends(value: Interval, digits: int = 2) -> str:
    """Format the mean and, where they are known, its ends.

    Examples:
        >>> with_ends(Interval(-0.5, -0.625, -0.4)), with_ends(Interval(2.0), 1)
        ('−0.50 [−0.62, −0.40]', '2.0')
    """
    mean = number(value.mean, digits)
    if not value.known:
        return mean
    return f"{mean} [{number(value.low, digits)}, {number(value.high, digits)}]"


def narrow_ends(value: Interval, digits: int = 2) -> str:
    """Format the ends for a table: "low–high", "low to high" where one is negative, or nothing."""
    if not value.known:
        return ""
    between = " to " if value.low < 0 else "–"
    return f"{number(value.low, digits)}{between}{number(value.high, digits)}"
