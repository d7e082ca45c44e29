"""A linear regression that learns a few samples at a time, forgets the old, and starts from what one would guess.

The weights minimise the squared error over all samples, each discounted by its age, plus a pull towards the
prior weights: w = p + (A + ridge)⁻¹ (b - A p), with A and b the discounted moments (ridge regression about a
prior mean; A. E. Hoerl, R. W. Kennard 1970).  Solving the normal equations anew is as cheap as updating an
inverse at a dozen features, and can't lose its symmetry as recursive least squares do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np
from numpy.typing import NDArray

from balance.planning.record import Record

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Regression(Record):
    """Discounted moments and the weights that follow from them.

    Attributes
    ----------
    weights : tuple of float
        One for each feature; empty before the first sample.
    squares : tuple of float
        The moments of the features, row by row.
    products : tuple of float
        The moments of features and target.

    Examples
    --------
    >>> prior, ridge = np.zeros(2), np.full(2, 1e-3)
    >>> learnt = Regression().after(np.eye(2), np.array([3.0, -1.0]), prior, ridge, keep=1.0)
    >>> [round(weight, 1) for weight in learnt.weights]
    [3.0, -1.0]
    """

    weights: Tuple[float, ...] = ()
    squares: Tuple[float, ...] = ()
    products: Tuple[float, ...] = ()

    def after(self, features: Array, targets: Array, prior: Array, ridge: Array, keep: float) -> Regression:
        """Return the regression after more samples.

        Parameters
        ----------
        features : array of shape (n, d)
            The samples.
        targets : array of shape (n,)
            What was to be predicted.
        prior, ridge : array of shape (d,)
            The weights before any sample, and how many unit samples each of them is worth.
        keep : float
            What is left of the weight of the older samples.
        """
        size = features.shape[1]
        squares = features.T @ features
        products = features.T @ targets
        if self.squares:
            squares += keep * np.array(self.squares).reshape(size, size)
            products += keep * np.array(self.products)
        weights = prior + np.linalg.solve(squares + np.diag(ridge), products - squares @ prior)
        return Regression(tuple(weights.tolist()), tuple(squares.ravel().tolist()), tuple(products.tolist()))

    def of(self, features: Array, prior: Array) -> float:
        """Return the prediction for one sample."""
        return float(features @ (np.array(self.weights) if self.weights else prior))
