"""Self-supervised objectives: what the model can learn from histories and content beside the next item.

Each is a module with one interface, ``forward(histories) -> loss``, a scalar; those that are given a weight are added
to the next-item loss. All contrastive ones are InfoNCE over the batch, false negatives left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.model.fusion import ID
from recbole_llm_interest.model.item_encoder import ContentFusion
from recbole_llm_interest.model.losses import info_nce, next_item_loss
from recbole_llm_interest.model.negative_sampling import Candidates
from recbole_llm_interest.model.ssl import augmentation

#: items that an objective over items takes from a batch at most, so that its cost does not grow with the batch
_ITEMS_AT_MOST = 1024


@dataclass(frozen=True)
class Histories:
    """A training batch, as objectives see it. An item is its place among the step's candidates, ``[C]``.

    Attributes:
        item_seq: ``[B, L]``, 0 behind the end.
        item_seq_len: ``[B]``.
        next_items: ``[B, L]``, what follows each event, 0 behind the end.
        user: ``[B]``; a long history is several rows of one user.
        items: the candidates' representations, ``[C, D]``.
        candidates: which items they are.
        interest: after each event, ``[B, L, D]``.
        fusion: what made the items' representations.
        track: interest after each event of other histories of the same users, ``[B, L]`` and representations of the
            candidates to ``[B, L, D]``.
        next_item_loss: of interest ``[B, L, D]`` after each event of histories ``[B, L]`` that go on with other items
            ``[B, L]``.
    """

    item_seq: Tensor
    item_seq_len: Tensor
    next_items: Tensor
    user: Tensor
    items: Tensor
    candidates: Candidates
    interest: Tensor
    fusion: ContentFusion
    track: Callable[[Tensor, Tensor], Tensor]
    next_item_loss: Callable[[Tensor, Tensor, Tensor], Tensor]

    def some_items(self) -> Tensor:
        """Places of different items of the batch at random, at most ``_ITEMS_AT_MOST``, ``[K]``."""
        found = torch.unique(self.item_seq[self.item_seq > 0])
        return found[torch.randperm(len(found), device=found.device)[:_ITEMS_AT_MOST]]


class FutureContrast(nn.Module):
    """The interest at a random point of each history should find what follows there, among the other users' futures.

    What follows is the mean representation of the next ``horizon`` items: where a user turns to, and not one item
    only (Ma et al., KDD 2020). With a horizon of 1 it is the contrast between a history and its next item.
    """

    def __init__(self, temperature: float, horizon: int) -> None:
        super().__init__()
        self.temperature = temperature
        self.horizon = horizon

    def forward(self, histories: Histories) -> Tensor:
        user = histories.user
        point = (torch.rand(len(user), device=user.device) * histories.item_seq_len).long()
        ahead = point[:, None] + torch.arange(self.horizon, device=user.device)
        following = F.pad(histories.next_items, (0, self.horizon)).gather(1, ahead)  # [B, horizon], 0 behind the end
        future = F.embedding(following, histories.items).sum(dim=1) / (following > 0).sum(dim=1, keepdim=True)
        # who goes on with the same item is no negative either
        alike = _same(user) | _same(following[:, 0])
        return info_nce(_at(histories.interest, point), future, alike, self.temperature)


class BackwardReading(nn.Module):
    """Read from its end, a history should tell what came before.

    What is chosen together is often chosen in any order; so that each history teaches twice, which counts where they
    are short. A learnt vector on every item says which way is being read (pretraining on reversed histories: ASReP,
    arXiv 2105.00522).
    """

    def __init__(self, item_size: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.zeros(item_size))

    def forward(self, histories: Histories) -> Tensor:
        item_seq, before = augmentation.reverse(histories.item_seq, histories.next_items, histories.item_seq_len)
        interest = histories.track(item_seq, histories.items + self.direction)
        return histories.next_item_loss(interest, item_seq, before)


class ViewContrast(nn.Module):
    """The interest after a history that was changed at random should find the one after another change of it.

    Each view is cropped, masked, reordered, or has items substituted by their neighbours, whichever is drawn (CL4SRec,
    arXiv 2010.14395; CoSeRec, arXiv 2108.06479). Without neighbours (``content_neighbours``), nothing is substituted.
    """

    def __init__(self, temperature: float, share: float, item_size: int) -> None:
        super().__init__()
        self.temperature = temperature
        self.share = share
        self.mask = nn.Parameter(torch.empty(item_size).normal_(std=0.02))

    def forward(self, histories: Histories) -> Tensor:
        items = torch.cat([histories.items, self.mask[None]])
        view, other_view = (self._view(histories, items) for _ in range(2))
        return info_nce(view, other_view, _same(histories.user), self.temperature)

    def _view(self, histories: Histories, items: Tensor) -> Tensor:
        item_seq, item_seq_len = self._change(histories)
        return _at(histories.track(item_seq, items), item_seq_len - 1)

    @torch.no_grad()
    def _change(self, histories: Histories) -> tuple[Tensor, Tensor]:
        item_seq, item_seq_len = histories.item_seq.clone(), histories.item_seq_len.clone()
        count = len(histories.items)
        candidates = histories.candidates
        neighbours = candidates.places[histories.fusion.get_buffer("neighbours")[candidates.ids].long()]
        changes: list[Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]] = [
            lambda seq, length, share: augmentation.crop(seq, length, 1 - share),
            lambda seq, length, share: augmentation.mask(seq, length, share, mask_id=count),
            augmentation.reorder,
        ]
        if neighbours.numel():
            changes.append(lambda seq, length, share: augmentation.substitute(seq, length, share, neighbours))
        drawn = torch.randint(len(changes), item_seq_len.shape, device=item_seq.device)
        for number, change in enumerate(changes):
            rows = drawn == number
            item_seq[rows], item_seq_len[rows] = change(item_seq[rows], item_seq_len[rows], self.share)
        return item_seq, item_seq_len


class ModalityAlignment(nn.Module):
    """An item's text should find the same item's image or sound among those of other items, and so on.

    The mean over the pairs of modalities (CLIP, arXiv 2103.00020); 0 where items have one modality only. The learnt
    ID takes no part: it would have to say of an item what its content says already.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, histories: Histories) -> Tensor:
        items = histories.candidates.ids[histories.some_items()]
        parts, present = histories.fusion.parts(items)
        content = [place for place, modality in enumerate(histories.fusion.modalities) if modality != ID]
        losses = []
        for one, other in combinations(content, 2):
            both = present[:, one] & present[:, other]
            if both.any():
                losses.append(info_nce(parts[both, one], parts[both, other], _same(items[both]), self.temperature))
        return torch.stack(losses).mean() if losses else parts.new_zeros(())


class MaskedItem(nn.Module):
    """One item of each history is masked; the interest at the history's end, which saw both sides, should name it.

    The cloze task of BERT4Rec (arXiv 1904.06690) for a tracker that reads in one direction: it answers at the end.
    Histories of one event have nothing to go by and take no part.
    """

    def __init__(self, temperature: float | None, item_size: int) -> None:
        super().__init__()
        self.temperature = temperature
        self.mask = nn.Parameter(torch.empty(item_size).normal_(std=0.02))
        self.question = nn.Linear(item_size, item_size)

    def forward(self, histories: Histories) -> Tensor:
        asked = histories.item_seq_len > 1
        point = (torch.rand(len(asked), device=asked.device) * histories.item_seq_len).long()[:, None]
        wanted = histories.item_seq.gather(1, point).squeeze(1)
        masked = histories.item_seq.scatter(1, point, len(histories.items))
        interest = histories.track(masked, torch.cat([histories.items, self.mask[None]]))
        answer = self.question(_at(interest, histories.item_seq_len - 1))
        if not asked.any():
            return answer.sum() * 0
        return next_item_loss(
            answer[asked],
            histories.items,
            wanted[asked],
            self.temperature,
            logit_correction=histories.candidates.logit_correction,
        )


class FeatureAutoencoding(nn.Module):
    """From an item's representation, each modality's frozen features should be readable again.

    A linear reading by modality, and 1 - cosine as its error; with ``modality_dropout`` also of what was taken away
    (Vincent et al., ICML 2008: denoising). The mean over what items have.
    """

    def __init__(self, fusion: ContentFusion) -> None:
        super().__init__()
        self.decoders = nn.ModuleDict(
            {
                modality: nn.Linear(fusion.output_size, features.get_buffer("values").shape[1])
                for modality, features in fusion.features.items()
            }
        )

    def forward(self, histories: Histories) -> Tensor:
        fusion = histories.fusion
        places = histories.some_items()
        rows, representation = histories.candidates.ids[places], histories.items[places]
        present = fusion.get_buffer("present")[rows]
        error, count = representation.new_zeros(()), representation.new_zeros(())
        for modality, decoder in self.decoders.items():
            there = present[:, fusion.modalities.index(modality)]
            features = fusion.features[modality](rows)
            distance = 1 - F.cosine_similarity(decoder(representation), features, dim=-1)
            error = error + distance.where(there, 0.0).sum()
            count = count + there.sum()
        return error / count.clamp(min=1)


def _at(interest: Tensor, point: Tensor) -> Tensor:
    """Interest at one point of each history, ``[B, L, D], [B] -> [B, D]``."""
    return interest.gather(1, point[:, None, None].expand(-1, 1, interest.shape[2])).squeeze(1)


def _same(group: Tensor) -> Tensor:
    """Which rows are of the same group, ``[B] -> [B, B]``."""
    return group[:, None] == group
