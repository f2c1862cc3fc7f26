"""Projections: semantic IDs are the residual quantisation that they are said to be, and like items share them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llm_interest.content.features import Features
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.projections import SemanticIdProjection


def test_semantic_ids_are_the_same_under_autocast(features):
    """Training under autocast and live use without it have to read the same embeddings."""
    projection = SemanticIdProjection(features, output_size=4)
    codes = projection.codes(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(projection.codes(features), codes)


@pytest.fixture
def features():
    """Five groups of two hundred items each, whose features are alike."""
    generator = torch.Generator().manual_seed(3)
    groups = torch.randn(5, 48, generator=generator)
    return groups.repeat(200, 1) + 0.1 * torch.randn(1000, 48, generator=generator)


def test_semantic_ids_are_the_nearest_centroids_of_what_is_left(features):
    projection = SemanticIdProjection(features, output_size=4)
    mean, components, codebooks = (buffer.numpy() for buffer in (projection.mean, projection.components,
                                                                 projection.codebooks))  # fmt: skip
    residual = (features.numpy() - mean) @ components
    for level, codes in enumerate(projection.codes(features).T.tolist()):
        distance = np.linalg.norm(residual[:, None] - codebooks[level], axis=2)
        chosen = distance[np.arange(1000), codes]
        assert np.allclose(chosen, distance.min(axis=1), atol=1e-5)
        left = residual - codebooks[level][codes]
        assert np.square(left).sum() < np.square(residual).sum()
        residual = left


def test_like_items_share_an_embedding_and_others_do_not(features):
    """What one item's training event teaches, items of the same group know, also those that were not there."""
    seen = features[:500]
    projection = SemanticIdProjection(seen, output_size=4)
    assert torch.equal(projection(seen), projection.mlp(seen))  # at the start, codes say nothing
    optimizer = torch.optim.SGD([projection.code_embeddings], lr=1.0)
    (-projection(seen[:1])[:, 0].sum()).backward()
    optimizer.step()
    gain = (projection(features) - projection.mlp(features)).detach()[:, 0]
    of_group = torch.arange(1000) % 5 == 0
    first_codes = projection.codes(features)[:, 0]
    assert len(first_codes[of_group].unique()) < 150
    assert not set(first_codes[of_group].tolist()) & set(first_codes[~of_group].tolist())
    shares_code = (projection.codes(features) == projection.codes(seen[:1])).any(dim=1)
    assert (gain[shares_code] > 0.999).all()
    assert (gain[~shares_code] == 0).all()


@pytest.mark.parametrize("items", [1, 2, 3])
def test_few_items_have_semantic_ids(items):
    features = torch.eye(3, 8)[:items]
    projection = SemanticIdProjection(features, output_size=4)
    assert len({tuple(codes) for codes in projection.codes(features).tolist()}) == items


def test_semantic_ids_are_saved_with_the_model(features):
    """A model that is built on other items reads the codes of the training's from the checkpoint."""
    present = torch.arange(1000) > 0

    def built(values):
        return EntityEncoder({"text": Features(values, present)}, embedding_size=4, projection="semantic_ids")

    trained = built(features)
    torch.nn.init.normal_(trained.projections["text"].code_embeddings)
    restored = built(features.flip(0))
    restored.load_state_dict(trained.state_dict())
    content = {"text": Features(features, present)}
    assert torch.equal(restored.encode(content), trained.encode(content))
