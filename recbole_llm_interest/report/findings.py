"""The result of a comparison in sentences: which model did best, by how much, and whether that may be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recbole_llm_interest.evaluation.collector import FILTERED
from recbole_llm_interest.evaluation.comparison import Estimate, VariantSummary, base_metric, estimate, summarize
from recbole_llm_interest.evaluation.results import RunResult, fingerprint
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.registration import REGISTERED

#: a difference with a larger p-value may be chance
_MAX_P = 0.05
#: title and meaning of each protocol, by the prefix of its metrics
_PROTOCOLS = {
    "": ("Seen items kept", "the models may recommend any item, also one that the user has had before"),
    FILTERED: ("Seen items filtered", "the models may recommend only items that the user has not had before"),
}


@dataclass(frozen=True)
class Finding:
    """What a comparison shows by one protocol.

    Attributes:
        protocol: its name.
        meaning: of the protocol, in words.
        sentences: the result; the first says which model did best.
    """

    protocol: str
    meaning: str
    sentences: list[str]


@dataclass(frozen=True)
class _Ranking:
    """The variants by one metric, the best first.

    Attributes:
        metric: as ``estimate`` takes it.
        variants: those that have it.
        values: of each, by name.
        p: the larger p-value of both tests of each variant against the best, by name; without those not tested.
    """

    metric: str
    variants: list[VariantSummary]
    values: dict[str, Estimate]
    p: dict[str, float]


def findings(results: Sequence[RunResult]) -> list[Finding]:
    """Say what a comparison shows, by each protocol that it has.

    Args:
        results: the runs; the first one's validation metric is the one that counts.
    """
    found = []
    for prefix, (name, meaning) in _PROTOCOLS.items():
        ranking = _ranking(results, prefix)
        if ranking.variants:
            found.append(Finding(name, meaning, _sentences(results, ranking)))
    return found


def metric_title(metric: str) -> str:
    """Return a metric's name, of ``base_metric``, as the report writes it.

    >>> metric_title("ndcg@10"), metric_title("recall@5")
    ('NDCG@10', 'recall@5')
    """
    name, at, k = metric.partition("@")
    return f"{name.upper() if name in ('ndcg', 'mrr') else name}{at}{k}"


def _ranking(results: Sequence[RunResult], prefix: str) -> _Ranking:
    metric = prefix + base_metric(results[0].valid_metric)
    estimates = {variant.name: estimate(variant.runs, metric) for variant in summarize(results)}
    values = {name: value for name, value in estimates.items() if value is not None}
    order = sorted(values, key=lambda name: -values[name].mean)
    if not order:
        return _Ranking(metric, [], {}, {})
    variants = summarize([run for name in order for run in results if run.variant == name])
    return _Ranking(metric, variants, values, _larger_p_values(variants, prefix))


def _larger_p_values(variants: Sequence[VariantSummary], prefix: str) -> dict[str, float]:
    """The larger p-value of both tests against the first variant, by name; without those not tested."""
    tests = {variant.name: variant.filtered_p_values if prefix else variant.p_values for variant in variants}
    return {name: max(both.t, both.wilcoxon) for name, both in tests.items() if both is not None}


def _sentences(results: Sequence[RunResult], ranking: _Ranking) -> list[str]:
    best, *others = ranking.variants
    value = f"{metric_title(base_metric(ranking.metric))} {ranking.values[best.name].mean:.4f}"
    tested = f"{results[0].test_events:,} test events"
    if not others:
        return [f"{best.name}: {value}, over {tested}. The table has no other model to compare it with."]
    if not _are_comparable(results):
        return ["The models were not tested on the same events of the same data: none of them can be called better."]
    following = others[0]
    p = ranking.p.get(following.name)
    verdict = "is first" if p is None else "is first, but not for certain" if p > _MAX_P else "did best"
    is_stock = following in _stock(ranking)[:1] and best not in _stock(ranking)
    who = "The next, and the best of RecBole's own models," if is_stock else "The next"
    first = f"{best.name} {verdict}: {value} over {tested}. {_lead(ranking, following, who)}"
    return [first, *_on_stock_model(ranking), *_on_ours(ranking), *_on_hits(ranking)]


def _are_comparable(results: Sequence[RunResult]) -> bool:
    data = {fingerprint(run.data) for run in results if run.files}
    return len({run.test_digest for run in results}) == 1 and len(data) <= 1


def _stock(ranking: _Ranking) -> list[VariantSummary]:
    """RecBole's own models, the best first."""
    return [variant for variant in ranking.variants if variant.runs[0].model not in REGISTERED]


def _on_stock_model(ranking: _Ranking) -> list[str]:
    """The lead over the best of RecBole's own models, unless that is the best or the next."""
    stock = _stock(ranking)
    if not stock or stock[0] in ranking.variants[:2]:
        return []
    return [_lead(ranking, stock[0], "The best of RecBole's own models")]


def _on_ours(ranking: _Ranking) -> list[str]:
    """How far ``LLMInterest`` is behind, unless one of its variants is the best or the next."""
    ours = [variant for variant in ranking.variants if variant.runs[0].model == LLMInterest.__name__]
    if not ours or ours[0] in ranking.variants[:2]:
        return []
    return [_lead(ranking, ours[0], "The best variant of LLMInterest" if len(ours) > 1 else "This package's model")]


def _lead(ranking: _Ranking, other: VariantSummary, who: str) -> str:
    """One sentence on the best variant's lead over another."""
    best, value = ranking.values[ranking.variants[0].name].mean, ranking.values[other.name].mean
    relative = f" ({best / value - 1:+.0%})" if value > 0 else ""
    lead = f"{who} is {other.name} with {value:.4f}: the lead is {best - value:.4f}{relative}"
    p = ranking.p.get(other.name)
    if p is None:
        return f"{lead}; not tested for chance, because the table lacks the ranks of the events."
    if p > _MAX_P:
        return f"{lead}, which may be chance ({p_text(p)})."
    return f"{lead}, which is unlikely to be chance ({p_text(p)})."


def p_text(p: float) -> str:
    """Return a p-value in a sentence.

    >>> p_text(0.0004), p_text(0.03), p_text(0.341), p_text(1.0)
    ('p < .001', 'p = .030', 'p = .34', 'p = 1.00')
    """
    return "p < .001" if p < 0.001 else f"p = {f'{p:.3f}' if p <= _MAX_P else f'{p:.2f}'}".replace(" 0.", " .")


def _on_hits(ranking: _Ranking) -> list[str]:
    """How often the item that came next was among the first that the best and the next variant recommend."""
    _, _, k = base_metric(ranking.metric).partition("@")
    prefix = FILTERED if ranking.metric.startswith(FILTERED) else ""
    shown = {variant.name: estimate(variant.runs, f"{prefix}recall@{k}") for variant in ranking.variants[:2]}
    shares: Mapping[str, str] = {name: f"{value.mean:.1%}" for name, value in shown.items() if value is not None}
    if not k or len(shares) < 2:
        return []
    (best, share), (following, other) = shares.items()
    return [
        f"In {share} of the tests, the item that came next was among the first {k} that {best} recommended, and in "
        f"{other} among those of {following}."
    ]


def finding_notes(results: Sequence[RunResult]) -> list[str]:
    """Say how to read the sentences: the metric, the p-value, and how much a training varies."""
    variants = summarize(results)
    metric = metric_title(base_metric(results[0].valid_metric))
    name, _, k = metric.partition("@")
    notes = []
    if name == "NDCG":
        notes.append(
            f"{metric} is 1 if the item that came next always stands first, less the further down it stands, and 0 if "
            f"it is never among the first {k}."
        )
    if any(variant.p_values or variant.filtered_p_values for variant in variants):
        notes.append(
            "p is the probability of a difference at least as large between two models that are equally good: the "
            "larger value of a paired t-test and Wilcoxon's signed-rank test, with Holm's correction for the number of "
            "models."
        )
    seeds = sorted({run.seed for run in results})
    if len(seeds) == 1:
        notes.append(f"Each model was trained once (seed {seeds[0]}): p does not cover how much a new training varies.")
    else:
        notes.append(f"Values are means of {len(seeds)} trainings of each model, with different random seeds.")
    return notes
