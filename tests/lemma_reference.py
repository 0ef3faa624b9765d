"""Lemma 4.2's network and its input gradient written out plainly, in float64 and by loops."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def output(weights: list[Matrix], last: Matrix, x: Matrix) -> float:
    """a^T relu(W_H ... relu(W_1 x))."""
    for weight in weights:
        x = np.maximum(weight @ x, 0)
    return float(last @ x)


def input_gradient(weights: list[Matrix], last: Matrix, x: Matrix) -> Matrix:
    """a^T D_H W_H ... D_1 W_1 with D_h = diag(1 where W_h ... > 0), formula A.1."""
    product = np.eye(len(x))
    for weight in weights:
        x = weight @ x
        signs = np.diag((x > 0).astype(float))
        product = signs @ weight @ product
        x = np.maximum(x, 0)
    return last @ product
