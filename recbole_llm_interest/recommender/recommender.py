"""Live interest: a trained model that is asked, told of events, and asked again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed
from torch import Tensor

from recbole_llm_interest.configuration import as_user_error, configure
from recbole_llm_interest.content.catalogue import Catalogue, text_writer
from recbole_llm_interest.content.pieces import Text
from recbole_llm_interest.dataset import catalogue_of, recorded_history
from recbole_llm_interest.errors import CheckpointError, DataError, RequestError, StateError
from recbole_llm_interest.event_times import time_feature_of
from recbole_llm_interest.experiment import digest
from recbole_llm_interest.model.fusion import ID, ContentFusion
from recbole_llm_interest.model.history_bonus import HistoryBonus, together
from recbole_llm_interest.model.interest_tracker import InterestState
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.model.sequence_encoders import TransformerEncoder
from recbole_llm_interest.recommender.encoding import ContentReader
from recbole_llm_interest.recommender.explanation import Explanation, modality_vectors, shares, without
from recbole_llm_interest.recommender.interests import Interest, InterestMap
from recbole_llm_interest.recommender.items import Block, ItemTable, NewItem
from recbole_llm_interest.recommender.neighbourhood import Neighbourhood
from recbole_llm_interest.recommender.search import ApproximateIndex, Query, exact_best, score_block
from recbole_llm_interest.recommender.state import EventLog, State, join, load_state, save_state
from recbole_llm_interest.settings import ContentSettings, ModelSettings, read_settings, settings_keys
from recbole_llm_interest.trainer import open_checkpoint, restore_model

_logger = logging.getLogger(__name__)
#: events that an explanation tells apart; older ones are one part
_EXPLAINED = 50
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
    change; a call that fails leaves them, and the recommender, as they were. The interest of a state is that of one
    pass over the whole history. RecBole's evaluation cuts histories to the last ``MAX_ITEM_LIST_LENGTH`` events: up to
    there, its scores are these. A tracker with attention (``tracker: transformer``, ``attention_readout``) reaches back
    as many events, in either.

    Args:
        model: trained.
        tokens: the items' names, by internal id.
        users: the users' internal ids, by name.
        max_length: ``MAX_ITEM_LIST_LENGTH``.
        texts: what is known of items in words, by token.
        labels: the same at its shortest.
        item_reader: encodes the content of new items; None where there is none.
        user_reader: the same for users.
        recorded: looks up the items and times of a user's recorded events.
    """

    def __init__(
        self,
        model: LLMInterest,
        tokens: Sequence[str],
        *,
        users: Mapping[str, int] | None = None,
        max_length: int = 50,
        texts: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        item_reader: ContentReader | None = None,
        user_reader: ContentReader | None = None,
        recorded: Callable[[str], tuple[list[str], list[float]]] | None = None,
    ) -> None:
        self.model = model.eval()
        self.users = dict(users or {})
        self._max_length = max_length
        self._item_reader = item_reader
        self._user_reader = user_reader
        self._recorded = recorded
        self._interest_map: InterestMap | None = None
        self._index: ApproximateIndex | None = None
        with torch.no_grad():
            representations = model.item_representations()
            self.items = ItemTable(
                tokens,
                representations,
                is_cosine=model.temperature is not None,
                neighbourhoods=_neighbourhoods(model),
                texts=texts,
                labels=labels,
            )
        self._device = representations.device
        self.version = _version(model, tokens)

    @classmethod
    def load(cls, checkpoint: str | Path, **settings: Any) -> Recommender:
        """Read a checkpoint, the data set that it was trained on, and the features of that from the cache.

        Args:
            checkpoint: as ``run_recbole.py`` writes them. No code in it is run.
            settings: what is otherwise than in training, as ``data_path`` or ``feature_cache``.

        Raises:
            LLMInterestError: the checkpoint or the data set is missing, damaged, or not what it was in training.
        """
        saved = open_checkpoint(Path(checkpoint))
        trained = saved["config"]
        if trained["model"] != LLMInterest.__name__:
            raise CheckpointError(f"checkpoint {checkpoint} is of model {trained['model']!r}, not LLMInterest")
        in_effect = {key: trained[key] for key in settings_keys() if key in trained}
        config = configure(
            LLMInterest.__name__, trained["dataset"], overrides={**trained.external_config_dict, **in_effect, **settings}
        )
        with as_user_error("the data or the settings"):
            init_seed(config["seed"], config["reproducibility"])
            dataset = create_dataset(config)
            train_data, _, _ = data_preparation(config, dataset)
            model = LLMInterest(config, train_data._dataset).to(config["device"])
        tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
        if trained["item_digest"] not in (None, digest(tokens)):
            raise CheckpointError(
                f"checkpoint {checkpoint} was trained on other items, or on the same in another order: "
                f"{config['dataset']} has changed since; train again"
            )
        restore_model(model, saved)
        content = read_settings(ContentSettings, config)
        catalogue = catalogue_of(config, "item", content)
        users = {str(token): row for row, token in enumerate(dataset.field2id_token[dataset.uid_field]) if row}
        return cls(
            model,
            tokens,
            users=users,
            max_length=config["MAX_ITEM_LIST_LENGTH"],
            texts=_texts(catalogue),
            labels=catalogue.labels,
            item_reader=_reader(config, "item", content, model.item_fusion),
            user_reader=_reader(config, "user", content, model.user_fusion),
            recorded=lambda user: recorded_history(config, user),
        )

    # --- states

    def start(
        self,
        user: str | None = None,
        *,
        profile: Mapping[str, Any] | None = None,
        history: Sequence[str] | Literal["recorded"] = (),
        at: Sequence[float] | None = None,
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
        if history == "recorded":
            if user is None or self._recorded is None:
                raise RequestError("a recorded history is that of a user of the data set: name one")
            self._user_row(user)
            items, times = self._recorded(user)
            known = [(item, time) for item, time in zip(items, times, strict=True) if item in self.items.all_rows]
            if len(known) < len(items):
                _logger.warning("%d of %r's recorded events are of items that are not there", len(items) - len(known), user)
            history, at = [item for item, _ in known], [time for _, time in known]
            return self._start(self._represented(user, None), history, at, may_be_unknown=True)
        return self._start(self._represented(user, profile), list(history), at)

    def start_many(
        self,
        users: Sequence[str | None],
        *,
        histories: Sequence[Sequence[str]] | None = None,
        at: Sequence[Sequence[float]] | None = None,
    ) -> State:
        """One state of several users, as ``start`` makes them; ``histories`` and ``at`` are lists, one a user."""
        lines = histories if histories is not None else [()] * len(users)
        times: Sequence[Sequence[float] | None] = at if at is not None else [None] * len(users)
        if not len(users) == len(lines) == len(times):
            raise RequestError(f"{len(users)} users, {len(lines)} histories and {len(times)} lists of times: one each")
        rest = zip(users, lines, times, strict=True)
        return join([self.start(user, history=line, at=when) for user, line, when in rest])

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
        times = self._times(items, at)
        self._check_order(items, times, state.latest)
        before = torch.full_like(times, -torch.inf)
        if state.log.times.shape[1]:
            last = state.log.times.gather(1, (state.length - 1).clamp(min=0)[:, None]).squeeze(1)
            before = torch.where(state.length > 0, last, before)
        event = self._events(rows[:, None], times[:, None], before[:, None])[:, 0]
        interest, tracker = self.model.tracker.step(event, state.tracker)
        log = state.log.append(state.length, rows, times)
        latest = torch.fmax(state.latest, times)
        return State(tracker, interest, log, state.length + 1, latest, self.version)

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
        return load_state(Path(path), self.version, self.items.all_rows, self._device)[0]

    # --- answers

    def recommend(
        self,
        state: State,
        k: int = 10,
        *,
        candidates: Collection[str] | None = None,
        exclude: Collection[str] = (),
        exclude_seen: bool = False,
        min_diversity: float = 0.0,
        exact: bool = False,
    ) -> list[Recommendation]:
        """The best items for one user, the best first.

        Args:
            state: of the user.
            k: how many.
            candidates: what may be recommended; None for every item.
            exclude: what may not.
            exclude_seen: whether what is in the history may not, either.
            min_diversity: 1 - cosine that any two of the items have to differ by at least, from 0 to 2: the best ones
                that do, found one after the other.
            exact: go through all items even if there is an index.

        Raises:
            RequestError: an item is unknown, or there are fewer than ``k`` to choose from.
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
        candidates: Collection[str] | None = None,
        exclude: Collection[str] = (),
        exclude_seen: bool = False,
        min_diversity: float = 0.0,
        exact: bool = False,
    ) -> list[list[Recommendation]]:
        """The same for each of ``B`` users, all from the same candidates."""
        self._check(state)
        if k < 1:
            raise RequestError(f"k={k}: at least one item has to be asked for")
        pool = None if candidates is None else self.items.find(list(candidates)).unique().to(self._device)
        available = len(self.items) if pool is None else len(pool)
        if not available:
            raise RequestError("the candidates are empty: there is nothing to recommend")
        if k > available:
            raise RequestError(f"k={k}, and there are only {available} candidates")
        query = self._query(state, exclude, exclude_seen)
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
        group = groups.group(self.items.representations).to(self._device)
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
            total = self._log_of_sum(query)
            items = [self.items.tokens[row] for row in rows[:, 0].tolist()]
            times = None
            if every is not None and bool(torch.isfinite(state.latest).all()):
                times = (state.latest + every).tolist()
            state = self.update_many(state, items, times)
            likely = (scores[:, 0] - total).exp().tolist()
            found.append([Forecast(item, p, state[user]) for user, (item, p) in enumerate(zip(items, likely, strict=True))])
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
        row = int(self.items.find([item])[0])
        query = self._query(state)
        score = float(self._score_of(query, row)[0])
        of_item, is_exact = self._of_item(state, query, row)
        return Explanation(item, score, shares(of_item), is_exact, shares(self._of_user(state, row, score)))

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

    @torch.no_grad()
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
        if item in self.items.rows:
            raise RequestError(f"item {item!r} is there already: remove it first")
        if self._item_reader is None:
            raise RequestError("the model knows items by their IDs alone: new ones cannot be added without training")
        encoded = self._item_reader.read(content)
        fusion = self.model.item_fusion
        new = NewItem(
            fusion.of(encoded.content)[0],
            encoded.content,
            {name: fusion.features[name].condition(features)[0] for name, features in encoded.content.items()},  # type: ignore[operator]
            encoded.text,
            str(next(iter(content.values()))) if encoded.text else "",
        )
        row = self.items.add(item, new)
        if self._index is not None:
            self._index.add(self.items.factors(torch.tensor([row], device=self._device)))

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

    def _represented(self, user: str | None, profile: Mapping[str, Any] | None) -> Tensor:
        """Who a user is, ``[1, U]``; of no width where the model does not know users by content."""
        fusion = self.model.user_fusion
        if user is not None and profile is not None:
            raise RequestError("a user is named, or has a profile of their own, and not both")
        if profile is not None:
            if fusion is None or self._user_reader is None:
                raise RequestError("the model does not know users by content: leave the profile out")
            with torch.no_grad():
                return fusion.of(self._user_reader.read(profile).content)
        row = 0 if user is None else self._user_row(user)
        if fusion is None:
            return torch.zeros(1, 0, device=self._device)
        with torch.no_grad():
            return fusion(torch.tensor([row], device=self._device))

    def _user_row(self, user: str) -> int:
        if user not in self.users:
            raise RequestError(f"unknown user {user!r}: start without a name, or with a profile, for a new one")
        return self.users[user]

    def _initial(self, user: Tensor) -> InterestState:
        if self.model.user_fusion is None:
            return self.model.tracker.neutral_state(len(user))
        return self.model.tracker.initial_state(user)

    @torch.no_grad()
    def _start(
        self, user: Tensor, history: Sequence[str], at: Sequence[float] | None, may_be_unknown: bool = False
    ) -> State:
        if at is not None and len(at) != len(history):
            raise RequestError(f"{len(history)} events and {len(at)} times: one each")
        rows = self.items.find(history, removed_too=True)[None]
        known = [None if may_be_unknown and np.isnan(time) else time for time in at] if at is not None else None
        times = self._times(history, known)
        latest = torch.cat([torch.tensor([-torch.inf], dtype=torch.float64), times.nan_to_num(nan=-torch.inf)])
        latest = latest.cummax(0).values
        self._check_order(history, times, latest[:-1])
        interest, tracker = self._read(rows, times[None], self._initial(user))
        length = torch.tensor([len(history)])
        return State(tracker, interest, EventLog.of(rows, times[None], length), length, latest[-1:], self.version)

    def _read(
        self, rows: Tensor, times: Tensor, tracker: InterestState, before: Tensor | None = None
    ) -> tuple[Tensor, InterestState]:
        """Interest after the last of some events, ``[B, D]``, and the state.

        ``before``, ``[B]``, is the time of the event before the first of them; None where there was no such event.
        """
        if not rows.shape[1]:
            # what the tracker makes of an event that says nothing; it has not happened
            nothing = self.items.representations.new_zeros(len(rows), self.items.representations.shape[1])
            return self.model.tracker.step(nothing, tracker)[0], tracker
        first = torch.full_like(times[:, :1], -torch.inf) if before is None else before[:, None]
        events = self._events(rows, times, torch.cat([first, times[:, :-1]], dim=1))
        if isinstance(self.model.tracker.encoder, TransformerEncoder):
            events = events[:, -self._max_length :]
        interest, tracker = self.model.tracker.read(events, tracker)
        return interest[:, -1], tracker

    def _events(self, rows: Tensor, times: Tensor, before: Tensor) -> Tensor:
        """What the tracker reads of events, ``[B, L, D]``."""
        events = self.items.representations[rows.to(self._device)]
        for name, embedding in self.model.time_embeddings.items():
            feature = time_feature_of(name, times.numpy(), before.numpy())
            events = events + embedding(torch.from_numpy(feature).to(self._device))
        return events

    def _times(self, items: Sequence[str], at: Sequence[float | None] | None) -> Tensor:
        if at is None:
            return torch.full((len(items),), torch.nan, dtype=torch.float64)
        for item, time in zip(items, at, strict=True):
            if time is not None and not np.isfinite(time):
                raise RequestError(f"the time of {item!r} is {time}: give a number, or None where it is not known")
        return torch.tensor([torch.nan if time is None else time for time in at], dtype=torch.float64)

    @staticmethod
    def _check_order(items: Sequence[str], times: Tensor, latest: Tensor) -> None:
        late = (times < latest).nonzero().squeeze(1).tolist()
        if late:
            raise RequestError(
                f"the event of {items[late[0]]!r} at {times[late[0]]:.10g} is older than the one before it, at "
                f"{latest[late[0]]:.10g}: events have to come in order"
            )

    def _check(self, state: State) -> None:
        if state.model != self.version:
            raise StateError(
                f"the state is of another model ({state.model[:12]}, not {self.version[:12]}): start anew from the "
                "user's history"
            )

    def _query(self, state: State, exclude: Collection[str] = (), exclude_seen: bool = False) -> Query:
        items = state.items
        out = [self.items.removed, self.items.find(list(exclude))]
        excluded = torch.cat(out).expand(len(state), -1)
        if exclude_seen:
            excluded = torch.cat([excluded, items], dim=1)
        return self._query_of(state.interest, items, state.length, excluded)

    def _query_of(self, interest: Tensor, items: Tensor, length: Tensor, excluded: Tensor) -> Query:
        temperature = self.model.temperature
        bonus = self._bonus(items, length)
        if temperature is not None:
            interest = F.normalize(interest, dim=-1) / temperature
            bonus = bonus._replace(bonus=bonus.bonus / temperature)
        return Query(interest, bonus, excluded.to(self._device))

    def _bonus(self, items: Tensor, length: Tensor) -> HistoryBonus:
        """What histories, ``[B, L]``, add to the cosines of a few items."""
        model, parts = self.model, []
        items, last = items.to(self._device), length.to(self._device) - 1
        if model.repeat_bias is not None:
            parts.append(model.repeat_bias(items, last))
        if model.neighbour_bias is not None:
            parts.append(self._neighbour_bonus(items, last))
        if parts:
            return together(*parts)
        return HistoryBonus(items[:, :0], self.items.representations.new_zeros(len(items), 0))

    def _neighbour_bonus(self, items: Tensor, last: Tensor) -> HistoryBonus:
        """The same of the items' neighbours, for which the recent events are looked up, and no others."""
        place = last[:, None] - torch.arange(min(items.shape[1], self._max_length), device=items.device).flip(0)
        recent = items.gather(1, place.clamp(min=0)).where(place >= 0, 0)
        neighbours = self.items.neighbours(recent.flatten())
        of_nobody = neighbours.new_zeros(1, *neighbours.shape[1:])
        number = torch.arange(1, recent.numel() + 1, device=items.device).view_as(recent).where(recent > 0, 0)
        ends = torch.full_like(last, recent.shape[1] - 1)
        bonus: HistoryBonus = self.model.neighbour_bias(number, ends, torch.cat([of_nobody, neighbours]))  # type: ignore[misc]
        return bonus

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

    def _score_of(self, query: Query, row: int) -> Tensor:
        """Scores of one item, ``[B]``; what is excluded has one, too."""
        rows = torch.tensor([row], device=self._device)
        nothing = query.excluded[:, :0]
        block = Block(rows, self.items.factors(rows).T)
        return score_block(Query(query.interest, query.bonus, nothing), block)[:, 0]

    def _log_of_sum(self, query: Query) -> Tensor:
        sums = [
            torch.stack([score_block(part, block).logsumexp(dim=1) for block in self.items.blocks()]).logsumexp(dim=0)
            for part in query.in_parts()
        ]
        return torch.cat(sums)

    def _of_item(self, state: State, query: Query, row: int) -> tuple[list[tuple[str, float, float | None]], bool]:
        """Points of the modalities, and of what the history adds; and whether they sum to the score."""
        fusion = self.model.item_fusion
        added = self.items.added.get(row)
        here = torch.tensor([row], device=self._device)
        parts, present = fusion.parts(here) if added is None else fusion.parts_of(added.content)
        names = [
            name if is_there else f"no {name}" for name, is_there in zip(fusion.modalities, present[0].tolist(), strict=True)
        ]
        vectors = modality_vectors(fusion, parts)
        length = self.items.representations[row].norm() if self.model.temperature is not None else 1.0
        if vectors is not None:
            points = (vectors @ query.interest[0] / length).tolist()
        else:
            whole, _ = fusion.combine(parts)
            points = []
            for place in range(len(names)):
                less = parts.clone()
                less[:, place] = fusion.missing[place]
                rest, _ = fusion.combine(less)
                both = torch.cat([whole, rest])
                both = F.normalize(both, dim=-1) if self.model.temperature is not None else both
                points.append(float((both[0] - both[1]) @ query.interest[0]))
        found: list[tuple[str, float, float | None]] = [(n, p, None) for n, p in zip(names, points, strict=True)]
        items, last = state.items.to(self._device), state.length.to(self._device) - 1
        scale = self.model.temperature or 1.0
        said = {"had before": self.model.repeat_bias and self.model.repeat_bias(items, last),
                "like what was chosen": self.model.neighbour_bias and self._neighbour_bonus(items, last)}  # fmt: skip
        for name, bonus in said.items():
            if bonus is not None:
                found.append((name, float(bonus.bonus[bonus.items == row].sum()) / scale, None))
        return found, vectors is not None

    def _of_user(self, state: State, row: int, score: float) -> list[tuple[str, float, float | None]]:
        """What the score loses without the profile, without each recent event, and without the older ones."""
        rows, times = state.items, state.times
        length = rows.shape[1]
        user = state.tracker.user
        user = torch.zeros(1, 0, device=self._device) if user is None else user
        start = self._initial(user)
        older = max(length - _EXPLAINED, 0)
        found: list[tuple[str, float, float | None]] = []
        if user.shape[1]:
            unknown = self._initial(self._represented(None, None))
            found.append(("profile", score - self._replayed(rows, times, unknown, row)[0], None))
        if older:
            recent = self._replayed(rows[:, older:], times[:, older:], start, row)[0]
            found.append((f"{older} older events", score - recent, None))
        if length:
            others = self._replayed(*without([rows[0], times[0]], older), start, row, older)
            names = [self.items.tokens[item] for item in rows[0, older:].tolist()]
            whens = [None if np.isnan(time) else time for time in times[0, older:].tolist()]
            found += [(name, score - rest, when) for name, rest, when in zip(names, others, whens, strict=True)]
        return found

    def _replayed(self, rows: Tensor, times: Tensor, tracker: InterestState, row: int, alike: int = 0) -> list[float]:
        """Scores of an item after other histories, ``[B, L]``, of one user; the first ``alike`` events are the same."""
        before = None
        if alike:
            _, tracker = self._read(rows[:1, :alike], times[:1, :alike], tracker)
            before = times[:, alike - 1]
        count = len(rows)
        carried, past, user = tracker
        tracker = InterestState(
            carried.expand(-1, count, -1).contiguous(),
            past.expand(count, -1, -1),
            None if user is None else user.expand(count, -1),
        )
        interest, _ = self._read(rows[:, alike:], times[:, alike:], tracker, before)
        length = torch.full((count,), rows.shape[1])
        query = self._query_of(interest, rows, length, rows.new_zeros(count, 1))
        return [float(score) for score in self._score_of(query, row)]


def _neighbourhoods(model: LLMInterest) -> dict[str, Neighbourhood]:
    if model.neighbour_bias is None:
        return {}
    fusion = model.item_fusion
    neighbours, present = fusion.get_buffer("neighbours"), fusion.get_buffer("present")
    modalities = [name for name in fusion.modalities if name != ID]
    return {
        name: Neighbourhood(fusion.features[name].get_buffer("values"), present[:, column], neighbours[:, column])
        for column, name in enumerate(modalities)
    }


def _texts(catalogue: Catalogue) -> dict[str, str]:
    return {token: piece.text for token, piece in catalogue.pieces["text"].items() if isinstance(piece, Text)}


def _reader(config: Config, kind: str, settings: ContentSettings, fusion: ContentFusion | None) -> ContentReader | None:
    if fusion is None or not len(fusion.features):
        return None
    id_field = config["ITEM_ID_FIELD"] if kind == "item" else config["USER_ID_FIELD"]
    fields, template = getattr(settings, f"{kind}_text_fields"), getattr(settings, f"{kind}_text_template")
    widths = {name: features.encoded_size for name, features in fusion.features.items()}
    return ContentReader(kind, settings, text_writer(kind, id_field, fields, template)[0], widths)


def _version(model: LLMInterest, tokens: Iterable[str]) -> str:
    hashed = hashlib.sha256(digest(tokens).encode())
    hashed.update(repr((model.temperature, sorted(model.time_embeddings))).encode())
    for name, values in sorted(model.state_dict().items()):
        hashed.update(name.encode())
        hashed.update(memoryview(values.detach().cpu().contiguous().view(-1).numpy()))  # type: ignore[arg-type]
    return hashed.hexdigest()


def _check_is_one(state: State) -> None:
    if len(state) != 1:
        raise RequestError(f"the state is of {len(state)} users: this asks about one; the …_many method, about all")
