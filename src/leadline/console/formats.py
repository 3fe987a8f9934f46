"""How figures and times are written on pages: the filters of all templates."""

from datetime import UTC, datetime

from markupsafe import Markup

from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, MICROSECONDS_PER_SECOND, rfc3339
from leadline.money import TICKS_PER_USD, show_usd

_SCALES = ((1_000_000_000, "B"), (1_000_000, "M"))
_STEPS = (
    (MICROSECONDS_PER_DAY, "day"),
    (MICROSECONDS_PER_HOUR, "hour"),
    (60 * MICROSECONDS_PER_SECOND, "minute"),
    (MICROSECONDS_PER_SECOND, "second"),
)
_DAYS_TOLD_AS_AGO = 7


def usd2(ticks: int) -> str:
    """Dollars and cents, for totals, rounded down: nobody reads that he has more than he has. What is less than a cent
    is not nothing, and says so."""
    sign, cents = "-" if ticks < 0 else "", abs(ticks) * 100 // TICKS_PER_USD
    if cents == 0 and ticks:
        return f"{sign}<$0.01"
    return f"{sign if cents else ''}${cents // 100:,}.{cents % 100:02d}"


def tokens(count: int) -> str:
    """A count for people: 48,207 in full, 61.4 M from a million on."""
    for scale, letter in _SCALES:
        if abs(count) >= scale:
            figure = count / scale
            decimals = 2 if abs(figure) < 10 else 1
            return f"{figure:,.{decimals}f} {letter}"
    return f"{count:,}"


def when(microseconds: int) -> Markup:
    """A moment in UTC, to the minute; the browser adds the reader's own time."""
    moment = _moment(microseconds)
    return _time(microseconds, f"{moment.day} {moment:%b %Y, %H:%M} UTC")


def day(microseconds: int) -> Markup:
    """The day in UTC of a moment."""
    moment = _moment(microseconds)
    return _time(microseconds, f"{moment.day} {moment:%b %Y}")


def usd5(ticks: int) -> str:
    """Dollars exactly, with five decimals at least: in lists, where amounts are small and stand below each other."""
    text = show_usd(ticks)
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.ljust(5, '0')}"


def second(microseconds: int) -> Markup:
    """A moment in UTC, to the second, for lists whose rows are close together; the year where it is another one."""
    moment = _moment(microseconds)
    year = "" if moment.year == datetime.now(UTC).year else f" {moment.year}"
    return _time(microseconds, f"{moment.day} {moment:%b}{year}, {moment:%H:%M:%S}")


def took(milliseconds: int) -> str:
    """How long something took."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min" + (f" {rest} s" if rest else "")


def per_million(ticks: int) -> str:
    """A price: dollars per million tokens, of ticks per token."""
    return show_usd(ticks * 1_000_000)


def ago(microseconds: int, now: int) -> Markup:
    """How long ago something was, or how soon it will be; the day, where that is more than a week."""
    distance = abs(now - microseconds)
    if distance > _DAYS_TOLD_AS_AGO * MICROSECONDS_PER_DAY:
        return day(microseconds)
    for step, name in _STEPS:
        if distance >= step:
            count = distance // step
            told = f"{count} {name}{'' if count == 1 else 's'}"
            return _time(microseconds, f"{told} ago" if microseconds <= now else f"in {told}")
    return _time(microseconds, "just now")


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds // MICROSECONDS_PER_SECOND, UTC)


def _time(microseconds: int, text: str) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(rfc3339(microseconds), text)
