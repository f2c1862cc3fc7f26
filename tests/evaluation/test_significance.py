"""Intervals and tests, against scipy, statsmodels and simulations with a known answer."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import bootstrap, rankdata, wilcoxon
from statsmodels.stats.multitest import multipletests

from recbole_llm_interest.evaluation.significance import bootstrap_interval, holm, means_by_user, paired_p_values


def gains(chance, events, share=0.3):
    """NDCG-like gains: most are 0, the others one of ten values."""
    return np.where(chance.random(events) < share, 1 / np.log2(chance.integers(2, 12, events)), 0.0)


@pytest.mark.parametrize("values", ["few", "many"])
def test_interval_is_scipys_percentile_interval(values):
    """Both ways to draw, by kinds of equal users and by users, agree with scipy up to the error of sampling."""
    chance = np.random.default_rng(0)
    drawn = gains(chance, 500) if values == "few" else chance.exponential(size=500)
    theirs = bootstrap((drawn,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    error = 0.1 * (theirs.high - theirs.low) / 2
    assert bootstrap_interval(drawn) == pytest.approx((theirs.low, theirs.high), abs=error)
    assert bootstrap_interval(drawn) == bootstrap_interval(drawn)


@pytest.mark.slow
def test_interval_covers_the_true_mean_19_times_in_20():
    chance = np.random.default_rng(1)
    truth = 0.3 * np.mean(1 / np.log2(np.arange(2, 12)))
    intervals = [bootstrap_interval(gains(chance, 400)) for _ in range(300)]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.95 - 3 * np.sqrt(0.95 * 0.05 / 300) < covered <= 0.99


def correlated(chance, users=60, events=12):
    """Users who differ in how often they are served well, with several events each."""
    rates = np.repeat(chance.beta(0.5, 0.5, users), events)
    return (chance.random(users * events) < rates).astype(float), np.repeat(np.arange(users), events)


def test_interval_over_users_is_wider_if_their_events_are_alike():
    values, users = correlated(np.random.default_rng(2))
    low, high = bootstrap_interval(values, users)
    naive_low, naive_high = bootstrap_interval(values)
    assert high - low > 2 * (naive_high - naive_low)
    theirs = bootstrap((means_by_user(values, users),), np.mean, method="percentile", rng=1).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.1 * (high - low))


@pytest.mark.slow
def test_interval_over_users_covers_the_true_mean_and_that_over_events_does_not():
    chance = np.random.default_rng(3)
    drawn = [correlated(chance) for _ in range(150)]
    by_user = np.mean([low <= 0.5 <= high for low, high in (bootstrap_interval(*of) for of in drawn)])
    by_event = np.mean([low <= 0.5 <= high for low, high in (bootstrap_interval(values) for values, _ in drawn)])
    assert by_user > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 150)
    assert by_event < 0.75


def test_interval_weighs_users_by_their_events():
    """The mean over events is inside the interval, also where users with many events differ from others."""
    users = np.repeat(np.arange(200), np.where(np.arange(200) < 100, 1, 20))
    values = (users >= 100) * np.random.default_rng(4).random(len(users))
    low, high = bootstrap_interval(values, users)
    assert low < values.mean() < high
    assert means_by_user(values, users).mean() < low


def test_equal_gains_have_no_interval():
    assert bootstrap_interval(np.zeros(50)) is None
    assert bootstrap_interval(np.ones(3), [0, 0, 1]) is None


@pytest.mark.slow
def test_interval_of_100_000_events_takes_seconds():
    values = gains(np.random.default_rng(5), 100_000)
    start = time.process_time()
    low, high = bootstrap_interval(values)
    assert time.process_time() - start < 5
    error = 1.96 * values.std() / np.sqrt(len(values))  # the normal approximation holds for so many
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.1 * error)


def test_wilcoxon_ranks_zero_differences_and_drops_them():
    """Pratt's method by hand: the normal approximation to the sum of the positive differences' ranks."""
    chance = np.random.default_rng(6)
    one, other = gains(chance, 300), gains(chance, 300, share=0.2)
    difference = one - other
    ranks = rankdata(np.abs(difference))
    signs = np.sign(difference)
    by_hand = (signs * ranks).sum() / np.sqrt((ranks[signs != 0] ** 2).sum())
    [p] = paired_p_values(one, [other], "wilcoxon")
    assert p == pytest.approx(wilcoxon(one, other, zero_method="pratt").pvalue)
    from scipy.stats import norm

    assert p == pytest.approx(2 * norm.sf(abs(by_hand)), rel=0.02)
    assert p < 0.05
    assert paired_p_values(one, [one.copy()], "wilcoxon") == [1.0]


@pytest.mark.parametrize("test", ["t", "wilcoxon"])
def test_holms_correction_is_over_all_rows(test):
    chance = np.random.default_rng(7)
    reference = gains(chance, 200)
    others = [np.clip(reference + chance.normal(shift, 0.2, 200), 0, 1) for shift in (0.05, 0.0, 0.2, 0.02)]
    alone = [paired_p_values(reference, [other], test)[0] for other in others]
    together = paired_p_values(reference, others, test)
    assert together == pytest.approx(multipletests(alone, method="holm")[1])
    assert together != pytest.approx(alone)
    assert paired_p_values(reference, [], test) == []


def test_holm_equals_statsmodels():
    chance = np.random.default_rng(8)
    for count in (1, 2, 7):
        raw = chance.random(count) ** 3
        assert holm(raw) == pytest.approx(multipletests(raw, method="holm")[1])
    assert holm([0.01, 0.01, 0.9]) == pytest.approx([0.03, 0.03, 0.9])
