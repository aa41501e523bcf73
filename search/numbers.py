"""Numbers and parameters as reports, the terminal and MLflow print them; None, for a missing measurement, is a dash."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

_DASH = "\N{EN DASH}"
_LEVELS: Final = (0.001, 0.01)  # p-values below these are printed as a bound
_SHORT_NAMES = {"top_k": "k", "entropy_quantile": "q", "cosine_threshold": "c"}


def score(value: float | None) -> str:
    """A quality metric: 0.0875."""
    return _DASH if value is None else f"{value:.4f}"


def percent(value: float | None, decimals: int = 1) -> str:
    """A share: 43.2%. A negative one that rounds to 0 has no sign."""
    return _DASH if value is None else _minus(f"{100 * value:z.{decimals}f}%")


def spread(shares: Iterable[float]) -> str:
    """The least and the largest share: 65% to 70%; shares that read alike are one."""
    ends = sorted(shares)
    return " to ".join(dict.fromkeys(percent(end, 0) for end in (ends[0], ends[-1])))


def signed(value: float | None) -> str:
    """A difference, with a true minus sign: +0.0012. A fifth digit is printed where four would hide the sign."""
    if value is None:
        return _DASH
    digits = 4 if abs(value) >= 0.00005 else 5
    return _minus(f"{value:+.{digits}f}") if abs(value) >= 0.000005 else "0.0000"


def significant(value: float | None, digits: int = 3) -> str:
    """A threshold or p-value with three significant digits: 0.0457."""
    if value is None:
        return _DASH
    rounded = float(f"{value:.{digits}g}")
    return _minus(f"{value:,.0f}" if abs(rounded) >= 10**digits else f"{value:.{digits}g}")


def seconds(value: float | None) -> str:
    """A duration with two significant digits: 52, 1.3, 0.047."""
    return significant(value, 2)


def p_value(value: float | None) -> str:
    """A p-value after its sign of equality or inequality: < .001, < .01, = .023."""
    if value is None:
        return _DASH
    bound = next((level for level in _LEVELS if value < level), None)
    return f"< {_without_zero(f'{bound:g}')}" if bound else f"= {_without_zero(f'{value:.2g}')}"


def correlation(value: float | None) -> str:
    """A correlation: +0.62; a dash where it is not defined."""
    return _DASH if value is None else _minus(f"{value:+.2f}")


def higher_or_lower(value: float) -> str:
    """A difference in words: 0.0012 higher."""
    text = signed(value)
    return f"{text[1:]} {'higher' if value > 0 else 'lower'}" if text[0] in "+\N{MINUS SIGN}" else "the same"


def configuration(parameters: Mapping[str, Any]) -> str:
    """A configuration in a few characters: k66 q.86 c.46. The trial's id tells two of equal text apart.

    These three come first, so that names which a narrow column cuts off still differ.
    """
    names = [*(name for name in _SHORT_NAMES if name in parameters), *(n for n in parameters if n not in _SHORT_NAMES)]
    return " ".join(f"{short_name(name)}{_short_value(name, parameters[name])}" for name in names)


def short_name(name: str) -> str:
    """A parameter in a few letters: k, q, c, the initials of other names of several words, four letters of one word."""
    words = name.rpartition(".")[2].split("_")
    return _SHORT_NAMES.get(name) or ("".join(word[0] for word in words) if len(words) > 1 else words[0][:4])


def _short_value(name: str, value: object) -> str:
    if value is None or value != value:  # NaN in a table is null in a file
        return "=all" if name == "top_k" else "=null"
    if isinstance(value, float):
        return _without_zero(f"{value:.0f}" if value.is_integer() else f"{value:.2g}")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else f"={str(value).lower()}"


def _without_zero(text: str) -> str:
    return text[1:] if text.startswith("0.") else text


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text
