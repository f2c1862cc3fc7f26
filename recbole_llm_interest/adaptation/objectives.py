"""What an adapter learns from: losses on a batch of histories, by name.

A new objective is a class with the methods of ``AdaptationObjective``, one line that registers it, and a field
``adapt_<name>_weight`` of ``AdaptationSettings``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from recbole_llm_interest.adaptation.batches import MAX_EVENTS, Batch, chunks
from recbole_llm_interest.adaptation.lower_layers import CHUNK
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.model.interest_tracker import InterestTracker
from recbole_llm_interest.model.scoring import ScoringRule, logits
from recbole_llm_interest.settings import Registry

#: events between an item and the one that it is contrasted with
_LAGS = 3
_RULE = ScoringRule(temperature=0.07)
#: of two encodings of the same content, as in SimCSE
_SIMCSE_RULE = ScoringRule(temperature=0.05)
#: sizes of the tracker that the recommendation loss goes through
_TRACKER_SIZE = 128
#: share of tokens that are masked, and shares of these that become the mask and another token (BERT, arXiv 1810.04805)
_MASKED, _AS_MASK, _AS_OTHER = 0.15, 0.8, 0.1
#: a logit of what is no candidate
_EXCLUDED = -1e4


class AdaptationObjective(nn.Module):
    """The base of the objectives.

    Args:
        encoder: whose network has the adapter.
        size: width of a feature, D.

    Attributes:
        needs_dropout: whether the encoder's dropout is on in training. Without it, a step takes a quarter less time,
            and anchors are encoded as what they are compared with was.
        reads_catalogue: whether contents are drawn from the whole catalogue, also from items without a training event;
            else they are those of the histories' items.
    """

    encoder: Any
    needs_dropout = False
    reads_catalogue = False

    @staticmethod
    def check(encoder: Any) -> None:
        """Check that an encoder can learn by the objective.

        Raises:
            EncoderError: it cannot.
        """

    def __init__(self, encoder: Any, size: int) -> None:
        super().__init__()
        # not a submodule: only the objective's own parameters are trained with it
        object.__setattr__(self, "encoder", encoder)

    def loss(self, batch: Batch, contents: Sequence[Any]) -> Tensor:
        """The loss, a scalar.

        Args:
            batch: of histories.
            contents: as the encoder's ``load`` returned them, ``[U]``: of the histories' items in their order, or
                of as many others, see ``reads_catalogue``.
        """
        raise NotImplementedError


OBJECTIVES: Registry[type[AdaptationObjective]] = Registry("objective of adaptation")


@OBJECTIVES.register("collaborative")
class CollaborativeContrast(AdaptationObjective):
    """Contrasts an item with those that follow it in a history, the nearer ones with more weight.

    The popularity of candidates is added to their logits in training, so that features do not have to encode it. Other
    items of the same users are no negatives.
    """

    def loss(self, batch: Batch, contents: Sequence[Any]) -> Tensor:
        """The loss of all pairs up to three events apart, a scalar."""
        pairs = [
            (int(history[place]), int(history[place + lag]), 1 / lag)
            for history in batch.histories
            for lag in range(1, _LAGS + 1)
            for place in range(len(history) - lag)
            if history[place] != history[place + lag]
        ]
        if not pairs:
            return batch.features.sum() * 0
        anchors, targets, weights = (list(column) for column in zip(*pairs, strict=True))
        anchors_of_pairs = _RULE.query(batch.features[anchors])
        scores = logits(anchors_of_pairs, _RULE.item_factors(batch.remembered)) + batch.log_counts.to(anchors_of_pairs)
        excluded = torch.zeros_like(scores, dtype=torch.bool)
        for row, (anchor, target) in enumerate(zip(anchors, targets, strict=True)):
            excluded[row, batch.partners[anchor]] = True
            excluded[row, target] = False
        scores = scores.masked_fill(excluded, _EXCLUDED)
        losses = cross_entropy(scores, torch.tensor(targets, device=scores.device), reduction="none")
        share = torch.tensor(weights, device=scores.device)
        return (losses * share).sum() / share.sum()


@OBJECTIVES.register("recommendation")
class RecommendationLoss(AdaptationObjective):
    """Next-item cross-entropy through a projection and an LSTM, which are trained along: from end to end."""

    def __init__(self, encoder: Any, size: int) -> None:
        super().__init__(encoder, size)
        self.projection = nn.Sequential(
            nn.Linear(size, _TRACKER_SIZE), nn.GELU(), nn.Linear(_TRACKER_SIZE, _TRACKER_SIZE)
        )
        self.tracker = InterestTracker(
            input_size=_TRACKER_SIZE, hidden_size=_TRACKER_SIZE, num_layers=1, dropout_prob=0.0, user_size=None
        )

    def loss(self, batch: Batch, contents: Sequence[Any]) -> Tensor:
        """The loss at every position of the histories, a scalar."""
        items = self.projection(batch.features)
        length = min(MAX_EVENTS, max(map(len, batch.histories))) - 1
        places = [torch.from_numpy(history) for history in batch.histories]
        padded = nn.utils.rnn.pad_sequence(places, batch_first=True, padding_value=-1).to(items.device)
        inputs, targets = padded[:, :length], padded[:, 1 : length + 1]  # [B, L]
        interests = self.tracker(items[inputs.clamp(min=0)], self.tracker.neutral_state(len(inputs)))  # [B, L, S]
        is_target = targets >= 0
        candidates = self.projection(batch.remembered)
        scores = logits(_RULE.query(interests[is_target]), _RULE.item_factors(candidates))
        return cross_entropy(scores + batch.log_counts.to(scores.device), targets[is_target])


@OBJECTIVES.register("simcse")
class SimCSE(AdaptationObjective):
    """Contrasts two encodings of the same content under different dropout (Gao et al., arXiv 2104.08821)."""

    needs_dropout = True

    def loss(self, batch: Batch, contents: Sequence[Any]) -> Tensor:
        """The loss over the items of the histories, a scalar."""
        parts = [checkpoint(self.encoder.embed, part, use_reentrant=False) for part in chunks(contents, CHUNK)]
        first, second = batch.features, torch.cat(parts)
        scores = logits(_SIMCSE_RULE.query(first), _SIMCSE_RULE.item_factors(second))
        return cross_entropy(scores, torch.arange(len(contents), device=scores.device))


class _LanguageModelling(AdaptationObjective):
    """The base of language modelling: logits are products of states and the input embeddings of words."""

    reads_catalogue = True

    @staticmethod
    def check(encoder: Any) -> None:
        """Check that the encoder is one of text.

        Raises:
            EncoderError: it is not.
        """
        if not hasattr(encoder, "tokenize"):
            raise EncoderError("language modelling needs a text encoder that is a language model")

    def loss(self, batch: Batch, contents: Sequence[Any]) -> Tensor:
        """The mean loss over the tokens that are predicted, a scalar."""
        losses = [checkpoint(self.token_losses, part, use_reentrant=False) for part in chunks(contents, CHUNK)]
        flat = torch.cat(losses)
        return flat.mean() if len(flat) else batch.features.sum() * 0

    def token_losses(self, contents: Sequence[str]) -> Tensor:
        """The losses of the tokens that are predicted of some texts, ``[W]``."""
        raise NotImplementedError

    def _words(self) -> Tensor:
        words: Tensor = self.encoder.network.get_input_embeddings().weight
        return words

    def _states(self, tokens: dict[str, Tensor]) -> Tensor:
        """The last hidden states, ``[U, T, D]``."""
        states: Tensor = self.encoder.network(**tokens).last_hidden_state
        return states


@OBJECTIVES.register("masked_language")
class MaskedLanguageModelling(_LanguageModelling):
    """Predicts masked words of the items' texts (BERT, arXiv 1810.04805). Its head is trained along."""

    @staticmethod
    def check(encoder: Any) -> None:
        """Check that the encoder has a mask token.

        Raises:
            EncoderError: it has none.
        """
        _LanguageModelling.check(encoder)
        if encoder.mask_token_id is None:
            raise EncoderError(
                f"adapt_masked_language_weight: {encoder.name} has no mask token; causal models learn by "
                "adapt_causal_language_weight"
            )

    def __init__(self, encoder: Any, size: int) -> None:
        super().__init__(encoder, size)
        width = self._words().shape[1]
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))

    def token_losses(self, contents: Sequence[str]) -> Tensor:
        """The losses of the tokens that are masked, ``[W]``."""
        tokens = self.encoder.tokenize(contents)
        words = tokens["input_ids"]
        is_word = tokens["attention_mask"].bool() & ~self.encoder.is_special(words)
        is_masked = is_word & (torch.rand(words.shape, device=words.device) < _MASKED)
        kind = torch.rand(words.shape, device=words.device)
        others = torch.randint_like(words, len(self._words()))
        masked = words.where(~is_masked | (kind >= _AS_MASK), self.encoder.mask_token_id)
        masked = masked.where(~is_masked | (kind < _AS_MASK) | (kind >= _AS_MASK + _AS_OTHER), others)
        states = self._states({**tokens, "input_ids": masked})[is_masked]
        return cross_entropy(self.head(states) @ self._words().T, words[is_masked], reduction="none")


@OBJECTIVES.register("causal_language")
class CausalLanguageModelling(_LanguageModelling):
    """Predicts each next word of the items' texts, by a causal model."""

    @staticmethod
    def check(encoder: Any) -> None:
        """Check that the state at a token does not depend on those after it.

        Raises:
            EncoderError: it does.
        """
        _LanguageModelling.check(encoder)
        network = encoder.network.eval()
        tokens = encoder.tokenize(["what follows is not read"])
        words = tokens["input_ids"]
        other = (words[:, -1:] + 1) % len(network.get_input_embeddings().weight)
        changed = torch.cat([words[:, :-1], other], dim=1)
        with torch.no_grad():
            first, second = (network(**{**tokens, "input_ids": ids}).last_hidden_state for ids in (words, changed))
        if not torch.allclose(first[:, :-1], second[:, :-1], atol=1e-3):
            raise EncoderError(
                f"adapt_causal_language_weight: {encoder.name} is no causal model; it learns by "
                "adapt_masked_language_weight"
            )

    def token_losses(self, contents: Sequence[str]) -> Tensor:
        """The losses of all tokens but the first, ``[W]``."""
        tokens = self.encoder.tokenize(contents)
        is_text = tokens["attention_mask"].bool()
        is_target = is_text[:, 1:] & is_text[:, :-1]  # texts may be padded on the left
        states = self._states(tokens)[:, :-1][is_target]
        return cross_entropy(states @ self._words().T, tokens["input_ids"][:, 1:][is_target], reduction="none")
