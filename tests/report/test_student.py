"""The quantiles of Student's t distribution that intervals are made of."""

from __future__ import annotations

import math

import pytest

from pgload.report.student import t_quantile, two_sided_p


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [
        (1, 12.7062047),
        (2, 4.3026527),
        (4, 2.7764451),
        (5, 2.5705818),
        (10, 2.2281389),
        (30, 2.0422725),
        (120, 1.9799304),
        (math.inf, 1.9599640),
    ],
)
def test_published_table(freedom: float, quantile: float) -> None:
    """The two-sided 95% column of every printed table, to six digits."""
    assert t_quantile(freedom, 0.975) == pytest.approx(quantile, rel=5e-7)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1.1, 10.2768013), (2.5, 3.5746548), (7.3, 2.3450667)]
)
def test_fractions(freedom: float, quantile: float) -> None:
    """Welch's degrees of freedom are not whole numbers (values of scipy.special.stdtrit)."""
    assert t_quantile(freedom, 0.975) == pytest.approx(quantile, rel=1e-6)


@pytest.mark.parametrize("freedom", [1, 3, 1e6])
def test_other_probabilities(freedom: float) -> None:
    """The middle is 0, and a larger probability has a larger quantile."""
    assert t_quantile(freedom, 0.5) == 0
    assert 0 < t_quantile(freedom, 0.9) < t_quantile(freedom, 0.95) < t_quantile(freedom, 0.99)


@pytest.mark.parametrize(
    ("t", "freedom", "p"),
    [
        (100.0, 3, 2.20452e-6),
        (12.0, 8, 2.14387e-6),
        (8.0, 60, 4.90027e-11),
        (30.0, 1.5, 4.58564e-3),
    ],
)
def test_small_probabilities(t: float, freedom: float, p: float) -> None:
    """Of many settings the smallest decides, so its digits count (scipy.special.stdtr)."""
    assert two_sided_p(t, freedom) == pytest.approx(p, rel=1e-4)
    assert two_sided_p(-t, freedom) == two_sided_p(t, freedom)
    assert t_quantile(freedom, 1 - p / 2) == pytest.approx(t, rel=1e-4)


def test_limits() -> None:
    """Nothing is as likely as 0, and nothing is infinitely far from it."""
    assert two_sided_p(0.0, 3) == two_sided_p(1e-200, 3) == 1
    assert two_sided_p(1e200, 1) == two_sided_p(math.inf, math.inf) == 0
