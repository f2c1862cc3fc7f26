"""Reply selection for customer service: the turns of a dialogue are the sequence, and replies are items.

``python examples/replies.py`` generates the data, trains and prints; docs/examples.md explains the results.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from making import command, train, write_dataset
from numpy.typing import NDArray
from scipy.special import logit, softmax
from service_desk import REPLIES, Turn, dialogue
from sklearn.linear_model import LogisticRegression
from tabulate import tabulate

from recbole_llm_interest.content.encoders import create_encoder
from recbole_llm_interest.io.variants import Variant
from recbole_llm_interest.recommender import Calibration, Recommender
from recbole_llm_interest.settings import ContentSettings

#: whole dialogues are for training, later ones for validation: if last turns were held out, no goodbye would be trained
SETTINGS = {
    "eval_args": {"split": {"RS": [0.85, 0.1, 0.05]}, "group_by": None, "order": "TO", "mode": "full"},
    "projection": "linear",
}
ROWS = [
    Variant("LLMInterest", "LLMInterest"),
    Variant("IDs alone", "LLMInterest", {"modalities": [], "use_item_id": True}),
]
_REWORDED = ", reworded"
#: one dialogue -> for each turn of the agent's, the replies with their probabilities, the likeliest first
Answers = Callable[[Sequence[Turn]], list[list[tuple[str, float]]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    return command("replies", _replies, arguments, dialogues=1200, new_dialogues=100)


def _replies(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    random = np.random.default_rng(options.seed)
    folder = options.data_path / "service"
    recorded = [dialogue(random) for _ in range(options.dialogues)]
    tokens = {words: reply for reply, (words, _) in REPLIES.items()}
    for turn in (turn for turns in recorded for turn in turns):
        tokens.setdefault(turn.text, f"turn-{len(tokens)}")
    write_dataset(
        folder,
        {f"dialogue-{number}": [tokens[turn.text] for turn in turns] for number, turns in enumerate(recorded)},
        [{"item_id": token, "text": text} for text, token in tokens.items()],
    )
    checkpoints = [result.checkpoint for result in train(ROWS, folder, options, {**SETTINGS, **overrides})]
    reading, by_ids = map(Recommender.load, checkpoints)
    reading.add_pool("replies", list(REPLIES))
    by_ids.add_pool("replies", list(REPLIES))
    reading.add_pool("reworded", {reply + _REWORDED: {"text": words} for reply, (_, words) in REPLIES.items()})
    desk = Desk(reading, tokens, "replies")

    heard, unheard = ([dialogue(random, is_new) for _ in range(options.new_dialogues)] for is_new in (False, True))
    variants: dict[str, Answers] = {
        "the most frequent reply": _most_frequent(recorded),
        "logistic regression on the last turn's text": LastTurn(recorded),
        "IDs alone, without turns that are not in training": Desk(by_ids, tokens, "replies", reads=False),
        "LLMInterest": desk,
        "LLMInterest, all replies reworded": Desk(reading, tokens, "reworded"),
    }
    rows = [("any reply", *[min(k, len(REPLIES)) / len(REPLIES) for k in (1, 3)] * 2)]
    rows += [(name, *_recall(answers, heard), *_recall(answers, unheard)) for name, answers in variants.items()]
    rows.append(("the best possible", *_best(heard), *_best(unheard)))
    header = ["what chooses among the replies", "recall@1", "@3", "in new words: recall@1", "@3"]
    print(f"\n{len(REPLIES)} replies, {len(heard)} and {len(unheard)} dialogues that are not in the training data:\n")
    print(tabulate(rows, header, tablefmt="github", floatfmt=".3f"))
    calibration = _print_calibration(desk, heard, unheard)
    _print_dialogue(unheard[-1], desk, calibration)
    print(f"\ndata: {folder} | checkpoints: {', '.join(checkpoints)}")


class Desk:
    """A recommender that follows a dialogue and proposes each next reply.

    Args:
        recommender: trained on dialogues.
        tokens: of turns, by their words.
        pool: of the items among which it chooses.
        reads: whether it adds new turns by their content; otherwise it skips them.
    """

    def __init__(self, recommender: Recommender, tokens: dict[str, str], pool: str, reads: bool = True) -> None:
        self._recommender = recommender
        self._tokens = tokens
        self._pool = pool
        self._reads = reads

    def __call__(self, turns: Sequence[Turn]) -> list[list[tuple[str, float]]]:
        """The ranked replies at each turn of the agent."""
        state, found = self._recommender.start(), []
        for turn in turns:
            if turn.reply is not None:
                best = self._recommender.recommend(state, len(REPLIES), candidates=self._pool)
                items = [item.removesuffix(_REWORDED) for item, _ in best]
                found.append(list(zip(items, softmax([score for _, score in best]).tolist(), strict=True)))
            if (item := self._item(turn.text)) is not None:
                state = self._recommender.update(state, item)
        return found

    def _item(self, text: str) -> str | None:
        """The item of a turn; None if it is new and cannot be added."""
        item = self._tokens.setdefault(text, f"turn-{len(self._tokens)}")
        if item in self._recommender.items:
            return item
        if not self._reads:
            return None
        self._recommender.add_item(item, {"text": text})
        return item


class LastTurn:
    """Logistic regression of the reply on the encoded text of the last turn."""

    def __init__(self, dialogues: Sequence[Sequence[Turn]]) -> None:
        self._encoder = create_encoder("text", ContentSettings())
        said = [
            (turns[place - 1].text, turn.reply) for turns in dialogues for place, turn in enumerate(turns) if turn.reply
        ]
        texts = sorted({text for text, _ in said})
        rows = {text: row for row, text in enumerate(texts)}
        features = np.concatenate(
            [self._encoder.encode(texts[start : start + 64]) for start in range(0, len(texts), 64)]
        )
        self._model = LogisticRegression(C=10, max_iter=300)
        self._model.fit(features[[rows[text] for text, _ in said]], [reply for _, reply in said])

    def __call__(self, turns: Sequence[Turn]) -> list[list[tuple[str, float]]]:
        """The ranked replies at each turn of the agent."""
        last = [turns[place - 1].text for place, turn in enumerate(turns) if turn.reply]
        return [
            sorted(zip(self._model.classes_, map(float, chances), strict=True), key=lambda one: -one[1])
            for chances in self._model.predict_proba(self._encoder.encode(last))
        ]


def _most_frequent(dialogues: Sequence[Sequence[Turn]]) -> Answers:
    counts = Counter(turn.reply for turns in dialogues for turn in turns if turn.reply)
    ranking = [(reply, count / counts.total()) for reply, count in counts.most_common()]
    return lambda turns: [ranking for turn in turns if turn.reply]


def _proposed(answers: Answers, dialogues: Sequence[Sequence[Turn]]) -> list[tuple[str, list[tuple[str, float]]]]:
    """The given reply and the proposed ones, for each turn of the agents."""
    given = [turn.reply for turns in dialogues for turn in turns if turn.reply]
    return list(zip(given, (proposed for turns in dialogues for proposed in answers(turns)), strict=True))


def _recall(answers: Answers, dialogues: Sequence[Sequence[Turn]]) -> tuple[float, float]:
    """Share of turns whose given reply is the first proposed, and one of the first three."""
    ranks = np.array([[one for one, _ in found].index(given) for given, found in _proposed(answers, dialogues)])
    return float((ranks < 1).mean()), float((ranks < 3).mean())


def _best(dialogues: Sequence[Sequence[Turn]]) -> tuple[float, float]:
    """The best possible recall: agents choose at random only how they say goodbye."""
    return float(
        np.mean([max(turn.chance, 1 - turn.chance) for turns in dialogues for turn in turns if turn.reply])
    ), 1.0


def _log_odds(answers: Answers, dialogues: Sequence[Sequence[Turn]]) -> tuple[NDArray[np.float64], list[bool]]:
    """Log odds of the first reply, and whether it is the given one."""
    proposed = _proposed(answers, dialogues)
    said = np.clip([found[0][1] for _, found in proposed], 1e-6, 1 - 1e-6)
    return logit(said), [found[0][0] == given for given, found in proposed]


def _print_calibration(
    answers: Answers, heard: Sequence[Sequence[Turn]], unheard: Sequence[Sequence[Turn]]
) -> Calibration:
    """The calibration error before and after a calibration on half of the dialogues in new words."""
    as_said, half = Calibration(slope=1.0, offset=0.0), len(unheard) // 2
    calibration = Calibration.fit(*_log_odds(answers, unheard[:half]))
    known, test = _log_odds(answers, heard), _log_odds(answers, unheard[half:])
    print(
        f"\nexpected calibration error of the first reply's probability: {as_said.error(*known):.3f}; in new words "
        f"{as_said.error(*test):.3f}, and calibrated on {half} other dialogues {calibration.error(*test):.3f}"
    )
    return calibration


def _print_dialogue(turns: Sequence[Turn], answers: Answers, calibration: Calibration) -> None:
    print("\nOne of them, with the reply chosen and its calibrated probability:\n")
    probabilities = iter(calibration.probability(_log_odds(answers, [turns])[0]))
    proposed = iter(answers(turns))
    for turn in turns:
        if turn.reply is None:
            print(f"customer: {turn.text}")
            continue
        reply, note = next(proposed)[0][0], ""
        if reply != turn.reply:
            note = f"   (and the agent: {REPLIES[turn.reply][0]})"
        print(f"   {next(probabilities):.2f}  {REPLIES[reply][0]}{note}")


if __name__ == "__main__":
    sys.exit(main())
