"""A video list: recommendations for a viewer before and after a few events, and for videos that are new.

``python examples/videos.py`` generates the data, trains and prints; docs/examples.md explains the results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from making import command, train
from tabulate import tabulate
from video_site import ROUTINES, Site, Visit, visits, write_site

from recbole_llm_interest.evaluation.table import as_table, write_comparison
from recbole_llm_interest.io.variants import Variant
from recbole_llm_interest.recommender import Recommender, UserState

ROWS = [
    Variant("LLMInterest", "LLMInterest"),
    Variant("IDs alone", "LLMInterest", {"modalities": [], "use_item_id": True}),
    "Pop",
]
#: of a new viewer, whose routine is baking, then astronomy, then jazz, with at most two videos on each
PROFILE = ROUTINES[0][1]
#: subjects of which they watch two videos each, and one on which no video is in the training data
WATCHED, NEW = ["rye loaves", "black holes"], "improvising on the saxophone"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    return command("videos", _videos, arguments, viewers=1200, new_viewers=500)


def _videos(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    random = np.random.default_rng(options.seed)
    site = Site(random)
    folder = options.data_path / "videos"
    best = write_site(folder, site, options.viewers, random)
    results = train(ROWS, folder, options, overrides)
    table = write_comparison(results, folder / "table")[0]
    recommender = Recommender.load(results[0].checkpoint)
    print(f"\n{as_table(results)}The best possible, knowing each viewer's routine: recall@10 {best:.4f}")
    _show_a_viewer(recommender, site)
    _show_new_videos(recommender, site, visits(site, options.new_viewers, 12, random))
    print(f"\ndata: {folder} | table: {table} | checkpoint: {results[0].checkpoint}")


def _show_a_viewer(recommender: Recommender, site: Site) -> None:
    """Recommendations for a new viewer: by the profile alone, after two events, after four, and with a new video."""
    by_token = {video.token: video for video in site.videos}

    def show(state: UserState, title: str) -> None:
        best = [(by_token[item], score) for item, score in recommender.recommend(state, 5, exclude_seen=True)]
        rows = [(video.title, video.topic, f"{score:.1f}") for video, score in best]
        print(f"\n{title}\n{tabulate(rows, ['next', 'topic', 'score'], tablefmt='github', disable_numparse=True)}")
        print("interests:", "; ".join(f"{one.name} {one.weight:.2f}" for one in recommender.interests(state, 3)))

    state = recommender.start(profile={"profile": PROFILE})
    show(state, f'A new viewer says: "{PROFILE}"')
    for subject in WATCHED:
        watched = site.on(subject)[:2]
        for video in watched:
            state = recommender.update(state, video.token)
        show(state, f"They watch {' and '.join(video.title for video in watched)}:")
    new = site.on(NEW)[0]
    recommender.add_item(new.token, new.columns)
    everything = [item for item, _ in recommender.recommend(state, len(recommender.items))]
    rank, count = everything.index(new.token) + 1, len(everything)
    print(f'\n"{new.title}" is added without training: rank {rank} of {count} for this viewer')
    recommender.remove_item(new.token)


def _show_new_videos(recommender: Recommender, site: Site, viewers: list[Visit]) -> None:
    """New viewers choose among new videos, all on subjects that are not in the training data."""
    recommender.add_pool("new", {video.token: video.columns for video in site.videos if video.is_new})
    state = recommender.start(history=[site.tokens(viewer) for viewer in viewers])
    chances = np.stack([viewer.chances(among_new=True) for viewer in viewers])
    rows = {video.token: row for row, video in enumerate(site.videos)}
    shown = np.array([
        [rows[item] for item, _ in user] for user in recommender.recommend(state, 10, candidates="new")
    ])  # fmt: skip
    found = np.take_along_axis(chances, shown, axis=1).sum(axis=1).mean()
    best = np.sort(chances, axis=1)[:, -10:].sum(axis=1).mean()
    count = len(recommender.pools["new"])
    print(
        f"\n{len(viewers)} new viewers choose one of {count} new videos, on new subjects. Probability that it is among "
        f"the first ten:\nby LLMInterest {found:.3f}, by chance {10 / count:.3f}, at best {best:.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
