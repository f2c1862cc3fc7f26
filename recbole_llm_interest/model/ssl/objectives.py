"""Self-supervised objectives beside the next-item loss.

Each is a module with ``forward(batch) -> loss``, a scalar, registered in ``OBJECTIVES``; the setting
``ssl_<name>_weight`` adds it to the loss. The contrastive ones are InfoNCE over the batch, without false negatives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.model.entity_encoder import ID, EntityEncoder
from recbole_llm_interest.model.losses import info_nce, next_item_loss
from recbole_llm_interest.model.negative_sampling import Candidates
from recbole_llm_interest.model.scoring import ScoringRule
from recbole_llm_interest.model.ssl import augmentation
from recbole_llm_interest.settings import OBJECTIVE_WEIGHT, ModelSettings, Registry

#: items of a batch that an objective over items samples at most, which bounds its cost
_MAX_ITEMS = 1024


@dataclass(frozen=True)
class TrainingBatch:
    """A batch, as objectives see it. An item is its index among the step's C candidates.

    Attributes:
        item_seq: ``[B, L]``, padded behind the end with 0.
        item_seq_len: ``[B]``.
        pos_items: the item that follows each event, ``[B, L]``, 0 behind the end.
        user: ``[B]``; a long history is several rows of one user.
        items: representations of the candidates, ``[C, D]``.
        candidates: their ids.
        seq_output: interest after each event, ``[B, L, D]``.
        item_encoder: what made the representations.
        track: interest after each event of other histories of the same users, from histories ``[B, L]`` and
            representations ``[C, D]``: ``[B, L, D]``.
        next_item_loss: the next-item loss of interest ``[B, L, D]`` after each event of histories ``[B, L]`` that are
            followed by items ``[B, L]``, a scalar.

    Example:
        >>> batch.seq_output.shape[:2] == batch.item_seq.shape  # what a model passes to its objectives
        True
        >>> torch.allclose(batch.track(batch.item_seq, batch.items), batch.seq_output)
        True
    """

    item_seq: Tensor
    item_seq_len: Tensor
    pos_items: Tensor
    user: Tensor
    items: Tensor
    candidates: Candidates
    seq_output: Tensor
    item_encoder: EntityEncoder
    track: Callable[[Tensor, Tensor], Tensor]
    next_item_loss: Callable[[Tensor, Tensor, Tensor], Tensor]

    def sampled_items(self) -> Tensor:
        """Distinct items of the batch at random, at most ``_MAX_ITEMS``, ``[K]``."""
        distinct = torch.unique(self.item_seq[self.item_seq > 0])
        return distinct[torch.randperm(len(distinct), device=distinct.device)[:_MAX_ITEMS]]


class Objective(nn.Module):
    """The base of self-supervised objectives.

    Example:
        >>> class Shrinkage(Objective):
        ...     @classmethod
        ...     def from_settings(cls, settings, item_encoder):
        ...         return cls()
        ...     def forward(self, batch):
        ...         return batch.seq_output.square().mean()
        >>> Shrinkage()(batch).shape  # OBJECTIVES.register("shrinkage") adds the setting ssl_shrinkage_weight
        torch.Size([])
    """

    @classmethod
    def from_settings(cls, settings: ModelSettings, item_encoder: EntityEncoder) -> Objective:
        """Build it from the settings that it reads."""
        raise NotImplementedError

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar."""
        raise NotImplementedError


#: objectives by name; their weights are the settings ``ssl_<name>_weight``
OBJECTIVES: Registry[type[Objective]] = Registry("SSL objective", OBJECTIVE_WEIGHT)


@OBJECTIVES.register("future")
class FutureContrast(Objective):
    """Contrast of the interest at a random point of each history with the items that follow there.

    The positive is the mean representation of the next ``horizon`` items (Ma et al., KDD 2020), the negatives those of
    other users. A horizon of 1 contrasts a history with its next item.

    Example:
        >>> FutureContrast(temperature=0.2, horizon=5)(batch).shape
        torch.Size([])
    """

    def __init__(self, temperature: float, horizon: int) -> None:
        super().__init__()
        self.temperature = temperature
        self.horizon = horizon

    @classmethod
    def from_settings(cls, settings: ModelSettings, item_encoder: EntityEncoder) -> FutureContrast:
        """Build it from ``ssl_temperature`` and ``ssl_horizon``."""
        return cls(settings.ssl_temperature, settings.ssl_horizon)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar."""
        user = batch.user
        point = (torch.rand(len(user), device=user.device) * batch.item_seq_len).long()
        ahead = point[:, None] + torch.arange(self.horizon, device=user.device)
        following = F.pad(batch.pos_items, (0, self.horizon)).gather(1, ahead)  # [B, horizon], 0 behind the end
        future = F.embedding(following, batch.items).sum(dim=1) / (following > 0).sum(dim=1, keepdim=True)
        false_negatives = _equal_pairs(user) | _equal_pairs(following[:, 0])
        return info_nce(_at(batch.seq_output, point), future, false_negatives, self.temperature)


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
    def from_settings(cls, settings: ModelSettings, item_encoder: EntityEncoder) -> BackwardReading:
        """Build it for the items' width."""
        return cls(item_encoder.output_size)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar."""
        item_seq, previous = augmentation.reverse(batch.item_seq, batch.pos_items, batch.item_seq_len)
        seq_output = batch.track(item_seq, batch.items + self.direction)
        return batch.next_item_loss(seq_output, item_seq, previous)


@OBJECTIVES.register("views")
class ViewContrast(Objective):
    """Contrast of the interests after two random augmentations of each history.

    A view is cropped, masked, reordered, or has items substituted by their neighbours (CL4SRec, arXiv 2010.14395;
    CoSeRec, arXiv 2108.06479). Without neighbours (``content_neighbours``), nothing is substituted.

    Example:
        >>> ViewContrast(temperature=0.2, share=0.3, item_size=batch.items.shape[1])(batch).shape
        torch.Size([])
    """

    def __init__(self, temperature: float, share: float, item_size: int) -> None:
        super().__init__()
        self.temperature = temperature
        self.share = share
        self.mask = nn.Parameter(torch.empty(item_size).normal_(std=0.02))

    @classmethod
    def from_settings(cls, settings: ModelSettings, item_encoder: EntityEncoder) -> ViewContrast:
        """Build it from ``ssl_temperature`` and ``ssl_share``."""
        return cls(settings.ssl_temperature, settings.ssl_share, item_encoder.output_size)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar."""
        items = torch.cat([batch.items, self.mask[None]])
        view, other_view = (self._view(batch, items) for _ in range(2))
        return info_nce(view, other_view, _equal_pairs(batch.user), self.temperature)

    def _view(self, batch: TrainingBatch, items: Tensor) -> Tensor:
        item_seq, item_seq_len = self._augmented(batch)
        return _at(batch.track(item_seq, items), item_seq_len - 1)

    @torch.no_grad()
    def _augmented(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        item_seq, item_seq_len = batch.item_seq.clone(), batch.item_seq_len.clone()
        count = len(batch.items)
        candidates = batch.candidates
        neighbours = candidates.index_of[batch.item_encoder.get_buffer("neighbours")[candidates.ids].long()]
        augmentations: list[Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]] = [
            lambda seq, length, share: augmentation.crop(seq, length, 1 - share),
            lambda seq, length, share: augmentation.mask(seq, length, share, mask_id=count),
            augmentation.reorder,
        ]
        if neighbours.numel():
            augmentations.append(lambda seq, length, share: augmentation.substitute(seq, length, share, neighbours))
        drawn = torch.randint(len(augmentations), item_seq_len.shape, device=item_seq.device)
        for number, augment in enumerate(augmentations):
            rows = drawn == number
            item_seq[rows], item_seq_len[rows] = augment(item_seq[rows], item_seq_len[rows], self.share)
        return item_seq, item_seq_len


@OBJECTIVES.register("modalities")
class ModalityAlignment(Objective):
    """Contrast of an item's modalities: its text with its image or sound, among those of other items.

    The mean over the pairs of modalities (CLIP, arXiv 2103.00020); 0 if items have one modality only. The ID takes no
    part: it would have to repeat the content.

    Example:
        >>> float(ModalityAlignment(temperature=0.2)(batch))  # these items have one modality
        0.0
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    @classmethod
    def from_settings(cls, settings: ModelSettings, item_encoder: EntityEncoder) -> ModalityAlignment:
        """Build it from ``ssl_temperature``."""
        return cls(settings.ssl_temperature)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar."""
        items = batch.candidates.ids[batch.sampled_items()]
        parts, present = batch.item_encoder.parts(items)
        columns = [column for column, modality in enumerate(batch.item_encoder.modalities) if modality != ID]
        losses = []
        for one, other in combinations(columns, 2):
            both = present[:, one] & present[:, other]
            if both.any():
                false_negatives = _equal_pairs(items[both])
                losses.append(info_nce(parts[both, one], parts[both, other], false_negatives, self.temperature))
        return torch.stack(losses).mean() if losses else parts.new_zeros(())


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
    def from_settings(cls, settings: ModelSettings, item_encoder: EntityEncoder) -> MaskedItem:
        """Build it from ``score`` and ``temperature``."""
        return cls(ScoringRule.from_settings(settings).temperature, item_encoder.output_size)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar."""
        has_context = batch.item_seq_len > 1
        point = (torch.rand(len(has_context), device=has_context.device) * batch.item_seq_len).long()[:, None]
        masked_items = batch.item_seq.gather(1, point).squeeze(1)
        item_seq = batch.item_seq.scatter(1, point, len(batch.items))
        seq_output = batch.track(item_seq, torch.cat([batch.items, self.mask[None]]))
        prediction = self.question(_at(seq_output, batch.item_seq_len - 1))
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
    def from_settings(cls, settings: ModelSettings, item_encoder: EntityEncoder) -> FeatureAutoencoding:
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


def _at(seq_output: Tensor, point: Tensor) -> Tensor:
    """Interest at one point of each history, ``[B, L, D], [B] -> [B, D]``."""
    return seq_output.gather(1, point[:, None, None].expand(-1, 1, seq_output.shape[2])).squeeze(1)


def _equal_pairs(group: Tensor) -> Tensor:
    """Which pairs are of the same group, ``[B] -> [B, B]``."""
    return group[:, None] == group
