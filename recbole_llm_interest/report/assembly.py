"""Chooses the report's sections from a comparison's table and a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recbole_llm_interest.content.dataset_files import read_item_column
from recbole_llm_interest.errors import DataError, RequestError
from recbole_llm_interest.evaluation.results import RunResult, fingerprint, read_results
from recbole_llm_interest.io.manifest import Artifact
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender.loading import OpenedCheckpoint, load_opened
from recbole_llm_interest.recommender.trained import Trained
from recbole_llm_interest.report import model_sections, sections, stream_section
from recbole_llm_interest.report.findings import Finding, finding_notes, findings
from recbole_llm_interest.report.sections import Section
from recbole_llm_interest.report.statistics import (
    MapMethod,
    interest_trajectory,
    item_map,
    modality_weights,
    suggestions,
)

#: the sections by name, those for everybody first
_ORDER = ("metrics", "popularity", "recommendations", "interest", "map", "modalities", "stream", "costs", "training")
#: recommended items of each kind, seen items kept and filtered
_MAX_SUGGESTIONS = 5
#: name of the fact that identifies the data
_FINGERPRINT = "fingerprint of the data"


@dataclass
class Report:
    """What a report shows.

    Attributes:
        findings: the result of the comparison in sentences.
        finding_notes: how to read them.
        facts: what it is about, by name.
        sections: in the order of the page.
        absent: for each part that it lacks, one line on how to get it.
        source: the checkpoint that it is on, as manifests record it; None for a report without a model.
    """

    findings: list[Finding] = field(default_factory=list)
    finding_notes: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    source: Artifact | None = None

    def add(self, section: Section | None, otherwise: str) -> None:
        """Add a section, or where it is None the line ``otherwise`` on how to get it."""
        if section is None:
            self.absent.append(otherwise)
        else:
            self.sections.append(section)


@dataclass(frozen=True)
class ModelOptions:
    """What the report shows of a model.

    Attributes:
        user: token of the user whose interest is drawn; None for nobody.
        titles: column of the items' names; None for their tokens.
        category: column of the items' categories; None for the interests that they are of.
        events: number of the user's last events.
        layout: how the map is computed.
    """

    user: str | None = None
    titles: str | None = None
    category: str | None = None
    events: int = 30
    layout: MapMethod = "tsne"


def assemble(
    checkpoint: OpenedCheckpoint | None, table: Path | None, options: ModelOptions, stream: Path | None = None
) -> Report:
    """Collect the sections of a report.

    Args:
        checkpoint: of a trained ``LLMInterest``; None for a report without a model.
        table: JSON file of a comparison on the same data set; None for a report without one.
        options: what is shown of the model.
        stream: folder of a stream that the model follows; None for a report without one.

    Raises:
        LLMInterestError: the table, the checkpoint or the stream's evaluation cannot be read, they are of different
            data sets, or the user or a column is unknown.
    """
    report = Report()
    if table is None:
        report.absent.append(
            "the result of a comparison, its figures and training curves: give its JSON file by --table"
        )
    else:
        _add_table(report, _read_table(table), checkpoint and checkpoint.path)
    if checkpoint is None:
        report.absent.append(
            "recommendations, interests, what the model reads, map of the items: give a checkpoint by --checkpoint"
        )
    else:
        _add_model(report, checkpoint, options)
    if stream is not None:
        report.sections.append(stream_section.stream(stream))
    report.sections.sort(key=lambda section: _ORDER.index(section.name))
    return report


def _read_table(path: Path) -> list[RunResult]:
    results = read_results(path)
    if not results:
        raise DataError(f"{path} holds no runs: there is nothing to show")
    if len(names := sorted({result.dataset for result in results})) > 1:
        raise DataError(f"{path} holds runs on {len(names)} data sets ({', '.join(names)}): give one of a comparison")
    return results


def _add_table(report: Report, results: Sequence[RunResult], checkpoint: Path | None) -> None:
    """Sections and facts of a comparison; the training curves are of the checkpoint's run, or else of the first."""
    of_checkpoint = [run for run in results if checkpoint and Path(run.checkpoint).name == checkpoint.name]
    run = [*of_checkpoint, *results][0]
    report.add(sections.training(run), "training curves: the table has none of this run; that of a new run has")
    report.add(sections.comparison(results), "metrics: the table's first run has none of all events")
    report.add(sections.beyond_accuracy(results), "coverage, novelty and costs: the table has none")
    report.add(
        sections.popularity(results),
        "rare and frequent items: the table lacks the items' training events; that of a new run has them",
    )
    report.findings, report.finding_notes = findings(results), finding_notes(results)
    commits = dict.fromkeys(str(run.environment_info.get("commit") or "unknown") for run in results)
    report.facts |= {
        "data set": run.dataset,
        _FINGERPRINT: ", ".join(dict.fromkeys(fingerprint(result.data) for result in results)),
        "tested on": f"{run.test_events:,} events, each ranked among {run.candidates}",
        "models": ", ".join(dict.fromkeys(run.variant for run in results)),
        "random seeds": ", ".join(map(str, sorted({run.seed for run in results}))),
        "version of the code (git commit)": ", ".join(commits),
    }


def _add_model(report: Report, checkpoint: OpenedCheckpoint, options: ModelOptions) -> None:
    """Sections and facts of a trained model.

    Raises:
        DataError: the table is of another data set, or a column does not exist.
        RequestError: the user is unknown.
    """
    config = checkpoint.config
    if report.facts.get("data set", config["dataset"]) != config["dataset"]:
        raise DataError(
            f"the table is of data set {report.facts['data set']!r}, and {checkpoint.path} of {config['dataset']!r}: "
            "give those of one data set"
        )
    separator = config["seq_separator"]
    titles = {} if options.titles is None else read_item_column(config, options.titles)
    categories = None if options.category is None else read_item_column(config, options.category)
    trained = load_opened(checkpoint)
    report.source = trained.source
    if options.user is not None and options.user not in trained.users:
        raise RequestError(
            f"unknown user {options.user!r}: it is not among the {len(trained.users)} users of the data set"
        )
    recommender = Recommender(trained)
    recommender.items.labels = {token: separator.join(words) for token, words in titles.items()}
    report.sections.append(_modality_section(trained))
    path = _add_user(report, recommender, options)
    report.sections.append(model_sections.items(item_map(recommender, categories, path, options.layout), options.user))
    report.facts |= {
        "data set": config["dataset"],
        _FINGERPRINT: report.facts.get(_FINGERPRINT, fingerprint(trained.data)),
        "checkpoint of the model": checkpoint.path.name,
        "items": f"{len(recommender.items):,}",
        "trainable parameters": f"{sum(w.numel() for w in trained.model.parameters() if w.requires_grad):,}",
    }


def _modality_section(trained: Trained) -> Section:
    encoders = {"items": trained.model.item_encoder, "users": trained.model.user_encoder}
    weights = {kind: modality_weights(encoder) for kind, encoder in encoders.items() if encoder is not None}
    return model_sections.modalities({kind: of_kind for kind, of_kind in weights.items() if of_kind})


def _add_user(report: Report, recommender: Recommender, options: ModelOptions) -> list[str]:
    """The sections of the user's future and past; returns the items of the user's last events, by token."""
    if options.user is None:
        report.absent.append(
            "a user's recommendations, interest over time and path over the map: give a user by --user"
        )
        return []
    best = suggestions(recommender, options.user, _MAX_SUGGESTIONS)
    report.sections.append(model_sections.recommendations(best, options.user))
    trajectory = interest_trajectory(recommender, options.user, options.events)
    report.sections.append(model_sections.interest(trajectory, options.user))
    return trajectory.items
