"""Conditioning: fitted once on the rows that are there, and the same for what comes later."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recbole_llm_interest.content.features import Features
from recbole_llm_interest.content.whitening import CONDITIONINGS, fit_conditioning
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.settings import REGISTRIES, ContentSettings, read_settings

KINDS = ["none", "standardize", "pca", "zca", "group_zca", "shrinkage"]


def condition(features, kind, **settings):
    """The features as a model sees them."""
    fitted = fit_conditioning(features, kind, **settings)
    return Features(replace(features, conditioning=fitted).conditioned(), features.present)


def correlated(rows=300, width=12):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(rows, width, generator=generator) @ torch.randn(width, width, generator=generator) + 3
    present = torch.rand(rows, generator=generator) > 0.1
    return Features(values, present)


def test_zca_gives_an_identity_covariance_to_the_rows_that_are_there():
    features = correlated()
    rows = condition(features, "zca").values[features.present]
    assert rows.mean(dim=0).abs().max() < 1e-4
    assert torch.allclose(rows.T @ rows / len(rows), torch.eye(12), atol=0.05)


def test_standardize_gives_unit_variance_by_column():
    features = correlated()
    rows = condition(features, "standardize").values[features.present]
    assert torch.allclose(rows.square().mean(dim=0), torch.ones(12), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_conditioning_never_looks_at_missing_rows(kind):
    features = correlated()
    spoilt = features.values.clone()
    spoilt[~features.present] = 1e6
    wanted = condition(features, kind).values[features.present]
    assert torch.equal(condition(Features(spoilt, features.present), kind).values[features.present], wanted)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_conditioning_stays_finite_where_nothing_varies(kind):
    features = Features(torch.ones(5, 3), torch.ones(5, dtype=torch.bool))
    assert condition(features, kind).values.abs().max() == 0


def test_group_zca_whitens_each_block_and_leaves_what_blocks_share():
    features = correlated()
    rows = condition(features, "group_zca", groups=3).values[features.present]
    covariance = rows.T @ rows / len(rows)
    for start in range(0, 12, 4):
        assert torch.allclose(covariance[start : start + 4, start : start + 4], torch.eye(4), atol=0.05)
    assert covariance[:4, 4:8].abs().max() > 0.1


def test_pca_keeps_the_leading_components_at_unit_variance():
    features = correlated()
    rows = condition(features, "pca", size=3).values[features.present]
    assert rows.shape[1] == 3
    assert torch.allclose(rows.T @ rows / len(rows), torch.eye(3), atol=1e-3)
    assert condition(features, "pca", size=99).values.shape[1] == 12
    # the leading component is where the variance is: torch's own decomposition has it, up to its sign
    centred = features.values[features.present] - features.values[features.present].mean(dim=0)
    leading = torch.linalg.svd(centred, full_matrices=False).U[:, 0] * len(rows) ** 0.5
    assert torch.allclose(rows[:, 0].abs(), leading.abs(), atol=1e-3)


def test_shrinkage_whitens_less_where_there_are_few_rows():
    def spread(rows):
        features = correlated(rows=rows)
        values = condition(features, "shrinkage").values[features.present]
        return float((values.T @ values / len(values) - torch.eye(12)).abs().max())

    assert spread(20) > 3 * spread(3000)


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_later_is_conditioned_as_the_table_was(kind):
    features = correlated()
    present = features.present[:7]
    whole = replace(features, conditioning=fit_conditioning(features, kind, size=5))
    later = Features(features.values[:7], features.present[:7], whole.conditioning)
    assert torch.allclose(later.conditioned()[present], whole.conditioned()[:7][present], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_is_enough(kind):
    present = torch.tensor([False, True])
    assert condition(Features(torch.randn(2, 6), present), kind).values.isfinite().all()


@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_directions_that_no_row_shows_stay_as_small_as_rounding_leaves_them(kind):
    """Eight rows of 384 columns: what is left of the other directions must not be blown up, nor taken for content."""
    generator = torch.Generator().manual_seed(0)
    features = Features(torch.randn(8, 384, generator=generator), torch.ones(8, dtype=torch.bool))
    fitted = fit_conditioning(features, kind)
    centred = features.values - fitted.mean
    outside = torch.randn(384, generator=generator)
    outside -= centred.T @ torch.linalg.pinv(centred.T) @ outside
    share = (outside @ fitted.weight).norm() / (centred @ fitted.weight).norm(dim=1).mean()
    assert share < 1e-4


def test_setting_has_the_registered_names(monkeypatch):
    assert list(REGISTRIES["feature_conditioning"]) == KINDS
    monkeypatch.setattr(CONDITIONINGS, "_members", dict(CONDITIONINGS._members))
    CONDITIONINGS.register("halve")(lambda centered, options: torch.eye(centered.shape[1], dtype=centered.dtype) / 2)
    kind = read_settings(ContentSettings, {"feature_conditioning": "halve"}).feature_conditioning
    features = correlated()
    expected = (features.values - features.values[features.present].mean(dim=0)) / 2
    assert torch.allclose(condition(features, kind).values[features.present], expected[features.present], atol=1e-5)


def test_unknown_conditioning_is_an_error_that_lists_the_names():
    with pytest.raises(SettingsError, match=r"zcaa.*did you mean 'zca'.*none, standardize, pca"):
        read_settings(ContentSettings, {"feature_conditioning": "zcaa"})
    with pytest.raises(SettingsError, match="unknown feature conditioning 'zcaa'"):
        fit_conditioning(correlated(), "zcaa")
