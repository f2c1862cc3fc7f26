"""Predictive objectives: an item or its features from what is left of a history or an item."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.losses import next_item_loss
from recbole_llm_interest.model.scoring import ScoringRule
from recbole_llm_interest.model.ssl import augmentation
from recbole_llm_interest.model.ssl.objectives import OBJECTIVES, Objective, TrainingBatch, interest_at
from recbole_llm_interest.settings import ModelSettings

#: steps of a walk through the catalogue
_STEPS = 4
#: of new items among the next ones: with fewer, walks would take time and teach nothing
_LEAST_SHARE = 0.01


@OBJECTIVES.register("backward")
class BackwardReading(Objective):
    """The next-item loss on reversed histories, as in the pretraining of ASReP (arXiv 2105.00522).

    A learned vector is added to every item, so that the tracker knows the direction. Each history is used twice, which
    helps where histories are short.

    Example:
        >>> BackwardReading(item_size=batch.items.shape[1])(batch).shape
        torch.Size([])
    """

    def __init__(self, item_size: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.zeros(item_size))

    @classmethod
    def from_settings(
        cls, settings: ModelSettings, item_encoder: EntityEncoder, new_item_share: float
    ) -> BackwardReading:
        """Build it for the items' width."""
        return cls(item_encoder.output_size)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar."""
        item_seq, previous = augmentation.reverse(batch.item_seq, batch.pos_items, batch.item_seq_len)
        seq_output = batch.track(item_seq, batch.user, batch.items + self.direction)
        return batch.next_item_loss(seq_output, item_seq, previous, previous.nonzero(as_tuple=True), None)


@OBJECTIVES.register("walks")
class CatalogueWalks(Objective):
    """The next-item loss on random walks through the catalogue, each step to one of the nearest items by content.

    The walks of DeepWalk (arXiv 1403.6652), by content in the place of links, as histories of unknown users: whatever
    has content is an event, a target and a negative there, also where training has no event of it.

    The loss is multiplied by the share of new items among the next ones (``new_item_share``): where all items have many
    events, these know better than content which items go together. Where it is below ``_LEAST_SHARE`` and without
    neighbours (``content_neighbours``), there are no walks, and the loss is 0.

    Example:
        >>> walks = CatalogueWalks(temperature=0.07, neighbours=batch.item_encoder.neighbours, new_item_share=0.2)
        >>> walks(batch).shape
        torch.Size([])
    """

    def __init__(self, temperature: float | None, neighbours: Tensor, new_item_share: float) -> None:
        super().__init__()
        self.rule = ScoringRule(temperature)
        self.new_item_share = new_item_share
        starts = (neighbours[:, :, :1] > 0).flatten(1).any(dim=1).nonzero().squeeze(1)
        self.register_buffer("starts", starts, persistent=False)

    @classmethod
    def from_settings(
        cls, settings: ModelSettings, item_encoder: EntityEncoder, new_item_share: float
    ) -> CatalogueWalks:
        """Build it from ``score``, ``temperature``, the items' neighbours and how often an item is new."""
        temperature = ScoringRule.from_settings(settings).temperature
        return cls(temperature, item_encoder.get_buffer("neighbours"), new_item_share)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar."""
        starts = self.get_buffer("starts")
        if not len(starts) or self.new_item_share < _LEAST_SHARE:
            return batch.items.sum() * 0
        start = starts[torch.randint(len(starts), batch.user.shape, device=starts.device)]
        steps = min(_STEPS, batch.item_seq.shape[1])
        walk = augmentation.walk(start, steps, batch.item_encoder.neighbours_of)
        index = batch.candidates.index_of[walk]
        new, place = torch.unique(walk[index == 0], return_inverse=True)  # without a training event, or not drawn
        index[index == 0] = len(batch.items) + place
        items = torch.cat([batch.items, batch.item_encoder(new)])
        seq_output = batch.track(index[:, :-1], torch.zeros_like(batch.user), items)
        correction = F.pad(batch.candidates.logit_correction, (0, len(new)))
        return self.new_item_share * next_item_loss(
            seq_output.flatten(0, 1), items, index[:, 1:].flatten(), self.rule, logit_correction=correction
        )


@OBJECTIVES.register("masked_item")
class MaskedItem(Objective):
    """Cross-entropy of one masked item of each history, predicted from the interest at its end.

    The cloze task of BERT4Rec (arXiv 1904.06690) for a tracker that reads in one direction. Histories of one event
    take no part.

    Example:
        >>> MaskedItem(temperature=0.07, item_size=batch.items.shape[1])(batch).shape
        torch.Size([])
    """

    def __init__(self, temperature: float | None, item_size: int) -> None:
        super().__init__()
        self.rule = ScoringRule(temperature)
        self.mask = nn.Parameter(torch.empty(item_size).normal_(std=0.02))
        self.question = nn.Linear(item_size, item_size)

    @classmethod
    def from_settings(cls, settings: ModelSettings, item_encoder: EntityEncoder, new_item_share: float) -> MaskedItem:
        """Build it from ``score`` and ``temperature``."""
        return cls(ScoringRule.from_settings(settings).temperature, item_encoder.output_size)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar."""
        has_context = batch.item_seq_len > 1
        point = (torch.rand(len(has_context), device=has_context.device) * batch.item_seq_len).long()[:, None]
        masked_items = batch.item_seq.gather(1, point).squeeze(1)
        item_seq = batch.item_seq.scatter(1, point, len(batch.items))
        seq_output = batch.track(item_seq, batch.user, torch.cat([batch.items, self.mask[None]]))
        prediction = self.question(interest_at(seq_output, batch.item_seq_len - 1))
        if not has_context.any():
            return prediction.sum() * 0
        return next_item_loss(
            prediction[has_context],
            batch.items,
            masked_items[has_context],
            self.rule,
            logit_correction=batch.candidates.logit_correction,
        )


@OBJECTIVES.register("autoencoding")
class FeatureAutoencoding(Objective):
    """Reconstruction of each modality's frozen features from an item's representation.

    A linear decoder a modality, with 1 - cosine as its error; with ``modality_dropout``, dropped modalities are
    reconstructed as well (denoising: Vincent et al., ICML 2008). The mean over the modalities that items have.

    Example:
        >>> list(FeatureAutoencoding(batch.item_encoder).decoders)
        ['text']
    """

    def __init__(self, item_encoder: EntityEncoder) -> None:
        super().__init__()
        self.decoders = nn.ModuleDict(
            {
                modality: nn.Linear(item_encoder.output_size, features.get_buffer("values").shape[1])
                for modality, features in item_encoder.features.items()
            }
        )

    @classmethod
    def from_settings(
        cls, settings: ModelSettings, item_encoder: EntityEncoder, new_item_share: float
    ) -> FeatureAutoencoding:
        """Build one decoder a modality."""
        return cls(item_encoder)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar."""
        encoder, sampled = batch.item_encoder, batch.sampled_items()
        ids, representation = batch.candidates.ids[sampled], batch.items[sampled]
        present = encoder.get_buffer("present")[ids]
        error, count = representation.new_zeros(()), representation.new_zeros(())
        for modality, decoder in self.decoders.items():
            is_present = present[:, encoder.modalities.index(modality)]
            distance = 1 - F.cosine_similarity(decoder(representation), encoder.features[modality](ids), dim=-1)
            error = error + distance.where(is_present, 0.0).sum()
            count = count + is_present.sum()
        return error / count.clamp(min=1)
