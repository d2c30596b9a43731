"""Singular value decompositions of weight changes: of a matrix, of a product of thin ones, and of a Kronecker product.

A = U diag(s) Vᵀ; its first k terms are the best matrix of rank k (Eckart and Young 1936), with the error
‖A − A_k‖_F = √(Σ_{i>k} s_i²). All functions take and give tensors; nothing depends on what was computed before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

OVERSAMPLING = 10
POWER_ITERATIONS = 2
_WORTH_SAMPLING = 3
"""A matrix is sampled where its smaller side is this many times the sampled columns; below, exact is as quick."""
_SMALL, _LEADING_ITERATIONS = 64, 8
_NEAR = 1e-3
"""Where the share of ‖A‖² that is left out is smaller, subtracting squares in fp32 would no longer tell it."""


@dataclass(frozen=True)
class Svd:
    """The first k terms: `left` [m, k], `values` [k] falling, `right` [k, n], so that A ≈ left · diag(values) · right.

    `norm`: ‖A‖_F of the whole matrix; `error`: ‖A − left · diag(values) · right‖_F.
    """

    left: Tensor
    values: Tensor
    right: Tensor
    norm: float
    error: float = 0.0

    @property
    def rank(self) -> int:
        return len(self.values)

    @property
    def relative_error(self) -> float:
        """‖A − A_k‖ / ‖A‖; 0 of the zero matrix."""
        return self.error / self.norm if self.norm else 0.0

    def first(self, rank: int) -> Svd:
        """The first `rank` terms; the error grows by what is left out (both parts are orthogonal)."""
        if rank >= self.rank:
            return self
        error = math.hypot(self.error, float(torch.linalg.vector_norm(self.values[rank:])))
        return Svd(self.left[:, :rank], self.values[:rank], self.right[:rank], self.norm, error)

    def factors(self, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """(up [m, k], down [k, n]) with scale · up · down = A_k; both carry the root of the singular values, so that
        neither leaves the range of half precision before the other.
        """
        root = (self.values / abs(scale)).sqrt()
        return self.left * (root if scale >= 0 else -root), root[:, None] * self.right

    def matrix(self) -> Tensor:
        """A_k [m, n]."""
        return (self.left * self.values) @ self.right


def exact_svd(matrix: Tensor) -> Svd:
    """All terms of a matrix [m, n], computed in its own precision."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return Svd(left, values, right, _norm(values))


def product_svd(up: Tensor, down: Tensor) -> Svd:
    """All min(m, r, n) terms of up [m, r] · down [r, n]; the product [m, n] is never built.

    QR of both, up = Q_u R_u and downᵀ = Q_d R_d; with R_u R_dᵀ = U s Vᵀ, at most r × r, the product is
    (Q_u U) s (Q_d V)ᵀ.
    """
    left_basis, left_rest = torch.linalg.qr(up)
    right_basis, right_rest = torch.linalg.qr(down.t())
    core = exact_svd(left_rest @ right_rest.t())
    return Svd(left_basis @ core.left, core.values, core.right @ right_basis.t(), core.norm)


def kronecker_svd(one: Svd, two: Svd, terms: int | None = None) -> Svd:
    """The largest `terms` (else all) of A ⊗ B from those of A and B, which must be whole: each pair is a term of it.

    Van Loan 2000, "The ubiquitous Kronecker product", section 2.
    """
    values = torch.outer(one.values, two.values).flatten()
    order = values.argsort(descending=True, stable=True)
    kept = order[: len(order) if terms is None else terms]
    first, second = kept // two.rank, kept % two.rank
    left = torch.einsum("ak,bk->abk", one.left[:, first], two.left[:, second]).flatten(0, 1)
    right = torch.einsum("ka,kb->kab", one.right[first], two.right[second]).flatten(1)
    return Svd(left, values[kept], right, one.norm * two.norm, _norm(values[order[len(kept) :]]))


def hadamard_factors(one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """(up [m, r·q], down [r·q, n]) of (a b) ∘ (c d), which has at most rank r · q.

    Column (i, j) of up is a_i ∘ c_j, row (i, j) of down is b_i ∘ d_j (Hyeon-Woo et al. 2022, proposition 1).
    """
    (up_one, down_one), (up_two, down_two) = one, two
    up = torch.einsum("mr,mq->mrq", up_one, up_two).flatten(1)
    return up, torch.einsum("rn,qn->rqn", down_one, down_two).flatten(0, 1)


def random_svd(
    matrix: Tensor, rank: int, seed: int, oversampling: int = OVERSAMPLING, power_iterations: int = POWER_ITERATIONS
) -> Svd:
    """About the first `rank` terms of a matrix [m, n], by its range on random vectors; the same for the same seed.

    Halko, Martinsson, Tropp 2011 (arXiv 0909.4061), algorithms 4.4 and 5.1: Q spans A (AᵀA)^q Ω for a Gaussian Ω of
    rank + oversampling columns, orthonormalised at every multiplication; then the decomposition of QᵀA. The error of
    the result is measured on the matrix, not estimated. Its expectation (theorem 10.5 and corollary 10.10 there) nears
    the best possible with each iteration, the quicker the steeper the singular values fall.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    columns = min(rank + oversampling, *matrix.shape)
    start = torch.randn(matrix.shape[1], columns, generator=generator, dtype=torch.float32)
    basis = _orthonormal(matrix @ start.to(matrix.device, matrix.dtype))
    for _ in range(power_iterations):
        basis = _orthonormal(matrix @ _orthonormal(matrix.t() @ basis))
    row_basis, rest = torch.linalg.qr(matrix.t() @ basis)
    core = exact_svd(rest.t())
    kept = slice(0, min(rank, columns))
    left, values, right = basis @ core.left[:, kept], core.values[kept], core.right[kept] @ row_basis.t()
    found = Svd(left, values, right, frobenius(matrix))
    return replace(found, error=_error(matrix, found))


def truncated_svd(matrix: Tensor, rank: int, seed: int, exact: bool = False) -> Svd:
    """The first `rank` terms of a matrix: sampled where that pays, exact where it is asked for or as quick."""
    smaller = min(matrix.shape)
    if exact or smaller < _WORTH_SAMPLING * (rank + OVERSAMPLING):
        return exact_svd(matrix).first(rank)
    return random_svd(matrix, rank, seed)


def nearest_kronecker(matrix: Tensor, kernel: int, small: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """(one [o₁, i₁], two [o₂, i₂ · kernel]) whose Kronecker product is nearest to matrix [o₁·o₂, i₁·i₂ · kernel].

    Van Loan and Pitsianis 1993: the entries are laid out so that a Kronecker product becomes a matrix of rank 1; the
    first term of that layout is the answer. `kernel`: how many weights an input has (k · k). Both have the same norm.
    """
    small_out, small_in = small
    large_out, large_in = matrix.shape[0] // small_out, matrix.shape[1] // (small_in * kernel)
    blocks = matrix.reshape(small_out, large_out, small_in, large_in * kernel)
    laid_out = blocks.permute(0, 2, 1, 3).reshape(small_out * small_in, -1)
    one, two = _leading_term(laid_out, seed).factors()
    return one.view(small_out, small_in), two.view(large_out, large_in * kernel)


def _leading_term(matrix: Tensor, seed: int) -> Svd:
    """The first term: exact of small matrices, else by enough iterations to be told from its neighbours."""
    if min(matrix.shape) <= _SMALL:
        return exact_svd(matrix).first(1)
    return random_svd(matrix, 1, seed, power_iterations=_LEADING_ITERATIONS)


def frobenius(matrix: Tensor) -> float:
    """‖A‖_F to fp32's own precision: rows by themselves, then their norms in fp64 (one fp32 sum of millions drifts)."""
    return _norm(torch.linalg.vector_norm(matrix, dim=1))


def rank_by_ratio(values: Tensor, ratio: float) -> int:
    """How many values are above the largest divided by `ratio`; at least 1."""
    return max(1, int((values * ratio > values[0]).sum()))


def rank_by_sum(values: Tensor, share: float) -> int:
    """How many values it takes for `share` of the sum of all; at least 1. `values` must be all of them."""
    return _reaching(values.double().cumsum(0), share * float(values.double().sum()))


def rank_by_norm(values: Tensor, share: float, norm: float) -> int:
    """How many values it takes for `share` of the Frobenius norm: √(Σ_{i≤k} s_i²) ≥ share · norm; at least 1.

    The relative error of these terms is √(1 − share²). More than there are values: len(values).
    """
    return _reaching(values.double().square().cumsum(0), (share * norm) ** 2)


def _reaching(sums: Tensor, wanted: float) -> int:
    """The first count whose sum reaches `wanted`; rounding must not ask for one more."""
    below = int((sums < wanted * (1 - 1e-9)).sum())
    return min(below + 1, len(sums))


def _orthonormal(matrix: Tensor) -> Tensor:
    return torch.linalg.qr(matrix)[0]


def _norm(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values.double()))


def _error(matrix: Tensor, found: Svd) -> float:
    """‖A − found‖_F; found is orthogonal to what is left, so squares subtract where that is exact enough."""
    squares = found.norm**2 - _norm(found.values) ** 2
    if squares > _NEAR * found.norm**2:
        return math.sqrt(squares)
    return frobenius(matrix - found.matrix())
