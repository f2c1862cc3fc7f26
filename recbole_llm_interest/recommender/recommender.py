"""Live interest: a trained model that is asked, told of events, and asked again."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llm_interest.errors import RequestError, StateError
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.recommender.card import model_card
from recbole_llm_interest.recommender.catalog import Catalog, NewItem
from recbole_llm_interest.recommender.explanation import Explanation, explain
from recbole_llm_interest.recommender.interests import Interest, InterestMap
from recbole_llm_interest.recommender.live_model import LiveModel, neighbourhoods, version
from recbole_llm_interest.recommender.loading import Trained, load_trained
from recbole_llm_interest.recommender.pretrained import read_pretrained, write_pretrained
from recbole_llm_interest.recommender.search import ApproximateIndex, Query, exact_best, score_block
from recbole_llm_interest.recommender.user_state import EventLog, State, join, load_state, save_state

_logger = logging.getLogger(__name__)
#: how many times as many items as are asked for are looked at first, where they have to differ
_WIDER = 10


class Recommendation(NamedTuple):
    """An item and its score."""

    item: str
    score: float


@dataclass(frozen=True)
class Forecast:
    """The interest after a likely event.

    Attributes:
        item: the likeliest next event.
        probability: of it, by the softmax over all items' scores.
        state: after it; ``interests`` and ``recommend`` say what that means.
    """

    item: str
    probability: float
    state: State


class Recommender:
    """Serves a trained model: interest that moves with each event, in a time that does not grow with the history.

    A ``State`` is what is known of one user, or of several at once, for which the ``…_many`` methods are. States never
    change; a call that fails leaves them, and the recommender, as they were.

    A state is what one pass over the whole history gives, however long, and the model's bonus for what the history
    holds reaches all of it. RecBole's evaluation cuts histories to the last ``MAX_ITEM_LIST_LENGTH`` events: up to
    there, its scores are these. A tracker with attention (``tracker: transformer``, ``attention_readout``) attends to
    as many events and no more, in either.

    Args:
        trained: the model, and what is known of its items and users.
    """

    def __init__(self, trained: Trained) -> None:
        self.users = trained.users
        self._trained = trained
        self._interest_map: InterestMap | None = None
        self._index: ApproximateIndex | None = None
        self.pools: dict[str, list[str]] = {}
        self._apart = torch.zeros(0, dtype=torch.long)  # rows of items that are in pools and nowhere else
        with torch.no_grad():
            self.items = Catalog(
                trained.tokens,
                trained.model.eval().item_encoder.table(),
                rule=trained.model.scoring_rule,
                neighbourhoods=neighbourhoods(trained.model),
                texts=trained.texts,
                labels=trained.labels,
            )
        self._live = LiveModel(trained.model, self.items, trained.max_length)
        self.version = version(trained.model, trained.tokens)

    @classmethod
    def load(cls, checkpoint: str | Path, **settings: Any) -> Recommender:
        """Read a checkpoint, the data set that it was trained on, and the features of that from the cache.

        Args:
            checkpoint: as ``run_recbole.py`` writes them. No code in it is run.
            settings: what is otherwise than in training, as ``data_path`` or ``feature_cache``.

        Raises:
            LLMInterestError: the checkpoint or the data set is missing, damaged, or not what it was in training.
        """
        return cls(load_trained(Path(checkpoint), settings))

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, device: str | None = None, **settings: Any
    ) -> Recommender:
        """Read a folder that ``save_pretrained`` wrote, from this machine or the Hub; the data set is not needed.

        It answers as the one that was saved, but for the users of the data set, who are not in it. No code is run.

        Args:
            name: the folder, or the hub's name of a model, which is fetched only with ``download_weights=True``.
            revision: of the hub's model; None for its newest.
            device: where to compute; None for a GPU if there is one.
            settings: of the encoders, where they are otherwise than in training, as ``encoder_device``.

        Raises:
            LLMInterestError: the folder is missing, damaged or of another version, or a setting cannot be used.
        """
        return cls(read_pretrained(str(name), revision=revision, device=device, settings=settings))

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        result: RunResult | None = None,
        license: str = "unknown",  # noqa: A002
    ) -> list[Path]:
        """Write the model and all that serving it takes to a folder in the Hub's conventions; say which files.

        Texts of the items are among it, in ``texts.json``, which may be taken away; users are not.

        Args:
            folder: is made if it is not there.
            result: of the run that trained the model, for the card; None where that is not known.
            license: of the model, by the Hub's word for it.

        Raises:
            RequestError: items have come or gone since the model was loaded, or nobody knows what it was trained on.
            StorageError: a file cannot be written.
        """
        changed = len(self.items.added) + len(self.items.removed) - 1
        if changed:
            raise RequestError(
                f"{changed} items were added or removed since the model was loaded, and a folder holds it as it was "
                "trained: save it before, or load it anew; add_item and remove_item do the same there"
            )
        return write_pretrained(self._trained, Path(folder), model_card(self._trained, result, license))

    # --- states

    def start(
        self,
        user: str | None = None,
        *,
        profile: Mapping[str, Any] | None = None,
        history: Sequence[str] | Literal["recorded"] = (),
        at: Sequence[float | None] | None = None,
    ) -> State:
        """The state of a user, known or new, after a history or before any.

        Args:
            user: a user of the data set, whose profile counts.
            profile: what a new user is: ``text``, the path of an ``image`` and of an ``audio`` file, or columns of
                which the text is made as it was in training. Without either, it is a user of whom nothing is known.
            history: items in order, or ``recorded`` for those of the data set.
            at: when the events were, in the data set's unit.

        Raises:
            RequestError: the user or an item is unknown, the profile cannot be used, times are out of order.
        """
        represented = self._represented(user, profile)
        if history == "recorded":
            if user is None:
                raise RequestError("a recorded history is that of a user of the data set: name one")
            history, at = self._recorded(user)
        return self._start(represented, [history], [at])

    def start_many(
        self,
        users: Sequence[str | None],
        *,
        histories: Sequence[Sequence[str]] | None = None,
        at: Sequence[Sequence[float | None]] | None = None,
    ) -> State:
        """One state of several users, as ``start`` makes them; ``histories`` and ``at`` are lists, one a user."""
        lines = histories if histories is not None else [()] * len(users)
        times: Sequence[Sequence[float | None] | None] = at if at is not None else [None] * len(users)
        if not len(users) == len(lines) == len(times):
            raise RequestError(f"{len(users)} users, {len(lines)} histories and {len(times)} lists of times: one each")
        with torch.no_grad():
            represented = self._live.users([0 if user is None else self._user_row(user) for user in users])
        by_length: dict[int, list[int]] = {}
        for place, line in enumerate(lines):
            by_length.setdefault(len(line), []).append(place)
        parts = [
            self._start(represented[places], [lines[place] for place in places], [times[place] for place in places])
            for places in by_length.values()
        ]
        order = [place for places in by_length.values() for place in places]
        return join(parts).select(torch.tensor(order).argsort())

    def update(self, state: State, item: str, at: float | None = None) -> State:
        """The state after one more event of one user, in constant time; equal to a pass over the whole history.

        Args:
            state: before the event; it stays as it is.
            item: what the user chose.
            at: when, in the data set's unit; None where that is not known.

        Raises:
            RequestError: the item is unknown, or the event is older than the last one.
            StateError: the state is of another model.
        """
        _check_is_one(state)
        return self.update_many(state, [item], None if at is None else [at])

    @torch.no_grad()
    def update_many(self, state: State, items: Sequence[str], at: Sequence[float | None] | None = None) -> State:
        """The same for one event of each of ``B`` users."""
        self._check(state)
        if len(items) != len(state) or (at is not None and len(at) != len(state)):
            raise RequestError(f"{len(state)} users need one item each, and one time or none: there are {len(items)}")
        rows = self.items.find(items, removed_too=True)
        times = _times(items, at)
        _check_order(items, times, state.latest)
        before = state.log.last_time(state.length)
        interest, tracker = self._live.read(rows[:, None], times[:, None], state.tracker, before)
        log = state.log.append(state.length, rows, times)
        return State(tracker, interest, log, state.length + 1, torch.fmax(state.latest, times), self.version)

    def save(self, state: State, path: str | Path, users: Sequence[str] | None = None) -> None:
        """Write a state to a file (safetensors, with JSON in its metadata).

        Raises:
            StorageError: the file cannot be written; what was there before is still there.
        """
        self._check(state)
        save_state(state, Path(path), self.items.tokens, users)

    def restore(self, path: str | Path) -> State:
        """Read a state from a file.

        Raises:
            StateError: it is missing, damaged, of another model, or knows items that are not there.
        """
        return load_state(Path(path), self.version, self.items.all_rows, self._live.device)[0]

    # --- answers

    def recommend(
        self,
        state: State,
        k: int = 10,
        *,
        candidates: Collection[str] | str | None = None,
        exclude: Collection[str] = (),
        exclude_seen: bool = False,
        min_diversity: float = 0.0,
        exact: bool = False,
    ) -> list[Recommendation]:
        """The best items for one user, the best first.

        Args:
            state: of the user.
            k: how many.
            candidates: what may be recommended: a pool's name, or items; None for every item that is not a pool's own.
            exclude: what may not.
            exclude_seen: whether what is in the history may not, either.
            min_diversity: 1 - cosine that any two of the items have to differ by at least, from 0 to 2: the best ones
                that do, found one after the other.
            exact: go through all items even if there is an index.

        Raises:
            RequestError: an item or pool is unknown, or there are fewer than ``k`` to choose from.
            StateError: the state is of another model.
        """
        _check_is_one(state)
        return self.recommend_many(
            state,
            k,
            candidates=candidates,
            exclude=exclude,
            exclude_seen=exclude_seen,
            min_diversity=min_diversity,
            exact=exact,
        )[0]

    @torch.no_grad()
    def recommend_many(
        self,
        state: State,
        k: int = 10,
        *,
        candidates: Collection[str] | str | None = None,
        exclude: Collection[str] = (),
        exclude_seen: bool = False,
        min_diversity: float = 0.0,
        exact: bool = False,
    ) -> list[list[Recommendation]]:
        """The same for each of ``B`` users, all from the same candidates."""
        self._check(state)
        if k < 1:
            raise RequestError(f"k={k}: at least one item has to be asked for")
        if isinstance(candidates, str):
            candidates = self._pool(candidates)
        pool = None if candidates is None else torch.unique(self.items.find(list(candidates))).to(self._live.device)
        available = self._count_of_all() if pool is None else len(pool)
        if not available:
            raise RequestError("the candidates are empty: there is nothing to recommend")
        if k > available:
            raise RequestError(f"k={k}, and there are only {available} candidates")
        query = self._query(state, exclude, exclude_seen, apart=pool is not None)
        wanted = k if not min_diversity else min(_WIDER * k, available)
        while True:
            scores, rows = self._best(query, wanted, pool, exact)
            chosen = [self._diverse(*user, k, min_diversity) for user in zip(scores, rows, strict=True)]
            if all(len(user) == k for user in chosen):
                return [[Recommendation(self.items.tokens[row], score) for row, score in user] for user in chosen]
            if wanted >= available or not min_diversity:
                fewest = min(map(len, chosen))
                why = f", each {min_diversity:g} from the others" if min_diversity else ""
                raise RequestError(f"k={k}, and only {fewest} candidates are left after what is excluded{why}")
            wanted = min(_WIDER * wanted, available)

    def interests(self, state: State, k: int | None = None) -> list[Interest]:
        """Where one user's interest lies: named groups of items by the probability that the next event is of one.

        The weights of all groups sum to one; the ``k`` heaviest are given, None for all.
        """
        _check_is_one(state)
        return self.interests_many(state, k)[0]

    @torch.no_grad()
    def interests_many(self, state: State, k: int | None = None) -> list[list[Interest]]:
        """The same for each of ``B`` users."""
        self._check(state)
        groups = self.interest_map
        group = groups.group(self.items.representations).to(self._live.device)
        found = []
        for part in self._query(state).in_parts():
            probability = torch.cat([score_block(part, block) for block in self.items.blocks()], dim=1).softmax(dim=1)
            weights = probability.new_zeros(len(part), len(groups.names)).index_add_(1, group, probability)
            for user in weights:
                best = user.topk(min(k or len(user), len(user)))
                found.append([
                    Interest(groups.names[number], weight, tuple(map(self.label, groups.typical[number])))
                    for number, weight in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                ])  # fmt: skip
        return found

    @property
    def interest_map(self) -> InterestMap:
        """The named groups of items, found when they are first asked for."""
        if self._interest_map is None:
            items = self.items
            self._interest_map = InterestMap(items.representations, items.tokens, items.texts, items.labels)
        return self._interest_map

    def forecast(self, state: State, steps: int, every: float | None = None) -> list[Forecast]:
        """Where one user's interest is going: the likeliest next event, then the likeliest after that, and so on.

        Args:
            state: of the user.
            steps: how many events ahead.
            every: the time between them, where the model knows times; None for times that are not known.

        Raises:
            RequestError: there are no steps.
            StateError: the state is of another model.
        """
        _check_is_one(state)
        return [steps_of_user[0] for steps_of_user in self._forecast(state, steps, every)]

    def forecast_many(self, state: State, steps: int, every: float | None = None) -> list[list[Forecast]]:
        """The same for each of ``B`` users: one list a user."""
        return [list(user) for user in zip(*self._forecast(state, steps, every), strict=True)]

    @torch.no_grad()
    def _forecast(self, state: State, steps: int, every: float | None) -> list[list[Forecast]]:
        self._check(state)
        if steps < 1:
            raise RequestError(f"steps={steps}: at least one has to be asked for")
        found = []
        for _ in range(steps):
            query = self._query(state)
            scores, rows = exact_best(query, self.items.blocks(), 1)
            total = self._live.log_of_sum(query)
            items = [self.items.tokens[row] for row in rows[:, 0].tolist()]
            times = None
            if every is not None and bool(torch.isfinite(state.latest).all()):
                times = (state.latest + every).tolist()
            state = self.update_many(state, items, times)
            likely = (scores[:, 0] - total).exp().tolist()
            found.append([Forecast(*event, state[user]) for user, event in enumerate(zip(items, likely, strict=True))])
        return found

    @torch.no_grad()
    def explain(self, state: State, item: str) -> Explanation:
        """Why an item scores as it does for one user: see ``Explanation``.

        Raises:
            RequestError: the item is unknown.
            StateError: the state is of another model.
        """
        _check_is_one(state)
        self._check(state)
        return explain(self._live, state, int(self.items.find([item])[0]))

    @torch.no_grad()
    def score(self, state: State, items: Sequence[str]) -> list[float]:
        """Scores of one item for each of ``B`` users, as ``recommend`` gives them.

        Raises:
            RequestError: an item is unknown, or there is not one a user.
            StateError: the state is of another model.
        """
        self._check(state)
        if len(items) != len(state):
            raise RequestError(f"{len(state)} users need one item each: there are {len(items)}")
        scores: list[float] = self._live.paired_scores(self._query(state, apart=True), self.items.find(items)).tolist()
        return scores

    def explain_many(self, state: State, items: Sequence[str]) -> list[Explanation]:
        """The same for one item of each of ``B`` users."""
        if len(items) != len(state):
            raise RequestError(f"{len(state)} users need one item each: there are {len(items)}")
        return [self.explain(state[user], item) for user, item in enumerate(items)]

    def label(self, item: str | int) -> str:
        """An item's title, or its token where it has none; by token or by row of the table."""
        token = self.items.tokens[item] if isinstance(item, int) else item
        return self.items.labels.get(token, token)

    # --- the catalogue

    def add_item(self, item: str, content: Mapping[str, Any]) -> None:
        """Add an item by what it is; it can be recommended, and be part of histories, at once.

        Args:
            item: its token.
            content: ``text``, paths of ``image`` and ``audio`` files, or arrays of features; other keys are columns
                of which the text is made as it was in training.

        Raises:
            RequestError: there is an item of that name, or the content cannot be used.
            EncoderError: an encoder cannot be had.
        """
        self._add(item, content)

    @torch.no_grad()
    def _add(self, item: str, content: Mapping[str, Any], is_apart: bool = False) -> None:
        if item in self.items.rows:
            raise RequestError(f"item {item!r} is there already: remove it first")
        if self._trained.item_reader is None:
            raise RequestError("the model knows items by their IDs alone: new ones cannot be added without training")
        encoded = self._trained.item_reader.read(content)
        fusion = self._trained.model.item_encoder
        conditioned = {name: values[0] for name, values in fusion.condition(encoded.content).items()}
        new = NewItem(
            fusion.encode(encoded.content)[0], encoded.content, conditioned, encoded.text, encoded.label, is_apart
        )
        row = self.items.add(item, new)
        if self._index is not None:
            self._index.add(self.items.factors(torch.tensor([row], device=self._live.device)))

    def add_pool(self, name: str, items: Mapping[str, Mapping[str, Any]] | Collection[str]) -> None:
        """Name a set of items that ``recommend`` takes as candidates, such as ads, or replies.

        Args:
            name: of the pool; one of that name is replaced.
            items: items that are there; or, by token, the content of new ones, which are added for this pool alone:
                they are recommended, and count in ``interests`` and ``forecast``, nowhere else. They are no item's
                neighbours by content: what is like them in a history speaks for them through the interest alone.

        Raises:
            RequestError: an item is unknown, or is there already; or its content cannot be used.
            EncoderError: an encoder cannot be had.
        """
        if isinstance(items, Mapping):
            known = [item for item in items if item in self.items.rows]
            if known:
                raise RequestError(f"item {known[0]!r} is there already: pools of items that are there name them only")
            for item, content in items.items():
                self._add(item, content, is_apart=True)
                self._apart = torch.cat([self._apart, self.items.find([item])])
        self.items.find(list(items))
        self.pools[name] = list(items)

    def remove_item(self, item: str) -> None:
        """Let an item be recommended no more. A user is removed by dropping the state.

        Raises:
            RequestError: it is unknown.
        """
        self.items.remove(item)

    def build_index(self, queries: State, recall: float = 0.95, k: int = 10) -> float:
        """Build an approximate index, which ``recommend`` uses from then on where all items are candidates.

        It looks through as few lists as give the recall that is asked for.

        Args:
            queries: states of typical users, on which the recall is measured.
            recall: share of the exact ``k`` best that is to be found.
            k: how many.

        Returns:
            The recall that it has.

        Raises:
            RequestError: faiss is not installed.
        """
        self._check(queries)
        index = ApproximateIndex(self.items)
        query = self._query(queries)
        lists = 1
        while True:
            index.read(lists)
            found = index.recall(query, k)
            if found >= recall or lists >= index.lists:
                break
            lists *= 2
        self._index = index
        return found

    # --- what these are made of

    @torch.no_grad()
    def _represented(self, user: str | None, profile: Mapping[str, Any] | None) -> Tensor:
        """Who a user is, ``[1, U]``; of no width where the model does not know users by content."""
        if user is not None and profile is not None:
            raise RequestError("a user is named, or has a profile of their own, and not both")
        if profile is None:
            return self._live.users([0 if user is None else self._user_row(user)])
        fusion, reader = self._trained.model.user_encoder, self._trained.user_reader
        if fusion is None or reader is None:
            raise RequestError("the model does not know users by content: leave the profile out")
        return fusion.encode(reader.read(profile).content)

    def _user_row(self, user: str) -> int:
        if user not in self.users:
            raise RequestError(f"unknown user {user!r}: start without a name, or with a profile, for a new one")
        return self.users[user]

    def _recorded(self, user: str) -> tuple[list[str], list[float | None]]:
        """Items and times of a user's recorded events."""
        events = list(zip(*self._trained.recorded([user])[0], strict=True))
        known = [(item, None if math.isnan(time) else time) for item, time in events if item in self.items.all_rows]
        if len(known) < len(events):
            _logger.warning(
                "%d of the %d events of %r are of items that are not there", len(events) - len(known), len(events), user
            )
        return [item for item, _ in known], [time for _, time in known]

    @torch.no_grad()
    def _start(
        self, user: Tensor, histories: Sequence[Sequence[str]], at: Sequence[Sequence[float | None] | None]
    ) -> State:
        """The state of users, ``[B, U]``, after histories of the same length."""
        for history, line in zip(histories, at, strict=True):
            if line is not None and len(line) != len(history):
                raise RequestError(f"{len(history)} events and {len(line)} times: one each")
        rows = torch.stack([self.items.find(history, removed_too=True) for history in histories])
        times = torch.stack([_times(*events) for events in zip(histories, at, strict=True)])
        nothing = times.new_full((len(times), 1), -torch.inf)
        latest = torch.cat([nothing, times.nan_to_num(nan=-torch.inf)], dim=1).cummax(dim=1).values
        for history, line, before in zip(histories, times, latest, strict=True):
            _check_order(history, line, before[:-1])
        interest, tracker = self._live.read(rows, times, self._live.initial(user))
        length = torch.full((len(rows),), rows.shape[1])
        return State(tracker, interest, EventLog.of(rows, times, length), length, latest[:, -1], self.version)

    def _check(self, state: State) -> None:
        if state.model != self.version:
            raise StateError(
                f"the state is of another model ({state.model[:12]}, not {self.version[:12]}): start anew from the "
                "user's history"
            )

    def _pool(self, name: str) -> list[str]:
        if name not in self.pools:
            raise RequestError(f"there is no pool {name!r} (there are {', '.join(self.pools) or 'none'}): add_pool")
        return [item for item in self.pools[name] if item in self.items.rows]

    def _count_of_all(self) -> int:
        apart = set(self._apart.tolist()) - set(self.items.removed.tolist())
        return len(self.items) - len(apart)

    def _query(
        self, state: State, exclude: Collection[str] = (), exclude_seen: bool = False, apart: bool = False
    ) -> Query:
        """What users are looking for; among the pools' own items, too, where ``apart`` is set."""
        items = state.items
        out = [self.items.removed, self.items.find(list(exclude)), *([] if apart else [self._apart])]
        excluded = torch.cat(out).expand(len(state), -1)
        if exclude_seen:
            excluded = torch.cat([excluded, items], dim=1)
        return self._live.query(state.interest, items, state.length, excluded)

    def _best(self, query: Query, k: int, pool: Tensor | None, exact: bool) -> tuple[Tensor, Tensor]:
        if self._index is not None and pool is None and not exact:
            return self._index.best(query, k)
        return exact_best(query, self.items.blocks() if pool is None else self.items.blocks_of(pool), k)

    def _diverse(self, scores: Tensor, rows: Tensor, k: int, min_diversity: float) -> list[tuple[int, float]]:
        """The first ``k``, or as many as there are, that differ by enough from those before them."""
        is_left = scores > -torch.inf
        scores, rows = scores[is_left], rows[is_left]
        if min_diversity:
            unit = F.normalize(self.items.representations[rows], dim=-1)
            is_alike = (unit @ unit.T > 1 - min_diversity).tolist()
            places: list[int] = []
            for place in range(len(rows)):
                if len(places) == k:
                    break
                if not any(is_alike[place][other] for other in places):
                    places.append(place)
            scores, rows = scores[places], rows[places]
        return list(zip(rows[:k].tolist(), scores[:k].tolist(), strict=True))


def _times(items: Sequence[str], at: Sequence[float | None] | None) -> Tensor:
    """Times of events, NaN where they are not known, ``[n]``."""
    for item, time in zip(items, at or (), strict=False):
        if time is not None and not math.isfinite(time):
            raise RequestError(f"the time of {item!r} is {time}: give a number, or None where it is not known")
    known = [None] * len(items) if at is None else at
    return torch.tensor([math.nan if time is None else time for time in known], dtype=torch.float64)


def _check_order(items: Sequence[str], times: Tensor, latest: Tensor) -> None:
    late = (times < latest).nonzero().squeeze(1).tolist()
    if late:
        raise RequestError(
            f"the event of {items[late[0]]!r} at {times[late[0]]:.10g} is older than the one before it, at "
            f"{latest[late[0]]:.10g}: events have to come in order"
        )


def _check_is_one(state: State) -> None:
    if len(state) != 1:
        raise RequestError(f"the state is of {len(state)} users: this asks about one; the …_many method, about all")
