"""Exercise: the cosine of the angle between two arrays (notebook 05)."""

import numpy as np

from .base import Exercise, WrongAnswer


def cosine_similarity(a, b):
    """Return the cosine of the angle between the arrays a and b, each taken as one long vector."""
    a, b = a.ravel(), b.ravel()
    return np.sum(a * b) / (np.sqrt(np.sum(a**2)) * np.sqrt(np.sum(b**2)))


EXAMPLES = (
    (np.array([3.0, 4.0]), np.array([6.0, 8.0])),
    (np.array([1.0, 0.0]), np.array([1.0, 1.0])),
    (np.array([2.0, 0.0]), np.array([0.0, 5.0])),
    (np.array([1.0, 2.0]), np.array([-2.0, -1.0])),
    (np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 2.0], [1.0, 5.0]], dtype=np.float32)),
)


def cases(rng):
    for shape in ((6,), (2, 5), (3, 3), (2, 3, 4)):
        a = rng.normal(rng.uniform(-1, 1), 1, size=shape)
        for share in (0.2, -2.0):
            yield a, rng.uniform(0.1, 9) * (share * a + rng.normal(scale=0.1, size=shape))
    a = rng.uniform(1, 2, size=(4, 5)).astype(np.float32)
    yield a, np.round(a)


def _dot(a, b):
    return np.sum(a * b)


def _norm(a):
    return np.sqrt(np.sum(a**2))


def _cosine(a, b):
    return _dot(a, b) / (_norm(a) * _norm(b))


def _matrix_product(product):
    def function(a, b):
        return product(a, b) / (_norm(a) * _norm(b))

    return function


def _row_by_row(a, b):
    return np.sum(a * b, axis=-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def _correlation(a, b):
    return _cosine(a - a.mean(), b - b.mean())


EXERCISE = Exercise(
    reference=cosine_similarity,
    outputs=("cosine",),
    checked="arrays of one to three axes, float32 and float64, same, opposite and unrelated directions, any size",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "For vectors, a · b = |a| |b| cos(angle). Solve it for the cosine. An array of any shape is a vector once "
        "it is flat.",
        "a · b is `np.sum(a * b)`, and the length |a| is `np.sqrt(np.sum(a**2))`. Element by element, shapes do not "
        "matter.",
        "`np.sum(a * b) / (np.sqrt(np.sum(a**2)) * np.sqrt(np.sum(b**2)))`: mind the brackets round the product.",
    ),
    wrong_answers=(
        WrongAnswer(
            "forgot the lengths",
            (_dot, lambda a, b: np.mean(a * b)),
            "That is the dot product, which grows with the arrays. Divide it by both lengths.",
        ),
        WrongAnswer(
            "divided by one length only",
            (
                lambda a, b: _dot(a, b) / _norm(a),
                lambda a, b: _dot(a, b) / _norm(b),
                lambda a, b: _dot(a, b) / np.sum(a**2),
                lambda a, b: _dot(a, b) / np.sum(b**2),
            ),
            "You divide by the length of only one array, so the size of the other still shows. Divide by |a| and by "
            "|b|.",
        ),
        WrongAnswer(
            "divided by one length, multiplied by the other",
            (
                lambda a, b: _dot(a, b) / _norm(a) * _norm(b),
                lambda a, b: _dot(a, b) / _norm(b) * _norm(a),
                lambda a, b: _dot(a, b) / np.sum(a**2) * np.sum(b**2),
            ),
            "`x / p * q` divides by p and then multiplies by q. Put brackets round the product: `x / (p * q)`.",
        ),
        WrongAnswer(
            "no square root in the lengths",
            (
                lambda a, b: _dot(a, b) / (np.sum(a**2) * np.sum(b**2)),
                lambda a, b: _dot(a, b) / (np.mean(a**2) * np.mean(b**2)),
            ),
            "You divide by squared lengths. The length of a vector is the square root of its sum of squares.",
        ),
        WrongAnswer(
            "the number of values for the length",
            (
                lambda a, b: _dot(a, b) / (len(a) * len(b)),
                lambda a, b: _dot(a, b) / (a.size * b.size),
            ),
            "`len` and `size` count values. The length |a| of a vector is the square root of its sum of squares: "
            "`np.sqrt(np.sum(a**2))`.",
        ),
        WrongAnswer(
            "magnitudes added up for the length",
            (lambda a, b: _dot(a, b) / (np.sum(np.abs(a)) * np.sum(np.abs(b))),),
            "You take the sum of the magnitudes for the length. It is the square root of the sum of the squares.",
        ),
        WrongAnswer(
            "mean here, sum there",
            (
                lambda a, b: np.mean(a * b) / (_norm(a) * _norm(b)),
                lambda a, b: _dot(a, b) / (np.sqrt(np.mean(a**2)) * np.sqrt(np.mean(b**2))),
            ),
            "You mix sums and means, which leaves a factor of the number of values. Use `np.sum` throughout.",
        ),
        WrongAnswer(
            "added the lengths",
            (lambda a, b: _dot(a, b) / (_norm(a) + _norm(b)), lambda a, b: 2 * _dot(a, b) / (_norm(a) + _norm(b))),
            "You add the two lengths: multiply them, |a| |b|.",
        ),
        WrongAnswer(
            "matrix product instead of one long vector",
            (
                _matrix_product(np.matmul),
                _matrix_product(np.dot),
                _matrix_product(lambda a, b: a.T @ b),
                _matrix_product(lambda a, b: a @ b.T),
            ),
            "`@` and `np.dot` of two matrices are a matrix product. Take each array as one long vector: "
            "`a.ravel()`, or simply `np.sum(a * b)`.",
        ),
        WrongAnswer(
            "row by row",
            (
                _row_by_row,
                lambda a, b: np.mean(_row_by_row(a, b)),
                lambda a, b: _dot(a, b) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)),
            ),
            "That is a cosine for each row. Here the whole array is one vector: no `axis`.",
        ),
        WrongAnswer(
            "the norm of a matrix for the length",
            (lambda a, b: _dot(a, b) / (np.linalg.norm(a, 2) * np.linalg.norm(b, 2)),),
            "Of a matrix, `np.linalg.norm(a, 2)` is the largest singular value. Leave out the 2, or take `a.ravel()`.",
        ),
        WrongAnswer(
            "correlation",
            (
                _correlation,
                lambda a, b: np.corrcoef(a.ravel(), b.ravel())[0, 1],
            ),
            "You subtract the means first, which is the correlation coefficient. The cosine takes the arrays as "
            "they are.",
        ),
        WrongAnswer(
            "distance instead of similarity",
            (lambda a, b: 1 - _cosine(a, b),),
            "That is the cosine distance, 1 - cosine. Return the cosine itself: 1 for the same direction.",
        ),
        WrongAnswer(
            "lost the sign",
            (
                lambda a, b: abs(_cosine(a, b)),
                lambda a, b: _cosine(np.abs(a), np.abs(b)),
                lambda a, b: _cosine(a, b) ** 2,
            ),
            "Opposite directions have cosine -1: keep the sign.",
        ),
        WrongAnswer(
            "the angle instead of its cosine",
            (
                lambda a, b: np.arccos(np.clip(_cosine(a, b), -1, 1)),
                lambda a, b: np.degrees(np.arccos(np.clip(_cosine(a, b), -1, 1))),
            ),
            "That is the angle. Return its cosine: leave out the `arccos`.",
        ),
        WrongAnswer(
            "rounded for printing",
            tuple(lambda a, b, digits=digits: round(float(_cosine(a, b)), digits) for digits in (2, 3, 4)),
            "Round only what you print: return the cosine with all its digits.",
        ),
    ),
)
