"""Numbers as a report prints them; None, for what was not measured, is a dash."""

_DASH = "\N{EN DASH}"


def score(value: float | None) -> str:
    """A quality metric: 0.0875."""
    return _DASH if value is None else f"{value:.4f}"


def percent(value: float | None, decimals: int = 1) -> str:
    """A share: 43.2%."""
    return _DASH if value is None else f"{100 * value:.{decimals}f}%"


def signed(value: float | None) -> str:
    """A difference, with a true minus sign: +0.0012. A fifth digit is printed where four would hide the sign."""
    if value is None:
        return _DASH
    digits = 4 if abs(value) >= 0.00005 else 5
    return _minus(f"{value:+.{digits}f}") if abs(value) >= 0.000005 else "0.0000"


def significant(value: float | None, digits: int = 3) -> str:
    """A p-value, threshold or number of seconds with three significant digits: 52.7."""
    if value is None:
        return _DASH
    return f"{value:,.0f}" if abs(value) >= 10**digits else _minus(f"{value:.{digits}g}")


def correlation(value: float | None) -> str:
    """A correlation: +0.62; a dash where it is not defined."""
    return _DASH if value is None else _minus(f"{value:+.2f}")


def higher_or_lower(value: float) -> str:
    """A difference in words: 0.0012 higher."""
    text = signed(value)
    return f"{text[1:]} {'higher' if value > 0 else 'lower'}" if text[0] in "+\N{MINUS SIGN}" else "the same"


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text
