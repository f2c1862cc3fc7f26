"""``python -m recbole_llm_interest.report --checkpoint=… --table=…``: a page of figures on a trained model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_llm_interest.cli.common import bare_parser, exit_code, parse_arguments
from recbole_llm_interest.data.dataset import item_column
from recbole_llm_interest.errors import DataError, RequestError, SettingsError
from recbole_llm_interest.evaluation.results import RunResult, read_results
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender.loading import load_trained, read_configuration
from recbole_llm_interest.report import sections
from recbole_llm_interest.report.page import write_report
from recbole_llm_interest.report.sections import Section
from recbole_llm_interest.report.statistics import item_map, journey, modality_weights

_DESCRIPTION = """
Writes one HTML file that works offline, and its figures as PNG. From a table: training curves, metrics against
baselines, cold and warm items. From a checkpoint: what modalities count, a map of the items, and one user's interest
through time. Any setting that is otherwise than in training, as data_path: --key=value. The report names a user only if
--user does, and has items' titles only if --titles says which column they are; otherwise items go by their ids.
Interests are called by words that many texts of a group have.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = _parser()

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        _check(options, overrides)
        results = _results(options.table)
        shown: list[Section | None] = []
        absent: list[str] = []
        facts: dict[str, str] = {}
        if results:
            _add_table(results, options.checkpoint, shown, absent, facts)
        else:
            absent.append("training curves, metrics, cold and warm items: name a comparison's JSON file by --table")
        if options.checkpoint:
            _add_model(options, overrides, results, shown, absent, facts)
        else:
            absent.append("modalities, interest through time, map of the items: name a checkpoint by --checkpoint")
        there = [section for section in shown if section is not None]
        title = f"LLMInterest on {facts['data set']}"
        folder = Path(options.output or _default_folder(options))
        page, *pictures = write_report(folder, title, facts, there, absent)
        print(f"report: {page} | pictures: {', '.join(map(str, pictures))}")

    return exit_code(job, kept="no report was written, or the one before is still there")


def _parser() -> argparse.ArgumentParser:
    parser = bare_parser("python -m recbole_llm_interest.report", _DESCRIPTION)
    parser.add_argument("--checkpoint", help="of LLMInterest, as run_recbole.py writes them")
    parser.add_argument("--table", help="JSON file of a comparison on the same data set, as run_recbole.py writes them")
    parser.add_argument("--user", help="whose interest is drawn; the report then names this user")
    parser.add_argument("--titles", metavar="COLUMN", help="column of the items' file by which they are called [ids]")
    parser.add_argument("--category", metavar="COLUMN", help="column that colours the map; of a list, the first word "
                        "counts [the interests]")  # fmt: skip
    parser.add_argument("--events", type=int, default=30, help="how many of the user's last events are drawn [30]")
    parser.add_argument("--map", choices=["pca", "tsne"], default="pca", help="how the map is laid out [pca]")
    parser.add_argument("--output", help="folder for the report [report-… beside the checkpoint or table]")
    return parser


def _check(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    if not options.checkpoint and not options.table:
        raise SettingsError("command line: there is nothing to show: give --checkpoint, --table, or both")
    if not options.checkpoint:
        given = [name for name in ("user", "titles", "category") if getattr(options, name)] + list(overrides)
        if given:
            raise SettingsError(f"command line: --{given[0]} needs a model: give --checkpoint too")
    if options.events < 2:
        raise SettingsError(f"command line: --events={options.events}: at least 2 are needed to see something move")


def _default_folder(options: argparse.Namespace) -> Path:
    source = Path(options.checkpoint or options.table)
    return source.with_name(f"report-{source.stem}")


def _results(table: str | None) -> list[RunResult]:
    if table is None:
        return []
    results = read_results(Path(table))
    if not results:
        raise DataError(f"{table} holds no runs: there is nothing to show")
    if len(names := sorted({result.dataset for result in results})) > 1:
        raise DataError(f"{table} holds runs on {len(names)} data sets ({', '.join(names)}): give one of a comparison")
    return results


def _add_table(
    results: Sequence[RunResult],
    checkpoint: str | None,
    shown: list[Section | None],
    absent: list[str],
    facts: dict[str, str],
) -> None:
    """What the table of a comparison says."""
    trained = [run for run in results if checkpoint and Path(run.checkpoint).name == Path(checkpoint).name]
    first = [*trained, *results][0]
    shown += [sections.training(first), sections.comparison(results), sections.popularity(results)]
    if shown[0] is None:
        absent.append("training curves: the table keeps none of this run; a new run's does")
    if shown[2] is None:
        absent.append("cold and warm items: the table does not keep how well known they are; a new run's does")
    facts["data set"] = first.dataset
    facts["test"] = f"{first.test_events:,} events, each ranked among {first.candidates}"
    facts["rows"] = ", ".join(dict.fromkeys(run.row for run in results))
    facts["seeds"] = ", ".join(map(str, sorted({run.seed for run in results})))
    facts["made by commits"] = ", ".join(
        dict.fromkeys(run.environment_info.get("commit") or "unknown" for run in results)
    )


def _add_model(
    options: argparse.Namespace,
    overrides: dict[str, Any],
    results: Sequence[RunResult],
    shown: list[Section | None],
    absent: list[str],
    facts: dict[str, str],
) -> None:
    """What the trained model says."""
    path = Path(options.checkpoint)
    _, config = read_configuration(path, overrides)
    if results and results[0].dataset != config["dataset"]:
        raise DataError(
            f"{options.table} is of data set {results[0].dataset!r}, and {path} of {config['dataset']!r}: they make no "
            "report together"
        )
    between = config["seq_separator"]
    titles = {} if options.titles is None else item_column(config, options.titles)
    categories = None if options.category is None else item_column(config, options.category)
    trained = load_trained(path, overrides)
    if options.user is not None and options.user not in trained.users:
        raise RequestError(f"unknown user {options.user!r}: it is not among the {len(trained.users)} users")
    recommender = Recommender(trained)
    recommender.items.labels = {token: between.join(words) for token, words in titles.items()}
    kinds = {"items": trained.model.item_fusion, "users": trained.model.user_fusion}
    weights = {kind: modality_weights(fusion) for kind, fusion in kinds.items() if fusion is not None}
    shown.append(sections.modalities({kind: found for kind, found in weights.items() if found}))
    events: list[str] = []
    if options.user is None:
        absent.append("a user's interest through time, and path over the map: name a user by --user")
    else:
        found = journey(recommender, options.user, options.events)
        events = found.items
        shown.append(sections.interest(found, options.user))
    shown.append(sections.items(item_map(recommender, categories, events, options.map), options.user))
    facts["data set"] = config["dataset"]
    facts["checkpoint"] = path.name
    facts["items"] = f"{len(recommender.items):,}"
    facts["trainable parameters"] = f"{sum(w.numel() for w in trained.model.parameters() if w.requires_grad):,}"


if __name__ == "__main__":
    sys.exit(main())
