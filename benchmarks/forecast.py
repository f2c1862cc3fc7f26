"""Measure how well the interests of the next events are forecast, beside methods for time series.

    python benchmarks/forecast.py split --dataset=ml-100k --data_path=… --output=data
    python run_recbole.py --dataset=ml-100k-forecast --data_path=data --table=forecast
    python benchmarks/forecast.py measure --checkpoint=saved/LLMInterest-….safetensors --held_out=data/ml-100k-forecast
    python benchmarks/forecast.py show forecast-1.json forecast-2.json …

The last five events of each user with at least ten others are held out, so that training, validation and test of
run_recbole.py see none of them. An item belongs to one named interest; a user's history is a series of such interests.
Each method gives, for each of them, the share that it will have among the five events. Errors, means over interests:

- MAE: of the share.
- CRPS: of the share, too, whose distribution is that of a binomial number of events.

Methods: the model's forecast_interests; the last five events once more (persistence); all events (mean); exponential
smoothing, whose weight is chosen on the five events before those held out; ARIMA(1, 0, 1) of statsmodels, for each
interest that occurs in the history, or the mean where it cannot be fitted.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from hold_out import copy_atomic_files, copy_content, new_folder, read_source, write_text
from numpy.typing import NDArray
from scipy.stats import binom, ttest_rel, wilcoxon
from tabulate import tabulate
from tqdm import tqdm

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.recommender import Recommender

#: events that are forecast, and fewest events of a history before them
AHEAD, FEWEST = 5, 10
#: weights of the newest event in exponential smoothing
_WEIGHTS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
_HELD_OUT = "next_events.json"
_USERS_AT_ONCE = 64

#: the interests of events, one each, ``[T, G]``
Series = NDArray[np.float64]


def split(options: argparse.Namespace) -> None:
    """Write the data set without the events to forecast, and these beside it."""
    source, name = options.data_path / options.dataset, f"{options.dataset}-forecast"
    events = read_source(source, options.output / name)
    ordered = events.in_order()
    from_end = ordered.groupby(events.user).cumcount(ascending=False)
    counts = ordered.groupby(events.user)[events.item].transform("size")
    is_held_out = (from_end < AHEAD) & (counts >= FEWEST + AHEAD)
    following = ordered[is_held_out].groupby(events.user)[events.item].apply(list).to_dict()
    with new_folder(options.output / name) as folder:
        copy_atomic_files(source, folder, ("item", "user"))
        copy_content(source, folder)
        write_text(events.table[~is_held_out.reindex(events.table.index)], folder / f"{name}.inter")
        (folder / _HELD_OUT).write_text(json.dumps(following), encoding="utf-8")
    print(json.dumps({"dataset": name, "users": len(following), "events_held_out": int(is_held_out.sum())}))


def persistence(series: Series) -> NDArray[np.float64]:
    """The shares of the last events, ``[G]``."""
    return series[-AHEAD:].mean(axis=0)


def mean(series: Series) -> NDArray[np.float64]:
    """The shares of all events, ``[G]``."""
    return series.mean(axis=0)


def smoothing(series: Series, weight: float) -> NDArray[np.float64]:
    """Exponentially smoothed shares, ``[G]``, from the mean on."""
    ages = np.arange(len(series))[::-1]
    weights = weight * (1 - weight) ** ages
    return weights @ series + (1 - weights.sum()) * series.mean(axis=0)


def arima(series: Series) -> NDArray[np.float64]:
    """Forecasts of one ARIMA(1, 0, 1) for each interest that occurs, as shares, ``[G]``."""
    from statsmodels.tsa.arima.model import ARIMA

    shares = np.zeros(series.shape[1])
    for group in series.any(axis=0).nonzero()[0]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its convergence
            try:
                fitted = ARIMA(series[:, group], order=(1, 0, 1)).fit(method_kwargs={"maxiter": 30})
            except np.linalg.LinAlgError:  # the series cannot be fitted
                shares[group] = series[:, group].mean()
            else:
                shares[group] = np.clip(fitted.forecast(AHEAD), 0, 1).mean()
    return shares / shares.sum() if shares.sum() else mean(series)


def errors(share: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """MAE of the shares and CRPS of the counts of one user, means over interests."""
    at_most = binom.cdf(np.arange(AHEAD)[:, None], AHEAD, share.clip(0, 1))  # [AHEAD, G]
    reached = counts <= np.arange(AHEAD)[:, None]
    crps = ((at_most - reached) ** 2).sum(axis=0) / AHEAD
    return float(np.abs(share - counts / AHEAD).mean()), float(crps.mean())


def _model_shares(recommender: Recommender, users: list[str], samples: int) -> NDArray[np.float64]:
    """The model's mean over the events ahead, ``[U, G]``."""
    column = {name: number for number, name in enumerate(recommender.interest_map.names)}
    shares = np.zeros((len(users), len(column)))
    for start in tqdm(range(0, len(users), _USERS_AT_ONCE), desc="Model", unit="batch"):
        state = recommender.start(users[start : start + _USERS_AT_ONCE])
        for row, steps in enumerate(recommender.forecast_interests(state, AHEAD, samples), start=start):
            for interest in (interest for step in steps for interest in step):
                shares[row, column[interest.name]] += interest.weight / AHEAD
    return shares


def _chosen_weight(series: dict[str, Series]) -> float:
    """The weight of exponential smoothing with the least CRPS on the last events of the histories."""

    def crps(weight: float) -> float:
        found = [errors(smoothing(s[:-AHEAD], weight), s[-AHEAD:].sum(axis=0).astype(int))[1] for s in series.values()]
        return float(np.mean(found))

    return min(_WEIGHTS, key=crps)


def measure(options: argparse.Namespace) -> None:
    """Print the errors of all methods on the users of a sample, and write those of each user."""
    recommender = Recommender.load(options.checkpoint, data_path=str(options.held_out.parent))
    following = json.loads((options.held_out / _HELD_OUT).read_text(encoding="utf-8"))
    known = sorted(user for user, items in following.items() if all(item in recommender.items for item in items))
    users = [known[row] for row in np.random.default_rng(0).permutation(len(known))[: options.users]]
    group = recommender.interest_map.group(recommender.items.representations).numpy()
    one_hot = np.eye(len(recommender.interest_map.names))
    series, counts = {}, {}
    for user in users:
        state = recommender.start(user)
        series[user] = one_hot[group[state.items[0, : int(state.length)].numpy()]]
        counts[user] = one_hot[group[recommender.items.find(following[user]).numpy()]].sum(axis=0).astype(int)
    weight = _chosen_weight(series)
    methods: dict[str, Callable[[Series], NDArray[np.float64]]] = {
        "persistence": persistence,
        "mean of the history": mean,
        f"exponential smoothing, weight {weight:g}": lambda one: smoothing(one, weight),
        "ARIMA(1, 0, 1)": arima,
    }
    shares = {name: [method(series[user]) for user in tqdm(users, desc=name)] for name, method in methods.items()}
    shares["the model"] = list(_model_shares(recommender, users, options.samples))
    found = {
        name: np.array([errors(share, counts[user]) for user, share in zip(users, of_method, strict=True)])
        for name, of_method in shares.items()
    }
    print(f"{len(users)} of {len(following)} users, {one_hot.shape[1]} interests\n")
    print(_table(found))
    frame = {f"{name}: {error}": of[:, i] for name, of in found.items() for i, error in enumerate(("MAE", "CRPS"))}
    pd.DataFrame(frame, index=users).to_json(options.output, orient="split")
    print(f"\nerrors of each user: {options.output}")


def show(options: argparse.Namespace) -> None:
    """Print the mean errors over several models, such as those of several seeds; tests are over users."""
    frames = [pd.read_json(path, orient="split", dtype=False) for path in options.files]
    if any(not frame.index.equals(frames[0].index) or [*frame] != [*frames[0]] for frame in frames):
        raise DataError(f"{', '.join(map(str, options.files))} are of different users or methods")
    mean_of_models = sum(frame.to_numpy() for frame in frames) / len(frames)
    names = [column.removesuffix(": MAE") for column in frames[0] if column.endswith(": MAE")]
    pairs = np.split(mean_of_models, len(names), axis=1)
    print(f"{len(frames[0])} users, {len(frames)} models\n")
    print(_table(dict(zip(names, pairs, strict=True))))


def _table(found: dict[str, NDArray[np.float64]]) -> str:
    """Means, and p of each method against the model by the paired t test and Wilcoxon's."""
    rows = []
    for name, of_method in found.items():
        row = [name]
        for error in (0, 1):
            own, model = of_method[:, error], found["the model"][:, error]
            p = "" if name == "the model" else f"{ttest_rel(own, model).pvalue:.2g}, {wilcoxon(own, model).pvalue:.2g}"
            row += [f"{own.mean():.4f}", p]
        rows.append(row)
    header = ["method", "MAE of the share", "p (t, W)", "CRPS", "p (t, W)"]
    return str(tabulate(rows, header, tablefmt="github", disable_numparse=True))


def main() -> None:
    """Run the subcommand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    splitting = commands.add_parser("split", help="write a data set without the events to forecast")
    splitting.add_argument("--dataset", required=True)
    splitting.add_argument("--data_path", type=Path, required=True)
    splitting.add_argument("--output", type=Path, required=True, help="folder in which NAME-forecast is made")
    splitting.set_defaults(run=split)
    measuring = commands.add_parser("measure", help="measure the forecasts of a trained model and of other methods")
    measuring.add_argument("--checkpoint", required=True)
    measuring.add_argument("--held_out", type=Path, required=True, help="folder of the data set that split wrote")
    measuring.add_argument("--users", type=int, default=500, help="users drawn at random")
    measuring.add_argument("--samples", type=int, default=32, help="continuations that the model draws of each user")
    measuring.add_argument("--output", type=Path, default=Path("forecast.json"), help="errors of each user")
    measuring.set_defaults(run=measure)
    showing = commands.add_parser("show", help="print means over several models")
    showing.add_argument("files", type=Path, nargs="+", help="written by measure")
    showing.set_defaults(run=show)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was written"))
