"""Ad selection: the best ad of a pool for each viewer, and the probability of a click.

``python examples/ads.py`` generates the data, trains and prints; docs/examples.md explains the results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from making import command, train, write_jsonl
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score
from tabulate import tabulate
from video_site import Site, Visit, visits, write_site

from recbole_llm_interest.content.encoders import create_encoder
from recbole_llm_interest.recommender import Calibration, Recommender
from recbole_llm_interest.settings import ContentSettings

#: ads that were shown at random to each viewer, for the log of clicks
_SHOWN = 15
_PRINTED = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    return command("ads", _ads, arguments, viewers=1200, new_viewers=1000)


def _ads(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    random = np.random.default_rng(options.seed)
    site = Site(random)
    folder = options.data_path / "videos"
    write_site(folder, site, options.viewers, random)
    pool = {ad: {"text": text} for ad, (text, _) in site.ads.items()}
    write_jsonl(folder / "ads.jsonl", [{"item_id": ad, **content} for ad, content in pool.items()])
    checkpoint = train(["LLMInterest"], folder, options, overrides)[0].checkpoint

    # viewers who are not in the training data: half for calibration, half for the test
    recommender = Recommender.load(checkpoint)
    recommender.add_pool("ads", pool)
    viewers = visits(site, options.new_viewers, 12, random)
    state = recommender.start(history=[site.tokens(viewer) for viewer in viewers])
    ranked = [dict(user) for user in recommender.recommend(state, len(pool), candidates="ads")]
    scores = np.array([[user[ad] for ad in pool] for user in ranked])
    truth = np.stack([viewer.click_chances() for viewer in viewers])
    known, test = np.split(np.arange(len(viewers)), 2)

    # the log of clicks on ads that were shown at random
    shown = random.permuted(np.tile(np.arange(len(pool)), (len(viewers), 1)), axis=1)[:, :_SHOWN]
    logged = np.take_along_axis(scores, shown, axis=1)
    chance = np.take_along_axis(truth, shown, axis=1)
    clicked = random.random(shown.shape) < chance
    calibration = Calibration.fit(logged[known].ravel(), clicked[known].ravel())

    most_clicked = np.bincount(shown[known].ravel(), clicked[known].ravel(), len(pool)).argmax()
    _print_choices(
        truth[test],
        {
            "the ad most often clicked in the log": np.full(len(test), most_clicked),
            "the ad nearest by text to the last video": _nearest_by_text(site, [viewers[row] for row in test]),
            "LLMInterest": scores[test].argmax(axis=1),
            "the best possible": truth[test].argmax(axis=1),
        },
    )
    _print_probabilities(calibration, logged[test].ravel(), chance[test].ravel(), clicked[test].ravel())
    _print_of_chosen(calibration, scores[test], truth[test])
    _print_viewers(site, [viewers[row] for row in test[:_PRINTED]], calibration, scores[test], truth[test])
    print(f"\ndata: {folder} | ads: {folder / 'ads.jsonl'} | checkpoint: {checkpoint}")


def _nearest_by_text(site: Site, viewers: Sequence[Visit]) -> NDArray[np.int64]:
    """For each viewer, the ad with the text nearest to that of the last video, by the text encoder; ``[B]``."""
    encoder = create_encoder("text", ContentSettings())
    last = [site.videos[viewer.watched[-1]] for viewer in viewers]
    videos = encoder.encode([f"{video.title} {video.text}" for video in last])
    ads = encoder.encode([text for text, _ in site.ads.values()])
    return np.asarray((videos @ (ads / np.linalg.norm(ads, axis=1, keepdims=True)).T).argmax(axis=1))


def _print_choices(truth: NDArray[np.float64], choices: dict[str, NDArray[np.int64]]) -> None:
    rows = [("any ad", truth.mean())]
    rows += [(name, truth[np.arange(len(truth)), choice].mean()) for name, choice in choices.items()]
    print(f"\nOne of {truth.shape[1]} ads, none of which is in a history, for {len(truth)} new viewers:\n")
    print(tabulate(rows, ["what is shown", "click-through rate"], tablefmt="github", floatfmt=".3f"))


def _print_probabilities(
    calibration: Calibration, scores: NDArray[np.float64], chance: NDArray[np.float64], clicked: NDArray[np.bool_]
) -> None:
    predicted = calibration.probability(scores)
    parts = calibration.reliability(scores, clicked)
    print(f"\nThe probability of a click for {len(predicted):,} ads shown at random, in ten bins:\n")
    print(tabulate([(part.count, part.probability, part.clicked) for part in parts],
                   ["shown", "predicted", "clicked"], tablefmt="github", floatfmt=("", ".3f", ".3f")))  # fmt: skip
    constant = np.full_like(predicted, clicked.mean())
    print(
        f"\nexpected calibration error {calibration.error(scores, clicked):.4f}\n"
        f"area under the ROC curve {roc_auc_score(clicked, predicted):.3f}, by the true probabilities "
        f"{roc_auc_score(clicked, chance):.3f}, by chance 0.500\n"
        f"log loss {log_loss(clicked, predicted):.4f}, by the true probabilities {log_loss(clicked, chance):.4f}, by "
        f"one probability for all {log_loss(clicked, constant):.4f}"
    )


def _print_of_chosen(calibration: Calibration, scores: NDArray[np.float64], truth: NDArray[np.float64]) -> None:
    predicted = calibration.probability(scores.max(axis=1)).mean()
    true = truth[np.arange(len(truth)), scores.argmax(axis=1)].mean()
    print(f"click rate of the ads that LLMInterest chose: predicted {predicted:.3f}, true {true:.3f}")


def _print_viewers(
    site: Site,
    viewers: Sequence[Visit],
    calibration: Calibration,
    scores: NDArray[np.float64],
    truth: NDArray[np.float64],
) -> None:
    texts = [text for text, _ in site.ads.values()]
    rows = []
    for viewer, score, true in zip(viewers, scores, truth, strict=False):
        ad = score.argmax()
        predicted = float(calibration.probability(score[ad]))
        rows.append((site.videos[viewer.watched[-1]].title, texts[ad], predicted, true[ad], texts[true.argmax()]))
    print("\nThe first few of them:\n")
    header = ["watched last", "ad chosen", "predicted", "true", "best ad"]
    print(tabulate(rows, header, tablefmt="github", floatfmt=".2f"))


if __name__ == "__main__":
    sys.exit(main())
