"""The public face of a trained model in live use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.recommender import inputs
from recbole_llm_interest.recommender.explanation import Explanation, explain
from recbole_llm_interest.recommender.forecast import Forecast, forecast, forecast_interests
from recbole_llm_interest.recommender.further_training import train_further
from recbole_llm_interest.recommender.inputs import Id, Ids, Profiles, Times
from recbole_llm_interest.recommender.interests import Interest, InterestMap
from recbole_llm_interest.recommender.loading import load_trained
from recbole_llm_interest.recommender.pretrained import read_pretrained
from recbole_llm_interest.recommender.pretrained_writing import write_pretrained
from recbole_llm_interest.recommender.recommendations import Recommendations, to_frame
from recbole_llm_interest.recommender.retrieval import Request, Retrieval
from recbole_llm_interest.recommender.state_storage import StateStorage
from recbole_llm_interest.recommender.trained import Trained
from recbole_llm_interest.recommender.user_inputs import Contents, Histories, read_users
from recbole_llm_interest.recommender.user_state import PerUser, UserState


class Recommender(StateStorage):
    """Serves a trained model: each event updates the state of a user, in constant time.

    Methods take the state of one user and give one result, or the state of a batch and give a list with one for each
    user: see ``UserState``. Ids may be text or numbers; lists may be arrays, Series or columns of a DataFrame. A call
    that fails changes nothing: it raises ``RequestError``, or ``StateError`` for the state of another model.

    Args:
        trained: the model with its items and users; ``load`` and ``from_pretrained`` read it.

    Example:
        >>> recommender
        Recommender(items=8, users=24, dataset='tiny')
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__(trained)
        self._retrieval = Retrieval(self._live, self._changes)

    def __repr__(self) -> str:
        return f"Recommender(items={len(self.items)}, users={len(self.users)}, dataset={self.dataset!r})"

    @classmethod
    def load(cls, checkpoint: str | Path, **settings: Any) -> Recommender:
        """Read a checkpoint, the data set it was trained on, and its features from the cache. No code in it is run.

        Args:
            checkpoint: written by ``run_recbole.py``.
            settings: those that differ from training, such as ``data_path`` or ``feature_cache``.

        Raises:
            LLMInterestError: the checkpoint or the data set is missing, damaged, or not that of training.

        Example:
            >>> Recommender.load(checkpoint).start("u1")
            UserState(user='u1', events=9)
        """
        return cls(load_trained(Path(checkpoint), settings))

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, device: str | None = None, **settings: Any
    ) -> Recommender:
        """Read a folder that ``save_pretrained`` wrote, without the data set and its users. No code in it is run.

        Args:
            name: the folder, or a model on the Hub, which is fetched only with ``download_weights=True``.
            revision: of the model on the Hub; None for the newest.
            device: to compute on; None for a GPU if there is one.
            settings: of the encoders, those that differ from training, such as ``encoder_device``.

        Raises:
            LLMInterestError: the folder is missing, damaged or of another version, or a setting is invalid.
        """
        return cls(read_pretrained(str(name), revision=revision, device=device, settings=settings))

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        result: RunResult | None = None,
        license: str = "unknown",  # noqa: A002
    ) -> list[Path]:
        """Write the model and what it needs to a folder in the Hub's conventions, and return its files.

        Args:
            folder: is created if it does not exist. Its ``texts.json`` may be deleted; it has no users.
            result: of the training run, for the model card.
            license: of the model, as the Hub abbreviates it.

        Raises:
            RequestError: items were added or removed since loading, or the model's training data are unknown.
            StorageError: a file cannot be written.

        Example:
            >>> files = recommender.save_pretrained(folder)
            >>> Recommender.from_pretrained(folder)
            Recommender(items=8, users=0, dataset='tiny')
        """
        self._changes.refuse_unless_unchanged()
        return write_pretrained(self._trained, Path(folder), result, license)

    def fit_more(self, events: Any, folder: str | Path, **settings: Any) -> Recommender:
        """Train further on new events, and return the recommender of the new model. This one stays as it is.

        Args:
            events: a DataFrame or mappings, with the columns of the data set's interaction file. Users may be new, and
                items whose content the data set's files have by now.
            folder: gets the grown data set, the checkpoint and a table. Interrupted, the same call goes on.
            settings: those that differ from training, ``epochs=5`` and ``replay=1``: see ``init_from``.

        Raises:
            RequestError: the model was not loaded from a checkpoint, or an event cannot be used.
            LLMInterestError: the data set or a setting cannot be used, or the training fails.

        Example:
            >>> events = pd.DataFrame({"user_id": ["u1", "u2"], "item_id": ["i2", "i3"], "timestamp": [50.0, 51.0]})
            >>> recommender.fit_more(events, "more", epochs=1)  # doctest: +SKIP
            Recommender(items=8, users=24, dataset='tiny')
        """
        source = self._trained.source
        if source is None or source.kind != "checkpoint":
            raise RequestError("fit_more: the model was not loaded from a checkpoint, whose data set it needs")
        rows = events.to_dict("records") if isinstance(events, pd.DataFrame) else events
        data = {} if source.data_path is None else {"data_path": str(source.data_path.parent)}
        made = train_further(source.path, rows, Path(folder), {**data, **settings})
        return type(self).load(made.checkpoint, **{**settings, **made.places})

    def start(
        self,
        user: Id | Ids | None = None,
        *,
        profile: Profiles = None,
        history: Histories = None,
        at: Times = None,
        contents: Contents = None,
    ) -> UserState:
        """The state of a user after a history; of a batch if ``user``, ``profile`` or the histories are lists.

        Args:
            user: id in the data set, whose profile and recorded events are used; None for a new user.
            profile: of a new user: ``text``, paths of ``image`` and ``audio`` files, or columns that become the text.
            history: items in order, ``[]`` for none; None or ``"recorded"`` for a user's events in the data set.
            at: times of the events: numbers in the data set's unit, or dates where that is seconds or milliseconds
                since 1970. None for an unknown time.
            contents: of the events, as in ``update``: a list of mappings, or None where there is none.

        Raises:
            RequestError: a user or item is unknown, a profile, content or time cannot be used, lists differ in length,
                or a batch has histories of different lengths and the model's tracker attention.

        Example:
            >>> recommender.start("u1", history=["i1", "i2"], at=["2024-05-01", "2024-05-02T08:30"])
            UserState(user='u1', events=2)
            >>> recommender.start(["u1", "u2"])
            UserState(users=2, events=18)
        """
        users, is_single = read_users(user, profile, history, at, self._trained.time_unit, contents)
        batch = self._states.start(users)
        return batch[0] if is_single else batch

    def update(
        self,
        state: UserState,
        item: Id | Ids,
        at: Times = None,
        *,
        columns: Mapping[str, Any] | None = None,
        **content: Any,
    ) -> UserState:
        """The state after one more event of each user. ``state`` does not change.

        Args:
            state: before the event.
            item: of the event; for a batch, a list with one for each user.
            at: time of the event, as in ``start``; for a batch, a list. None for an unknown time.
            columns: content of the event by column, of any names.
            content: the same by keyword, if the model reads it: ``text``, paths of ``image`` and ``audio`` files, or
                columns that become the text; for a batch, lists.

        Raises:
            RequestError: the item is unknown, content cannot be used, or the event is older than the last one.

        Example:
            >>> recommender.update(recommender.start(["u1", "u2"]), ["i1", "i2"])
            UserState(users=2, events=20)
        """
        inputs.check_state(state, self.version, "update")
        items, times = inputs.read_events(state, item, at, self._trained.time_unit)
        return self._states.update(state, items, times, inputs.read_columns(state, content | {**(columns or {})}))

    def replay(self, state: UserState, events: int) -> Iterator[UserState]:
        """The states of one user before the last ``events`` events, and after each of them.

        Args:
            state: of one user.
            events: how many of the last events; 0 for the state after all of them.

        Raises:
            RequestError: the state is of several users, or ``events`` is negative.

        Example:
            >>> list(recommender.replay(state, events=1))
            [UserState(user='u1', events=1), UserState(user='u1', events=2)]
        """
        inputs.check_single(state, self.version, "replay")
        if events < 0:
            raise RequestError(f"replay: events={events}: give 0 or more")
        return (past[0] for past in self._states.replay(state, events))

    @torch.no_grad()
    def recommend(
        self,
        state: UserState,
        k: int = 10,
        *,
        candidates: str | Ids | None = None,
        exclude: Ids = (),
        exclude_seen: bool = False,
        min_diversity: float = 0.0,
        exact: bool = False,
        as_frame: bool = False,
        context: Profiles = None,
        allow_fewer: bool = False,
    ) -> PerUser[Recommendations]:
        """The best items, the best first.

        Args:
            state: of one user or a batch.
            k: number of items.
            candidates: a pool's name, or items; None for all items except those of pools alone.
            exclude: items that are not recommended.
            exclude_seen: whether items of the history are not recommended.
            min_diversity: least 1 - cosine of any two items, from 0 to 2; items are selected greedily by score.
            exact: whether all items are scored even if there is an index.
            as_frame: whether to give a DataFrame with the columns user, rank, item, title and score.
            context: what is known before the choice, by the columns that ``context_fields`` names; for a batch, a list.
            allow_fewer: whether a user of whom exclusions leave fewer than ``k`` items gets these.

        Raises:
            RequestError: an item or pool is unknown, or there are fewer than ``k`` candidates.

        Example:
            >>> recommender.recommend(state, k=1, as_frame=True)[["user", "rank", "item", "title"]]
              user  rank item               title
            0   u1     1   i3  A film about bread
        """
        state = self._given(state, context, "recommend")
        request = Request(k, candidates, exclude, exclude_seen, min_diversity, exact, allow_fewer)
        best = self._retrieval.recommend(state, request)
        return to_frame(state.users, best) if as_frame else state.per_user(best)

    @torch.no_grad()
    def interests(self, state: UserState, k: int | None = None) -> PerUser[list[Interest]]:
        """Named groups of items by the probability that the next event is of one of them; the ``k`` heaviest.

        Example:
            >>> recommender.interests(state, k=1)[0].name
            'A film about bread / A film about castles'
        """
        inputs.check_state(state, self.version, "interests")
        return state.per_user(self._retrieval.interests(state, self.interest_map, k))

    @cached_property
    def interest_map(self) -> InterestMap:
        """The named groups, found at first use."""
        return InterestMap(self.items)

    def forecast(self, state: UserState, steps: int, every: float | None = None) -> PerUser[list[Forecast]]:
        """The likeliest next event, the likeliest after that, and so on, ``steps`` events ahead.

        ``every`` is the time between them in the data set's unit; None for unknown times.

        Example:
            >>> [step.item for step in recommender.forecast(state, steps=2)]
            ['i3', 'i4']
        """
        inputs.check_state(state, self.version, "forecast")
        return state.per_user(forecast(self._retrieval, self._states, state, steps, every))

    def forecast_interests(self, state: UserState, steps: int, samples: int = 32) -> PerUser[list[list[Interest]]]:
        """The named interests at each of the next ``steps`` events, by their probability then.

        ``samples`` continuations are drawn for each user, see ``forecast.forecast_interests``.

        Example:
            >>> [round(sum(one.weight for one in step), 3) for step in recommender.forecast_interests(state, steps=3)]
            [1.0, 1.0, 1.0]
        """
        inputs.check_state(state, self.version, "forecast_interests")
        of_users = forecast_interests(self._retrieval, self._states, state, self.interest_map, steps, samples)
        named = self._retrieval.named
        return state.per_user([[named(step, self.interest_map, None) for step in user] for user in of_users])

    @torch.no_grad()
    def explain(self, state: UserState, item: Id | Ids, context: Profiles = None) -> PerUser[Explanation]:
        """What makes the score of an item; for a batch, of one item for each user. ``context`` as in ``recommend``."""
        given = self._given(state, context, "explain")
        rows = self.items.find(inputs.read_items(state, item)).tolist()
        added = given.interest - state.interest
        users = zip(state, rows, torch.split(added, 1), strict=True)
        return state.per_user([explain(self._live, *user) for user in users])

    @torch.no_grad()
    def score(self, state: UserState, item: Id | Ids, context: Profiles = None) -> PerUser[float]:
        """The score of an item as ``recommend`` gives it; for a batch, of one item for each user."""
        state = self._given(state, context, "score")
        return state.per_user(self._retrieval.scores(state, inputs.read_items(state, item)))

    def _given(self, state: UserState, context: Profiles, method: str) -> UserState:
        """The state with the interest given a context."""
        inputs.check_state(state, self.version, method)
        contexts = [None] * len(state) if context is None else inputs.read_per_user(state, context, "context")
        return self._states.in_context(state, contexts)

    @torch.no_grad()
    def build_index(self, queries: UserState, recall: float = 0.95, k: int = 10) -> float:
        """Build an approximate index (of faiss), which ``recommend`` uses from then on, and return its recall.

        Args:
            queries: states of typical users, on whom the recall is measured.
            recall: share of the exact ``k`` best items to find, with as few lists read as possible.
            k: number of items.

        Example:
            >>> recommender.build_index(recommender.start(["u1", "u2"]), k=3)
            1.0
        """
        inputs.check_state(queries, self.version, "build_index")
        return self._retrieval.build_index(queries, recall, k)
