"""Quantiles of Student's t distribution, without the 210 MB that SciPy and NumPy take."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

STEPS = 400  # of Simpson's rule; an even number
ALMOST_NORMAL = 1e7  # degrees of freedom from which the normal distribution's digits are the same


@lru_cache(maxsize=1024)
def t_quantile(freedom: float, probability: float) -> float:
    """The value that a variable with `freedom` degrees of freedom stays below with `probability`.

    `freedom` is from 1 to infinity and need not be whole; `probability` is from 0.5 to 0.99. Six
    digits agree with `scipy.special.stdtrit`. With t = √ν·tan θ the distribution function is
    ½ + p·√ν·∫cos^(ν-1), integrated from 0 to θ, p being the density at 0 (Abramowitz and Stegun,
    26.7.1); Newton's method inverts it.
    """
    freedom = min(freedom, ALMOST_NORMAL)
    log_gammas = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    peak: float = math.exp(log_gammas) / math.sqrt(math.pi * freedom)  # the density at 0
    t = NormalDist().inv_cdf(probability)  # below the result; from there every step goes up
    while True:
        density = peak * math.pow(1 + t * t / freedom, -(freedom + 1) / 2)
        step = (probability - _distribution(t, freedom, peak)) / density
        t += step
        if step <= 1e-10 * t:
            return t


def _distribution(t: float, freedom: float, peak: float) -> float:
    """The distribution function at t, from 0."""
    width = math.atan(t / math.sqrt(freedom)) / STEPS
    heights = [math.pow(math.cos(width * step), freedom - 1) for step in range(STEPS + 1)]
    simpson = heights[0] + heights[-1] + 4 * sum(heights[1::2]) + 2 * sum(heights[2:-1:2])
    return 0.5 + peak * math.sqrt(freedom) * simpson * width / 3
