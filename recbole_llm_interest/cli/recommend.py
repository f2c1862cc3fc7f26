"""``llm-interest recommend``: the next items for a user, by a trained model."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tabulate import tabulate

from recbole_llm_interest.cli.arguments import parse_arguments
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.model_checks import USER_LINES, check_recommendation
from recbole_llm_interest.cli.parsers import recommend_parser
from recbole_llm_interest.cluster import open_executor
from recbole_llm_interest.errors import RequestError, SettingsError
from recbole_llm_interest.io.escaping import markdown_cell, one_line
from recbole_llm_interest.io.opening import FileKind, is_folder, parse_json, read_lines
from recbole_llm_interest.recommender import Recommender, UserState
from recbole_llm_interest.recommender.loading import checkpoint_in_use, load_opened
from recbole_llm_interest.recommender.recommend_all import write_all

#: interests and parts of an explanation that are printed
_INTERESTS = 5
_PARTS = 10
_POOL = FileKind("pool", RequestError, 1_000_000_000, "name a file of JSON lines, each with an item_id")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = recommend_parser()

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        check_recommendation(options, overrides)
        if options.all:
            _recommend_to_all(options, overrides)
            return
        with _loaded(options, overrides) as recommender:
            answer = _recommend(recommender, options)
        if options.json:
            show_json(answer)
        else:
            show(_as_text(answer))
        if options.save_state and not options.json:
            show(f"\nstate: {one_line(options.save_state)}")

    return exit_code(job, kept="nothing was changed")


def _recommend_to_all(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Write the items of every user, or of those in a file, and print how many users that were."""
    users = None if options.users is None else _read_ids(Path(options.users))
    recommender, start = Recommender.load(options.checkpoint, **overrides), time.perf_counter()
    chosen = {"users": users, "exclude_seen": options.exclude_seen}
    load = partial(Recommender.load, options.checkpoint, **overrides)
    try:
        with open_executor(options.ray) as executor:
            made = write_all(recommender, Path(options.output), options.k, **chosen, executor=executor, load=load)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note("the same command goes on behind the last finished part")
        raise
    if options.json:
        show_json({**asdict(made), "seconds": round(time.perf_counter() - start, 3)})
    else:
        before = f", {made.users_done_before:,} of them before" if made.users_done_before else ""
        show(f"{one_line(made.path)}: the best items of {made.users:,} users{before}")


@contextmanager
def _loaded(options: argparse.Namespace, overrides: dict[str, Any]) -> Iterator[Recommender]:
    """Load the recommender, and lock its data set while a state is made from it and written."""
    if is_folder(Path(options.checkpoint)):
        yield Recommender.from_pretrained(options.checkpoint, **overrides)
    elif options.save_state:
        with checkpoint_in_use(Path(options.checkpoint), overrides) as opened:
            yield Recommender(load_opened(opened))
    else:
        yield Recommender.load(options.checkpoint, **overrides)


def _recommend(recommender: Recommender, options: argparse.Namespace) -> dict[str, Any]:
    """Return the output as plain values, and save the state if requested."""
    if options.pool:
        recommender.add_pool(options.pool, _read_pool(Path(options.pool)))
    state = _read_state(recommender, options)
    answer = _answer(recommender, state, options)
    if options.save_state:
        recommender.save(state, options.save_state)
    return answer


def _read_state(recommender: Recommender, options: argparse.Namespace) -> UserState:
    """The state that the options describe.

    Raises:
        SettingsError: options exclude each other, or there is not one time for each event.
    """
    history = None if options.history is None else _words(options.history)
    times = _numbers(options.times)
    if options.state is None:
        return recommender.start(options.user, profile=_read_profile(options) or None, history=history, at=times)
    return _restore_state(recommender, options, history or [], times)


def _restore_state(
    recommender: Recommender, options: argparse.Namespace, history: Sequence[str], times: Sequence[float | None] | None
) -> UserState:
    """The saved state after these events."""
    if options.user is not None or _read_profile(options):
        raise SettingsError("command line: --state has the user already: leave --user and --profile_… out")
    if times is not None and len(times) != len(history):
        raise SettingsError(
            f"command line: {len(history)} items in --history and {len(times)} times in --times: give one for each"
        )
    state = recommender.restore(options.state)
    for position, item in enumerate(history):
        state = recommender.update(state, item, times[position] if times is not None else None)
    return state


def _read_profile(options: argparse.Namespace) -> dict[str, str]:
    values = {name: getattr(options, f"profile_{name}") for name in ("text", "image", "audio")}
    return {name: value for name, value in values.items() if value}


def _read_context(words: Sequence[str]) -> dict[str, str] | None:
    """The columns of ``--context``; None for none.

    Raises:
        SettingsError: a word is not COLUMN=VALUE.
    """
    for word in words:
        if "=" not in word:
            raise SettingsError(f"command line: --context={word}: write it as COLUMN=VALUE")
    return dict(word.split("=", maxsplit=1) for word in words) or None


def _read_pool(path: Path) -> dict[str, dict[str, Any]]:
    """The content of new items by id, as ``add_pool`` takes it.

    Raises:
        RequestError: the file cannot be read, or a line is not an item.
    """
    items: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(read_lines(path, _POOL), start=1):
        try:
            content = parse_json(line)
            item = content.pop("item_id")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise RequestError(f"pool {path}, line {number}: it is not a JSON object with an item_id") from error
        if not isinstance(item, str) or item in items:
            raise RequestError(f"pool {path}, line {number}: item_id {item!r} is not text, or occurs twice")
        items[item] = content
    return items


def _read_ids(path: Path) -> list[str]:
    """The lines of a file that are not empty."""
    return [user for line in read_lines(path, USER_LINES) if (user := line.rstrip("\r\n"))]


def _words(value: str | None) -> list[str]:
    return value.split(",") if value else []


def _numbers(value: str | None) -> list[float] | None:
    try:
        return None if value is None else [float(word) for word in _words(value)]
    except ValueError as error:
        raise SettingsError(f"command line: --times={value} is not a list of numbers: {error}") from error


def _answer(recommender: Recommender, state: UserState, options: argparse.Namespace) -> dict[str, Any]:
    """What the command prints, as plain values."""
    context = _read_context(options.context)
    best = recommender.recommend(
        state,
        options.k,
        context=context,
        candidates=options.pool or (None if options.candidates is None else _words(options.candidates)),
        exclude=_words(options.exclude),
        exclude_seen=options.exclude_seen,
        min_diversity=options.min_diversity,
    )
    answer: dict[str, Any] = {
        "events": int(state.length[0]),
        "recommendations": [{"item": item, "title": recommender.label(item), "score": score} for item, score in best],
        "interests": [asdict(interest) for interest in recommender.interests(state, _INTERESTS)],
    }
    if options.forecast:
        answer["forecast"] = [
            {
                "item": step.item,
                "title": recommender.label(step.item),
                "probability": step.probability,
                "then": recommender.interests(step.state, 1)[0].name,
            }
            for step in recommender.forecast(state, options.forecast)
        ]
    if options.explain:
        answer["explanation"] = asdict(recommender.explain(state, options.explain, context))
    return answer


def _as_text(answer: dict[str, Any]) -> str:
    """The answer as tables."""
    interests = [
        {
            "interest": one["name"],
            "share": "-" if one["share"] is None else f"{one['share']:.0%}",
            "typical items": "; ".join(one["items"]),
            "weight": one["weight"],
        }
        for one in answer["interests"]
    ]
    parts = [f"after {answer['events']} events", _table(answer["recommendations"]), _table(interests)]
    if "forecast" in answer:
        parts.append(_table(answer["forecast"]))
    if "explanation" in answer:
        parts += _explanation_as_text(answer["explanation"])
    return "\n\n".join(parts)


def _explanation_as_text(explanation: dict[str, Any]) -> list[str]:
    kind = "sum to the score" if explanation["is_exact"] else "loss without each"
    parts = [f"{one_line(explanation['item'])} has the score {explanation['score']:.3f}:"]
    for title, key in ((f"item ({kind})", "of_item"), ("user (loss without each)", "of_user")):
        shown = explanation[key][:_PARTS]
        if shown:  # a new user without events has no parts
            parts.append(
                _table([{title: p["title"] or p["name"], "points": p["points"], "share": p["share"]} for p in shown])
            )
    return parts


def _table(rows: list[dict[str, Any]]) -> str:
    align = ["right" if isinstance(value, float) else "left" for value in rows[0].values()]
    cells = [[f"{v:.3f}" if isinstance(v, float) else markdown_cell(v) for v in row.values()] for row in rows]
    return tabulate(cells, list(rows[0]), tablefmt="github", colalign=align, disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
