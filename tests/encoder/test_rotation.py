import numpy as np
import numpy.typing as npt
import pytest

from pipelines.encoder.matryoshka import slice_renormalise
from pipelines.encoder.rotation import Moment, Rotation, mixing
from pipelines.errors import ModelError


def corpus(rows: int = 3000, dim: int = 24, seed: int = 0) -> npt.NDArray[np.float32]:
    """Vectors whose energy lies in directions that are no coordinate's."""
    rng = np.random.default_rng(seed)
    mix_DD = np.linalg.qr(rng.standard_normal((dim, dim)))[0] * np.linspace(3, 0.1, dim)[:, None]
    return slice_renormalise((rng.standard_normal((rows, dim)) @ mix_DD).astype(np.float32), dim)


def test_nothing_changes_at_full_dimension() -> None:
    x_ND = corpus()
    rotated_ND = Rotation.fit(Moment.of(x_ND)).apply(x_ND)
    assert np.abs(rotated_ND[:100] @ rotated_ND.T - x_ND[:100] @ x_ND.T).max() < 1e-5


def test_a_slice_holds_the_most_that_any_of_its_size_can() -> None:
    x_ND = corpus()
    moment = Moment.of(x_ND)
    rotated_ND = Rotation.fit(moment).apply(x_ND)
    for dim in (1, 4, 12, 24):
        best = (np.linalg.svd(x_ND, compute_uv=False)[:dim] ** 2).sum()
        held = (rotated_ND[:, :dim].astype(np.float64) ** 2).sum()
        assert held == pytest.approx(best, rel=1e-5)
        assert moment.energy(dim) == pytest.approx(held / len(x_ND), rel=1e-5)
        assert Rotation.fit(moment).energy(moment, dim) == pytest.approx(moment.energy(dim), rel=1e-5)


def test_parts_give_the_moment_of_the_whole() -> None:
    x_ND = corpus()
    parts = Moment.none(24).plus(Moment.of(x_ND[:1000])).plus(Moment.of(x_ND[1000:]))
    assert parts.rows == len(x_ND)
    assert np.allclose(parts.sum_DD, Moment.of(x_ND).sum_DD, rtol=1e-5, atol=1e-4)


def test_the_order_of_the_rows_changes_no_sign() -> None:
    x_ND = corpus()
    one, other = Rotation.fit(Moment.of(x_ND)), Rotation.fit(Moment.of(x_ND[::-1].copy()))
    assert np.abs(one.matrix_DD - other.matrix_DD).max() < 1e-2


def test_drift_is_none_where_nothing_changed_and_grows_with_another_corpus() -> None:
    moment, others = Moment.of(corpus()), Moment.of(corpus(seed=1))
    rotation = Rotation.fit(moment)
    assert rotation.drift(moment, (4, 12)) == pytest.approx(0, abs=1e-6)
    assert rotation.drift(moment.plus(others), (4, 12)) > 0.05
    assert rotation.drift(others, (4,)) > rotation.drift(moment.plus(others), (4,))


def test_no_vectors_and_vectors_that_are_no_numbers_fit_nothing() -> None:
    broken = corpus()
    broken[3, 3] = np.nan
    for moment in (Moment.none(24), Moment.of(broken)):
        with pytest.raises(ModelError, match="cannot be fitted"):
            Rotation.fit(moment)


def test_vectors_of_another_dimension_are_refused() -> None:
    with pytest.raises(ModelError, match="dimension 24, the vectors of 8"):
        Rotation.fit(Moment.of(corpus())).apply(corpus(dim=8))


def test_mixing_changes_no_inner_product_and_leaves_the_other_coordinates() -> None:
    x_ND = corpus()
    mixed_ND = mixing(24, 16).apply(x_ND)
    assert np.array_equal(mixed_ND[:, 16:], x_ND[:, 16:])
    assert np.abs(mixed_ND[:100, :16] @ mixed_ND[:, :16].T - x_ND[:100, :16] @ x_ND[:, :16].T).max() < 1e-5
    assert np.array_equal(mixing(24, 16).matrix_DD, mixing(24, 16).matrix_DD)


def test_mixed_coordinates_hold_about_as_much_each() -> None:
    x_ND = corpus()
    fitted = Rotation.fit(Moment.of(x_ND))
    held_D = (fitted.apply(x_ND) ** 2).mean(axis=0)
    mixed_D = (fitted.then(mixing(24, 24)).apply(x_ND) ** 2).mean(axis=0)
    assert held_D.max() > 100 * held_D.min()
    assert mixed_D.max() < 10 * mixed_D.min()
