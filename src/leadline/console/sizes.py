"""How much memory or disk something takes, and for how long something runs, in words."""

_SCALES = ((1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"))
_STEPS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def size(count: int) -> str:
    """Such as 2.5 GB."""
    for scale, unit in _SCALES:
        if count >= scale:
            figure = count / scale
            return f"{figure:,.1f} {unit}" if figure < 100 else f"{figure:,.0f} {unit}"
    return f"{count} bytes"


def lasting(seconds: int) -> str:
    """Such as 3 days, 2 hours."""
    told, left = [], seconds
    for step, name in _STEPS:
        count, left = divmod(left, step)
        if count:
            told.append(f"{count} {name}{'' if count == 1 else 's'}")
    return ", ".join(told[:2]) or "less than a minute"
