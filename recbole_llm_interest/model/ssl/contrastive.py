"""Contrastive objectives: InfoNCE over the batch, without false negatives."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.model.entity_encoder import ID, EntityEncoder
from recbole_llm_interest.model.losses import info_nce
from recbole_llm_interest.model.ssl import augmentation
from recbole_llm_interest.model.ssl.objectives import OBJECTIVES, Objective, TrainingBatch, interest_at
from recbole_llm_interest.settings import ModelSettings


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
    def from_settings(
        cls, settings: ModelSettings, item_encoder: EntityEncoder, new_item_share: float
    ) -> FutureContrast:
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
        return info_nce(interest_at(batch.seq_output, point), future, false_negatives, self.temperature)


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
    def from_settings(cls, settings: ModelSettings, item_encoder: EntityEncoder, new_item_share: float) -> ViewContrast:
        """Build it from ``ssl_temperature`` and ``ssl_share``."""
        return cls(settings.ssl_temperature, settings.ssl_share, item_encoder.output_size)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss, a scalar."""
        items = torch.cat([batch.items, self.mask[None]])
        view, other_view = (self._view(batch, items) for _ in range(2))
        return info_nce(view, other_view, _equal_pairs(batch.user), self.temperature)

    def _view(self, batch: TrainingBatch, items: Tensor) -> Tensor:
        item_seq, item_seq_len = self._augmented(batch)
        return interest_at(batch.track(item_seq, batch.user, items), item_seq_len - 1)

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
    def from_settings(
        cls, settings: ModelSettings, item_encoder: EntityEncoder, new_item_share: float
    ) -> ModalityAlignment:
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


def _equal_pairs(group: Tensor) -> Tensor:
    """Which pairs are of the same group, ``[B] -> [B, B]``."""
    return group[:, None] == group
