"""Costs learnt from times: t = x . costs, robust against hiccups, with a prior and an uncertainty."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

WINDOW = 400
"""So many of the latest times are kept one by one; older ones only count through the prior."""
FORGET = 0.5
"""What the prior is worth each time it takes old times in: an instrument may change."""
HUBER = 1.345
"""Residuals above so many standard deviations count less: 95 % efficient for normal noise."""
NOISE_S, NOISE_SHARE = 1e-3, 0.005
"""Expected scatter of a time: 1 ms and 0.5 % of it; how much it is in fact is estimated."""
PRIOR_FREEDOM = 3.0
"""Degrees of freedom of Student's t for the prior: one that is far off gives way to the times."""
LEAST_SCATTER = 0.1
"""Times that repeat better than this part of the expected scatter are not believed to do so."""
PRIOR_SCATTER = np.full(4, 0.6745)
"""So many typical residuals stand beside the first ones when the scatter is estimated."""


class RobustFit:
    """Least of sum rho(r_i / sigma_i) - log p(c) over all costs c >= 0.

    rho is Huber's function (P. J. Huber, Ann. Math. Statist. 35, 73, 1964) and p the prior, Student's t
    around the costs expected; both are minimised by repeated weighted least squares. sigma_i follows
    from the median of the residuals that a nearly flat prior leaves, so that a wrong prior is not
    mistaken for noise.

    Parameters
    ----------
    costs
        (k,) expected before the first time, all at least 0.
    covariance
        (k, k) of these, positive definite.
    """

    def __init__(self, costs: Vector, covariance: Matrix) -> None:
        self._unit = np.sqrt(np.diag(covariance))
        self._prior = costs / self._unit
        self._information = np.linalg.inv(covariance / np.outer(self._unit, self._unit))
        self._x = np.empty((0, len(costs)))
        self._t_s = np.empty(0)
        self._new: list[tuple[Vector, float]] = []
        self._estimate = self._prior
        self._certainty = self._information

    def learn(self, x: Vector, measured_s: float) -> None:
        """Take in one time, in s; what is not a time above 0 is ignored."""
        if np.isfinite(measured_s) and measured_s > 0:
            self._new.append((x * self._unit, measured_s))

    @property
    def costs(self) -> Vector:
        """(k,) best estimate."""
        self._update()
        return self._estimate * self._unit

    @property
    def covariance(self) -> Matrix:
        """(k, k) of the estimate."""
        self._update()
        scaled: Matrix = np.linalg.inv(self._certainty) * np.outer(self._unit, self._unit)
        return scaled

    def _update(self) -> None:
        if not self._new:
            return
        x, t_s = zip(*self._new, strict=True)
        self._new = []
        self._x = np.vstack([self._x, x])
        self._t_s = np.append(self._t_s, t_s)
        while len(self._t_s) > WINDOW:
            first = slice(0, WINDOW // 2)
            prior, information = self._fitted(self._x[first], self._t_s[first])
            self._prior, self._information = prior, FORGET * information
            self._x, self._t_s = self._x[first.stop :], self._t_s[first.stop :]
        self._estimate, self._certainty = self._fitted(self._x, self._t_s)

    def _fitted(self, x: Matrix, t_s: Vector) -> tuple[Vector, Matrix]:
        """Return the costs and their information matrix, both in units of the prior's uncertainty."""
        _, _, scatter = self._minimised(x, t_s, 1e-6 * self._information, None)
        costs, information, _ = self._minimised(x, t_s, self._information, scatter)
        return costs, information

    def _minimised(
        self, x: Matrix, t_s: Vector, prior: Matrix, known_scatter: float | None
    ) -> tuple[Vector, Matrix, float]:
        costs, information, scatter = self._prior, prior, known_scatter or 1.0
        for _ in range(30):
            sigma_s = np.hypot(NOISE_S, NOISE_SHARE * (x @ costs))
            residuals = np.abs(t_s - x @ costs) / sigma_s
            if known_scatter is None:
                typical = np.median(np.append(residuals, PRIOR_SCATTER)) / PRIOR_SCATTER[0]
                scatter = max(LEAST_SCATTER, float(typical))
            weights = np.minimum(1, HUBER * scatter / np.maximum(residuals, 1e-12)) / (scatter * sigma_s) ** 2
            weighted = x * weights[:, np.newaxis]
            off = costs - self._prior
            held = prior * min(1.0, (PRIOR_FREEDOM + len(costs)) / (PRIOR_FREEDOM + float(off @ prior @ off)))
            information = held + weighted.T @ x
            before, costs = costs, non_negative_minimum(information, held @ self._prior + weighted.T @ t_s)
            if np.allclose(costs, before, rtol=1e-5, atol=1e-9):
                break
        return costs, information, scatter


def non_negative_minimum(h: Matrix, g: Vector) -> Vector:
    """Return the c >= 0 with the least c'hc / 2 - g'c, for a positive definite h of few columns."""
    size = len(g)
    best, least = np.zeros(size), 0.0
    for count in range(size, 0, -1):
        for free in combinations(range(size), count):
            chosen = list(free)
            c = np.zeros(size)
            c[chosen] = np.linalg.solve(h[np.ix_(chosen, chosen)], g[chosen])
            if (c >= 0).all():
                if count == size:
                    return c
                value = float(c @ h @ c / 2 - g @ c)
                if value < least:
                    best, least = c, value
    return best
