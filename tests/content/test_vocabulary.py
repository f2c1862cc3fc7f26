"""Texts in letters that the encoder does not know are named before they are encoded."""

from __future__ import annotations

import pytest
from conftest import cycle_events, write_dataset

from recbole_llm_interest.cli.encode import main
from recbole_llm_interest.content.encoders.bundled import MINILM
from recbole_llm_interest.content.encoders.vocabulary import read_letters

CHINESE = ["霸王别姬", "让子弹飞", "我不是药神", "卧虎藏龙", "大红灯笼高高挂", "花样年华", "无间道", "活着"]


@pytest.mark.parametrize(
    "text",
    [
        *CHINESE[:3],
        "title: 千と千尋の神隠し, genres: Animation",
        "기생충",
        "Иди и смотри",
        "رجل و امرأة",
        "ร้านหนังสือ",
        "शोले",
    ],
)
def test_letters_of_other_scripts_are_not_read(text):
    reading = read_letters(MINILM.find().parent, [text])
    assert reading.is_poor
    assert 0 < reading.unread <= reading.foreign <= reading.letters
    assert reading.example == text


@pytest.mark.parametrize(
    "text",
    ["title: Toy Story, year: 1995", "Amélie à Montmartre", "Größe, naïve, São Paulo", "10 😀", "", "Zoë and 霸"],
)
def test_latin_letters_and_single_foreign_ones_are_no_matter(text):
    assert not read_letters(MINILM.find().parent, ["a film about whales", text]).is_poor


@pytest.mark.parametrize("texts", [CHINESE, ["A film about whales", "Amélie"] * 4])
def test_encoding_says_in_one_line_what_it_does_not_read(here, caplog, texts):
    write_dataset(here / "data", "films", cycle_events(), {f"i{number}": text for number, text in enumerate(texts)})
    for _ in range(2):  # also when all features are stored
        caplog.clear()
        assert main(["--dataset=films", "--data_path=data"]) == 0
        lines = [record.getMessage() for record in caplog.records if "letters" in record.getMessage()]
        assert len(lines) == (texts is CHINESE)
    if lines:
        assert lines[0].startswith("text encoder all-MiniLM-L6-v2 does not know ")
        assert "such as 'title: 霸王别姬'" in lines[0]
        assert "text_encoder=multilingual" in lines[0]
