"""Searches a model's settings by RecBole's HyperTuning, on the validation split alone.

``python -m recbole_llm_interest.tuning --model=SASRec --dataset=ml-100k --trials=10`` ends here. What it finds is a row
for ``run_recbole.py --rows=FILE``, with a note of what the search was given.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter
from recbole.config import Config
from tqdm import tqdm
from typing_extensions import TypedDict  # the one that pydantic takes before Python 3.12

from recbole_llm_interest.cli.common import exit_code, parse_arguments, settings_parser
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.evaluation.variants import Variant
from recbole_llm_interest.io.files import exclusive_lock, write_text
from recbole_llm_interest.settings import PROPERTIES, check_keys
from recbole_llm_interest.training.config import configure, keys_of_files
from recbole_llm_interest.training.experiment import best_validation_score
from recbole_llm_interest.training.run_metadata import explicit_settings, json_values

_ALGORITHMS = ("random", "bayes", "exhaustive")
#: where the row or its trials cannot be written
_OTHERWISE = "give another place by --output"
#: given settings that a row leaves to the comparison: what is tested and reported, not how it is trained and chosen
_LEFT_TO_THE_COMPARISON = {"model", "dataset", "metrics", "topk"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = settings_parser("python -m recbole_llm_interest.tuning", "Search a model's settings on validation data.")
    parser.add_argument("--model", "-m", default="LLMInterest", help="a model's name [LLMInterest]")
    parser.add_argument("--space", help="search space in RecBole's form [properties/search/MODEL.hyper]")
    parser.add_argument("--algorithm", choices=_ALGORITHMS, default="random", help="how settings are drawn [random]")
    parser.add_argument("--trials", type=int, default=10, help="how many are tried; exhaustive tries all [10]")
    parser.add_argument("--output", help="where the row is written [tuned/MODEL-DATASET.yaml]; trials lie beside it")

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        if options.trials < 1:
            raise SettingsError(f"trials={options.trials}: a search needs at least one")
        output = Path(options.output or f"tuned/{options.model}-{options.dataset}.yaml")
        with exclusive_lock(output, _OTHERWISE):
            row = tune(
                options.model,
                options.dataset,
                options.config_files,
                overrides,
                space=Path(options.space or PROPERTIES / "search" / f"{options.model}.hyper"),
                output=output,
                algorithm=options.algorithm,
                trials=options.trials,
            )
        print(f"{row.note}\nrow: {output} | trials: {output.with_suffix('.json')}")

    return exit_code(job, kept="finished trials are kept: the same command goes on with the others")


def tune(
    model: str,
    dataset: str,
    config_file_list: Sequence[str] = (),
    config_dict: dict[str, Any] | None = None,
    *,
    space: Path,
    output: Path,
    algorithm: str = "random",
    trials: int = 10,
) -> Variant:
    """Search, and write the best settings to ``output`` as a row of a comparison, with those that all trials shared.

    A trial whose training diverges has failed, and the search goes on.

    Args:
        model: the model's name.
        dataset: name of the data set.
        config_file_list: YAML files, as in RecBole's ``run``.
        config_dict: settings of all trials; a trial's own go before these.
        space: the search space, a file as RecBole's HyperTuning reads them.
        output: the row's file; the trials lie beside it as JSON, and those that it holds are not run again.
        algorithm: ``random``, ``bayes`` or ``exhaustive``.
        trials: how many settings are tried.

    Raises:
        LLMInterestError: the space, the settings or the data cannot be used, or all trials diverged.
    """
    from recbole.trainer import HyperTuning

    shared = dict(config_dict or {})
    first = configure(model, dataset, config_file_list, shared)
    lines = _lines(space)
    search_is = {"model": model, "dataset": dataset, "space": lines, "algorithm": algorithm, "seed": first["seed"]}
    log = TrialLog(output.with_suffix(".json"), explicit_settings(first) | search_is)

    bigger = first["valid_metric_bigger"]
    bar = tqdm(desc=f"Searching {model}", unit="trial", ncols=100, disable=not first["show_progress"])

    def objective(drawn: dict[str, Any], _: object = None) -> dict[str, Any]:
        drawn = json_values(drawn)  # hyperopt makes tuples of lists, which the log does not hold
        config = configure(model, dataset, config_file_list, {**shared, **drawn})
        config["show_progress"] = False  # one bar is enough
        score = log.score(drawn, config)
        bar.update()
        best = log.best(bigger)
        bar.set_postfix_str(f"{first['valid_metric']} {_shown(score)}, best {_shown(best['score'] if best else None)}")
        return {
            "model": model,
            "best_valid_score": score if score is not None else -math.inf if bigger else math.inf,
            "valid_score_bigger": bigger,
            "best_valid_result": {},
            "test_result": {},
        }

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), bar:
        warnings.simplefilter("ignore")  # hyperopt's, about how it was packaged
        try:
            search = HyperTuning(objective, params_file=str(space), algo=algorithm, max_evals=trials)
        except (ValueError, SyntaxError) as error:
            raise SettingsError(f"search space {space} is not in RecBole's form: {error}") from error
        if not search.space:
            raise SettingsError(f"search space {space} has no line such as 'learning_rate choice [0.001,0.003]'")
        check_keys(search.space)
        search.early_stop_fn = None  # all trials are wanted, and it could not go on from a first one that diverged
        bar.reset(search.max_evals)
        os.environ["HYPEROPT_FMIN_SEED"] = str(first["seed"])  # RecBole passes none on
        search.run()
    best = log.best(bigger)
    if best is None:
        raise SettingsError(
            f"{model}: training diverged (its loss became NaN) in all {len(log.trials)} trials of {log.path}: give a "
            "space with lower learning rates by --space, and another --output"
        )
    drawn = best["drawn"]
    diverged = sum(trial["score"] is None for trial in log.trials)
    note = (
        f"{', '.join(f'{key}={value}' for key, value in drawn.items())}: the best of {len(log.trials)} trials by "
        f"validation {first['valid_metric']}, {best['score']:.4f}; at most {drawn.get('epochs', first['epochs'])} "
        f"epochs each{f', {diverged} of them diverged' if diverged else ''}; {algorithm} search over {', '.join(lines)}"
    )
    given = {*keys_of_files(config_file_list), *shared} - _LEFT_TO_THE_COMPARISON
    settings = {key: value for key, value in explicit_settings(first).items() if key in given} | drawn
    described = {model: {"model": model, **settings, "note": note}}
    write_text(output, yaml.safe_dump(described, sort_keys=False, width=120), _OTHERWISE)
    return Variant(model, model, settings, note)


def _lines(space: Path) -> list[str]:
    """The lines of a search space, less spacing and empty ones."""
    try:
        text = space.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SettingsError(f"search space {space} does not exist: give one by --space") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"search space {space} is not a readable text file: {error}") from error
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"


class _Trial(TypedDict):
    """What was drawn, the score, None where training diverged, and the epochs."""

    drawn: dict[str, Any]
    score: float | None
    epochs: int


class TrialLog:
    """The trials of a search, in a JSON file that is written anew after each.

    Args:
        path: the file; trials that it holds are not run again.
        shared: the settings of all trials, and of the search.

    Attributes:
        trials: of each, what was ``drawn``, its ``score``, None where training diverged, and its ``epochs``.

    Raises:
        SettingsError: the file is of another search.
    """

    def __init__(self, path: Path, shared: dict[str, Any]) -> None:
        self.path = path
        self.shared = shared
        self.trials: list[_Trial] = []
        if not path.exists():
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self.trials = TypeAdapter(list[_Trial]).validate_python(found["trials"])
            before = TypeAdapter(dict[str, Any]).validate_python(found["shared"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise SettingsError(f"{path} does not hold the trials of a search: give another --output") from error
        for key in sorted({*before, *shared}):
            if before.get(key) != shared.get(key):
                raise SettingsError(
                    f"{path} holds trials of a search with other settings, {key}={before.get(key)!r}, now "
                    f"{shared.get(key)!r}: give another --output"
                )

    def score(self, drawn: dict[str, Any], config: Config) -> float | None:
        """The score of a trial, which is run if it has not been; None where its training diverged."""
        for trial in self.trials:
            if trial["drawn"] == drawn:
                return trial["score"]
        score, epochs = best_validation_score(config)
        self.trials.append({"drawn": drawn, "score": score, "epochs": epochs})
        write_text(self.path, json.dumps({"shared": self.shared, "trials": self.trials}, indent=1) + "\n", _OTHERWISE)
        return score

    def best(self, bigger: bool) -> _Trial | None:
        """The trial with the best score, the first of equal ones; None where no trial has one."""
        scored = [(trial["score"], trial) for trial in self.trials if trial["score"] is not None]
        return (max if bigger else min)(scored, key=lambda pair: pair[0], default=(None, None))[1]


if __name__ == "__main__":
    raise SystemExit(main())
