"""A sequential data set with content: histories as index ranges, features by internal id."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.config import Config
from torch import Tensor

from recbole_llm_interest.content.catalogue import Catalogue
from recbole_llm_interest.content.dataset_files import catalogue_from_config, feature_cache, record_features
from recbole_llm_interest.content.encoders.adapter_file import learned_events
from recbole_llm_interest.content.event_fields import EVENT_KINDS, EventKind, content_field
from recbole_llm_interest.content.event_inputs import NO_INPUTS, EventInputs
from recbole_llm_interest.content.event_neighbours import EventNeighbours, find_event_neighbours
from recbole_llm_interest.content.features import Content, control
from recbole_llm_interest.content.pipeline import collect_content
from recbole_llm_interest.content.summary import EncodingSummary
from recbole_llm_interest.content.transitions import Transitions, count_transitions
from recbole_llm_interest.data.event_dataset import EventDataset
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.settings import MODALITIES, ContentSettings, ModelSettings, read_settings

_logger = logging.getLogger(__name__)


class LLMInterestDataset(EventDataset):
    """A sequential data set with the content of its items and users.

    Attributes:
        item_content: features of items by modality; row ``i`` belongs to internal item id ``i``.
        user_content: the same for users; empty if users have no content.
        neighbour_cache: the folder of items' neighbours by content.
        event_inputs: what the model reads of events beside their items.
        context_inputs: the part of it that was known before the items were chosen.
        item_neighbours: those neighbours if they are known; None if the model computes them.
        event_neighbours: neighbours of events by content in the training split; None without such content.

    Raises:
        DataError: the data set has no timestamps, or content is missing and ``strict_content`` is set.
        SettingsError: ``save_dataset`` or ``dataset_save_path`` is set.
        EncoderError: an encoder cannot be loaded.
    """

    item_neighbours: Tensor | None = None
    event_neighbours: EventNeighbours | None = None

    def __init__(self, config: Config) -> None:
        settings = read_settings(ContentSettings, config)
        self.event_inputs = self.context_inputs = NO_INPUTS
        super().__init__(config)
        record_features(config, settings)
        self.neighbour_cache = feature_cache(config, settings) / "neighbours"
        self.item_content = self._content("item", self.iid_field, settings)
        self.user_content = self._content("user", self.uid_field, settings)

    def _content(self, kind: str, id_field: str, settings: ContentSettings) -> Content:
        """Return the features of all items or users."""
        tokens = [str(token) for token in self.field2id_token[id_field]]
        tokens[0] = ""  # RecBole's padding: an item may be called [PAD], too
        return self._collect(catalogue_from_config(self.config, kind, settings), tokens, settings)

    def _collect(
        self,
        catalogue: Catalogue,
        tokens: list[str],
        settings: ContentSettings,
        fitted: NDArray[np.bool_] | None = None,
    ) -> Content:
        """Return the features of ``tokens``, and warn about missing content."""
        kind = catalogue.kind
        cache = feature_cache(self.config, settings)
        content, summaries = collect_content(catalogue, tokens, cache, settings, fitted)
        _report(summaries, kind, settings)
        controlled = {
            name: features for name, features in content.items() if f"{kind}_{name}" in settings.controlled_content
        }
        if kind in self.side_information and settings.content_control == "shuffled":
            return content  # it has been permuted among events
        return content | control(controlled, settings.content_control, self.config["seed"])

    def _event_inputs(self, is_training: NDArray[np.bool_]) -> dict[EventKind, EventInputs]:
        """What models read of events beside their items, fitted on training events alone, ``[E]``."""
        settings = read_settings(ContentSettings, self.config)
        inputs: dict[EventKind, EventInputs] = {}

        def collect(catalogue: Catalogue, tokens: list[str], fitted: NDArray[np.bool_]) -> Content:
            return self._collect(catalogue, tokens, settings, fitted)

        for kind, information in self.side_information.items():
            inputs[kind] = information.fit(is_training, collect)
            self.event_features |= information.features
        return inputs

    def _event_neighbours(self, is_training: NDArray[np.bool_]) -> EventNeighbours | None:
        """Neighbours of training events, ``[E]``; None without content, or without ``event_neighbours``."""
        count, content = read_settings(ModelSettings, self.config).event_neighbours, self.event_inputs.content
        if not count or not content:
            return None
        at = torch.from_numpy(is_training.nonzero()[0])
        rows, users = self.event_features[content_field("event")], torch.as_tensor(self.event_users)
        sizes = {"num_items": self.item_num, "count": count}
        return find_event_neighbours(
            content, rows[at], self.event_items[at], users[at], **sizes, cache=self.neighbour_cache
        )

    def _is_training(self) -> NDArray[np.bool_]:
        """Which events are those of this split, ``[E]``."""
        targets = self.training_targets()[1]
        is_training = np.zeros(len(self.event_items), dtype=bool)
        is_training[torch.cat([targets - 1, targets])] = True
        if "context" in self.side_information:
            is_training[self.first_training_events()] = True
        return is_training

    def build(self) -> list[Self]:
        """Split the data as RecBole does, and warn where an adapter has learned from events that are held out here.

        Raises:
            DataError: ``ssl_shown_weight`` is set, and no training event has shown items.
        """
        parts: list[Self] = super().build()
        if read_settings(ModelSettings, self.config).ssl_shown_weight and not parts[0].item_shown.any():
            raise DataError(
                "ssl_shown_weight learns from shown items, and no training event has any: name them by shown_field"
            )
        is_training = parts[0]._is_training()
        inputs = parts[0]._event_inputs(is_training)
        for part in parts:
            part.event_inputs, part.context_inputs = (inputs.get(kind, NO_INPUTS) for kind in EVENT_KINDS)
        parts[0].event_neighbours = parts[0]._event_neighbours(is_training)
        parts[0]._report_adapters()
        return parts

    def _report_adapters(self) -> None:
        settings = read_settings(ContentSettings, self.config)
        adapters = {f"{name}_adapter": getattr(settings, f"{name}_adapter") for name in MODALITIES}
        adapters = {name: adapter for name, adapter in adapters.items() if adapter is not None}
        digest = self.training_events().digest(self.field2id_token[self.iid_field]) if adapters else ""
        for name, adapter in adapters.items():
            if (learned := learned_events(adapter)) not in ("", digest):
                _logger.warning(
                    "%s learned from other training events than this run's (%.8s, not %.8s): of the same data, "
                    "events that are held out here may be among them; adapt with the split and filters of this run",
                    *(name, learned, digest),
                )

    @property
    def trained_until(self) -> float | None:
        """The time of the newest event of this split, or of the training data; None without times."""
        if self.event_times is None:
            return None
        return float(self.event_times[torch.from_numpy(self._is_training())].max())

    @property
    def item_shown(self) -> Tensor:
        """Number of times that the model learns of each item as shown and not chosen in this split, ``[N]``."""
        if self.learned_shown is None:
            return torch.zeros(self.item_num, dtype=torch.long)
        shown = self.learned_shown[torch.cat([self.training_targets()[1], self.first_targets()[1]])]
        return torch.bincount(shown[shown > 0], minlength=self.item_num)

    @property
    def item_transitions(self) -> Transitions | None:
        """Neighbours of items by the transitions in this split; None without ``transition_neighbours``."""
        settings = read_settings(ModelSettings, self.config)
        if not settings.transition_neighbours:
            return None
        users, targets = self.training_targets()
        sizes = {"rows": self.item_num, "count": settings.transition_neighbours}
        transitions = count_transitions(self.event_items, users, targets, **sizes)
        return transitions.shuffled(self.config["seed"]) if settings.transition_control == "shuffled" else transitions


def _report(summaries: Sequence[EncodingSummary], kind: str, settings: ContentSettings) -> None:
    """Warn about missing content.

    Raises:
        DataError: there is some, and ``strict_content`` is set.
    """
    incomplete = [summary.pseudonymized(settings) for summary in summaries if summary.is_incomplete]
    for problem in (problem for summary in incomplete for problem in summary.problems()):
        advice = f"a learned vector is used instead; docs/your_data.md explains how to add content of {kind}s"
        if settings.strict_content:
            raise DataError(f"{problem}: {advice}, or set strict_content=False")
        _logger.warning("%s: %s", problem, advice)
