"""engine/lora_tools/low_rank.py: decompositions are exact where they say so, and near the best possible elsewhere."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.lora_tools.low_rank import (
    OVERSAMPLING,
    POWER_ITERATIONS,
    exact_svd,
    frobenius,
    hadamard_factors,
    kronecker_svd,
    nearest_kronecker,
    product_svd,
    random_svd,
    rank_by_norm,
    rank_by_ratio,
    rank_by_sum,
    truncated_svd,
)

SIZES = st.integers(1, 12)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_values(rows: int, columns: int, values: Tensor) -> Tensor:
    """A matrix with these singular values."""
    left = torch.linalg.qr(randn(rows, len(values), seed=1))[0]
    right = torch.linalg.qr(randn(columns, len(values), seed=2))[0]
    return (left * values) @ right.t()


@given(rows=SIZES, columns=SIZES, rank=SIZES)
@settings(max_examples=25)
def test_a_product_of_thin_matrices_is_decomposed_without_being_built(rows: int, columns: int, rank: int) -> None:
    up, down = randn(rows, rank, seed=3), randn(rank, columns, seed=4)
    found = product_svd(up, down)
    torch.testing.assert_close(found.matrix(), up @ down)
    best = torch.linalg.svdvals(up @ down)[: found.rank]
    torch.testing.assert_close(found.values, best, atol=1e-9, rtol=1e-9)
    assert found.norm == pytest.approx(float(torch.linalg.matrix_norm(up @ down)))


@given(rank=st.integers(1, 12))
@settings(max_examples=12)
def test_the_first_terms_are_the_best_of_their_rank_and_tell_their_error(rank: int) -> None:
    up, down = randn(18, 12, seed=5), randn(12, 15, seed=6)
    values = torch.linalg.svdvals(up @ down)
    found = product_svd(up, down).first(rank)
    error = float(torch.linalg.matrix_norm(up @ down - found.matrix()))
    assert error == pytest.approx(float(values[rank:].norm()), abs=1e-10)
    assert found.error == pytest.approx(error, abs=1e-10)


@pytest.mark.parametrize("scale", [0.25, 4.0, -2.0])
def test_the_factors_give_the_matrix_with_their_scale(scale: float) -> None:
    matrix = randn(7, 9)
    up, down = exact_svd(matrix).factors(scale)
    torch.testing.assert_close(scale * up @ down, matrix)
    torch.testing.assert_close(up.norm(dim=0), down.norm(dim=1))  # neither leaves half precision before the other


@pytest.mark.parametrize("terms", [None, 4])
def test_a_kronecker_product_is_decomposed_by_its_factors(terms: int | None) -> None:
    one, two = randn(3, 4), randn(5, 2, seed=1)
    found = kronecker_svd(exact_svd(one), exact_svd(two), terms)
    best = torch.linalg.svdvals(torch.kron(one, two))
    torch.testing.assert_close(found.values, best[: found.rank])
    error = float(torch.linalg.matrix_norm(torch.kron(one, two) - found.matrix()))
    assert found.error == pytest.approx(error, abs=1e-9)
    assert (found.error < 1e-9) == (terms is None)


def test_a_hadamard_product_of_low_ranks_is_a_product_of_their_ranks_product() -> None:
    one, two = (randn(9, 2), randn(2, 8, seed=1)), (randn(9, 3, seed=2), randn(3, 8, seed=3))
    up, down = hadamard_factors(one, two)
    assert up.shape == (9, 6)
    torch.testing.assert_close(up @ down, (one[0] @ one[1]) * (two[0] @ two[1]))


def test_the_nearest_kronecker_product_finds_one_that_is_there() -> None:
    one, two = randn(3, 4), randn(5, 2 * 9, seed=1)
    found = nearest_kronecker(torch.kron(one, two), 9, (3, 4), seed=0)
    torch.testing.assert_close(torch.kron(*found), torch.kron(one, two), atol=1e-6, rtol=1e-6)


def test_the_nearest_kronecker_product_is_nearer_than_its_neighbours() -> None:
    matrix = randn(6, 8)
    one, two = nearest_kronecker(matrix, 1, (2, 4), seed=0)
    best = frobenius(matrix - torch.kron(one, two))
    for seed in range(4):
        moved = one + 1e-3 * randn(2, 4, seed=seed)
        assert frobenius(matrix - torch.kron(moved, two)) > best


def test_the_nearest_kronecker_product_of_a_large_matrix_is_as_near_as_the_exact_one() -> None:
    matrix = torch.kron(randn(9, 10), randn(8, 8, seed=1)) + 0.5 * randn(72, 80, seed=2)
    laid_out = matrix.reshape(9, 8, 10, 8).permute(0, 2, 1, 3).reshape(90, 64)
    found = nearest_kronecker(torch.kron(matrix, torch.ones(1, 2)), 2, (9, 10), seed=0)
    best = float(torch.linalg.svdvals(laid_out)[1:].norm()) * math.sqrt(2)
    error = frobenius(torch.kron(matrix, torch.ones(1, 2)) - torch.kron(*found))
    assert error == pytest.approx(best, rel=1e-4)


SPECTRA = {
    "steep": 0.7 ** torch.arange(120, dtype=torch.float64),
    "slow": 1 / (1 + torch.arange(120, dtype=torch.float64)),
    "flat": torch.ones(120, dtype=torch.float64),
    "exactly of that rank": torch.cat([torch.ones(16), torch.zeros(104)]).double(),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_a_sampled_decomposition_keeps_the_bound_and_tells_its_error(name: str) -> None:
    """Halko et al. 2011: theorem 10.5 (Frobenius, without iterations) bounds the mean; with them it is nearer."""
    values, rank = SPECTRA[name], 16
    matrix = with_values(200, 150, values)
    best = float(values[rank:].norm())
    found = random_svd(matrix, rank, seed=0)
    error = float(torch.linalg.matrix_norm(matrix - found.matrix()))
    assert found.error == pytest.approx(error, rel=1e-3, abs=1e-6)
    assert best - 1e-9 <= error <= 1.02 * best + 1e-9
    plain = random_svd(matrix, rank + OVERSAMPLING, seed=0, oversampling=0, power_iterations=0)
    factor = math.sqrt(1 + rank / (OVERSAMPLING - 1))
    assert plain.error <= 1.05 * factor * best + 1e-6


def test_the_spectral_error_keeps_the_bound_of_corollary_10_10() -> None:
    values, rank = SPECTRA["slow"], 16
    matrix = with_values(200, 150, values)
    found = random_svd(matrix, rank + OVERSAMPLING, seed=3, oversampling=0)
    error = float(torch.linalg.matrix_norm(matrix - found.matrix(), 2))
    constant = 1 + math.sqrt(rank / (OVERSAMPLING - 1))
    constant += math.e * math.sqrt(rank + OVERSAMPLING) / OVERSAMPLING * math.sqrt(150 - rank)
    assert error <= constant ** (1 / (2 * POWER_ITERATIONS + 1)) * float(values[rank])


def test_the_same_seed_gives_the_same_bits_and_another_seed_nearly_the_same() -> None:
    matrix = with_values(90, 150, SPECTRA["slow"][:90]).float()
    one, again, other = (random_svd(matrix, 8, seed) for seed in (5, 5, 6))
    assert torch.equal(one.left, again.left) and torch.equal(one.right, again.right)
    assert not torch.equal(one.left, other.left)
    torch.testing.assert_close(one.values, other.values, rtol=1e-3, atol=1e-4)


def test_single_precision_tells_an_error_that_subtracting_squares_could_not() -> None:
    values = torch.cat([torch.ones(8), 1e-6 * torch.ones(60)]).double()
    found = random_svd(with_values(100, 90, values).float(), 8, seed=0)
    assert found.error == pytest.approx(1e-6 * math.sqrt(60), rel=0.2)


@pytest.mark.parametrize(("rank", "exact"), [(40, False), (4, True)])
def test_small_matrices_and_those_asked_for_are_exact(rank: int, exact: bool) -> None:
    matrix = randn(60, 50)
    found = truncated_svd(matrix, rank, seed=0, exact=exact)
    assert found.error == pytest.approx(float(torch.linalg.svdvals(matrix)[rank:].norm()), abs=1e-10)


def test_ranks_are_chosen_as_sd_scripts_resize_chooses_them() -> None:
    """Each is the least rank that reaches the limit; sv_ratio keeps what is strictly above the largest / ratio."""
    values = torch.tensor([8.0, 4.0, 2.0, 1.0, 1.0])
    assert [rank_by_ratio(values, ratio) for ratio in (1.5, 2.1, 4.0, 4.1, 100.0)] == [1, 2, 2, 3, 5]
    assert [rank_by_sum(values, share) for share in (0.1, 0.5, 0.75, 0.76, 1.0)] == [1, 1, 2, 3, 5]
    norm = math.sqrt(86)
    assert [rank_by_norm(values, share, norm) for share in (0.5, 0.9, 0.97, 1.0)] == [1, 2, 3, 5]


def test_the_zero_matrix_has_rank_one_and_no_error() -> None:
    found = product_svd(torch.zeros(5, 3), torch.zeros(3, 4))
    assert rank_by_ratio(found.values, 10.0) == rank_by_sum(found.values, 0.9) == 1
    assert rank_by_norm(found.values, 0.9, found.norm) == 1
    assert found.first(1).relative_error == 0
    assert all(torch.isfinite(factor).all() for factor in found.first(1).factors())
