"""Encodes contents of events as if they were items: a query and a title that say the same are then alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_llm_interest.content.features import Conditioning, Content
from recbole_llm_interest.model.entity_encoder import EntityEncoder


class SharedContent(nn.Module):
    """A table of contents that the encoder of items encodes, with its conditioning and its parameters.

    Args:
        content: features by modality, all of which the encoder has; row 0 stands for none.
        items: the encoder, which is another module's part: it is not registered here.

    Attributes:
        content: the features by modality.
        output_size: width of a representation.

    Example:
        >>> from recbole_llm_interest.content.features import Features
        >>> texts = Features(torch.randn(4, 8), torch.tensor([False, True, True, True]))
        >>> items = EntityEncoder({"text": texts}, embedding_size=16)
        >>> shared = SharedContent({"text": texts}, items)
        >>> torch.equal(shared(torch.tensor([2, 3])), items(torch.tensor([2, 3])))
        True
    """

    def __init__(self, content: Content, items: EntityEncoder) -> None:
        super().__init__()
        self._items = (items,)
        self.content = {name: content[name] for name in sorted(content)}
        self._conditionings: dict[str, Conditioning | None] = {}
        present = torch.stack([features.present for features in self.content.values()], dim=1)
        self.register_buffer("present", present, persistent=False)  # [N, M]
        self._condition()
        self.output_size = items.output_size

    @staticmethod
    def is_possible(content: Content, items: EntityEncoder) -> bool:
        """Whether the encoder has every modality of the content, of the same width: none may be left unread."""
        sizes = items.encoded_sizes
        widths = {name: features.values.shape[1] for name, features in content.items()}
        return bool(widths) and widths.items() <= sizes.items()

    @property
    def encoder(self) -> EntityEncoder:
        """The encoder of items."""
        return self._items[0]

    @property
    def encoded_sizes(self) -> dict[str, int]:
        """Width of each modality's features, as encoded."""
        return {name: features.values.shape[1] for name, features in self.content.items()}

    def forward(self, rows: Tensor) -> Tensor:
        """Representations of ``rows``, ``[B] -> [B, output_size]``."""
        if any(self._fitted(name) is not self._conditionings[name] for name in self.content):
            self._condition()  # a checkpoint has brought another conditioning of items
        present = self.get_buffer("present")[rows]
        values = {name: self.get_buffer(f"{name}_values")[rows] for name in self.content}
        masks = dict(zip(self.content, present.unbind(dim=1), strict=True))
        return self.encoder.encode_conditioned(values, masks)

    def encode(self, content: Content) -> Tensor:
        """Representations of contents that are not in the table, ``[B, output_size]``."""
        return self.encoder.encode(content)

    def _fitted(self, name: str) -> Conditioning | None:
        conditioning: Conditioning | None = self.encoder.content[name].conditioning
        return conditioning

    def _condition(self) -> None:
        for name, values in self.encoder.condition(self.content).items():
            self.register_buffer(f"{name}_values", values, persistent=False)
            self._conditionings[name] = self._fitted(name)
