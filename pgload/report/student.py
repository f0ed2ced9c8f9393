"""Student's t distribution, without the 210 MB that SciPy and NumPy take."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

ALMOST_NORMAL = 1e5  # degrees of freedom from which the normal distribution's digits are the same


@lru_cache(maxsize=65536)
def t_quantile(freedom: float, probability: float) -> float:
    """The value that a variable with `freedom` degrees of freedom stays below with `probability`.

    `freedom` is from 1 to infinity and need not be whole; `probability` is from 0.5 to below 1.
    """
    outside = 2 * (1 - probability)
    t = NormalDist().inv_cdf(probability)
    if freedom >= ALMOST_NORMAL or not t:
        return t
    # Newton's method, on logarithms: log p is nearly a straight line of log t far from 0.
    peak = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    peak -= math.log(math.pi * freedom) / 2
    for _ in range(50):
        p = two_sided_p(t, freedom)
        density = math.exp(peak - (freedom + 1) / 2 * math.log1p(t * t / freedom))
        step = math.log(p / outside) * p / (2 * density * t)
        t *= math.exp(step)
        if abs(step) < 1e-10:
            break
    return t


def two_sided_p(t: float, freedom: float) -> float:
    """The probability that a variable with `freedom` degrees of freedom is as far from 0 as `t`.

    It is the incomplete beta function of freedom/2 and 1/2 at freedom/(freedom + t²) (Abramowitz
    and Stegun, 26.5.27).
    """
    if freedom >= ALMOST_NORMAL:
        return math.erfc(abs(t) / math.sqrt(2))
    a, b = freedom / 2, 0.5
    x, rest = freedom / (freedom + t * t), t * t / (freedom + t * t)
    if not x or not rest:
        return float(not rest)
    factor = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    )
    if x < (a + 1) / (a + b + 2):
        return factor / a * _beta_fraction(a, b, x)
    return 1 - factor / b * _beta_fraction(b, a, rest)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function (Abramowitz and Stegun, 26.5.8).

    By Lentz's method (Press et al., Numerical Recipes, 6.4); it converges within some √max(a, b)
    steps where x is below (a+1)/(a+b+2).
    """
    c, d = 1.0, 1 / (1 - (a + b) / (a + 1) * x)
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1 / (1 + term * d), 1 + term / c
            value *= d * c
        if abs(d * c - 1) < 1e-13:
            break
    return value
