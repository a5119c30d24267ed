"""Numbers with errors as people read them: value and error rounded together."""

from math import floor, isfinite, log10

__all__ = ["rounded", "rounded_interval"]


def rounded(value: float, error: float) -> str:
    """Write a value and its error with the same number of digits, two of the error.

    Without an error the value has three significant digits.
    """
    if not isfinite(value):
        return "not converged"
    size = max(abs(value), error if isfinite(error) else 0.0)
    if size and not 1e-3 <= size < 1e6:
        power = floor(log10(size))
        if not (isfinite(error) and error > 0):
            return f"{value:.2e}"
        return f"({rounded(value / 10.0**power, error / 10.0**power)})e{power}"
    if not (isfinite(error) and error > 0):
        return f"{value:#.3g}".rstrip(".")
    digits = 1 - floor(log10(error))
    if round(error, digits) >= 10 ** (2 - digits):  # 0.0996 rounds to 0.10, not to 0.100
        digits -= 1
    if digits <= 0:
        return f"{round(value, digits):.0f} ± {round(error, digits):.0f}"
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def rounded_interval(low: float, high: float) -> str:
    """Write both ends of a 95 % interval with the decimals that its width deserves."""
    if not (isfinite(low) and isfinite(high)):
        return "none"
    error = (high - low) / 4
    if error <= 0:
        return f"{low:.4g} to {high:.4g}"
    decimals = max(0, 1 - floor(log10(error)))
    return f"{low:.{decimals}f} to {high:.{decimals}f}"
