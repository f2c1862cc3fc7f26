"""Names of interests are true: at least a third of a group's items carry its name, and no two groups share one."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import torch
from conftest import REPOSITORY, SUBJECTS, write_dataset

from recbole_llm_interest.cli.recommend import main
from recbole_llm_interest.content.catalogue import read_catalogue
from recbole_llm_interest.recommender import Interest, Recommender
from recbole_llm_interest.recommender.catalog import Catalog
from recbole_llm_interest.recommender.interest_names import name_clusters
from recbole_llm_interest.recommender.interests import InterestMap
from recbole_llm_interest.recommender.words import carries_term, terms_of_text
from recbole_llm_interest.training.comparison import run

GENRES = ["Sci-Fi", "Children's", "Film-Noir", "War", "Comedy", "Drama", "Western", "Musical"]


def catalog(count=64, kinds=8, **content):
    """Items near one of eight centres, in turn; ``content`` are functions of an item's number and its kind."""
    torch.manual_seed(0)
    kind = torch.arange(count) % kinds
    representations = torch.cat([torch.zeros(1, 8), torch.eye(8)[kind] + 0.05 * torch.randn(count, 8)])
    columns = {
        name: {f"i{n}": value for n in range(count) if (value := make(n, n % kinds)) is not None}
        for name, make in content.items()
    }
    return Catalog(["", *(f"i{n}" for n in range(count))], representations, **columns)


def members(found, items):
    """The items of each group, by its name."""
    groups = found.group(items.representations)[1:].tolist()
    return {
        name: [token for token, group in zip(items.tokens[1:], groups, strict=True) if group == number]
        for number, name in enumerate(found.names)
    }


def test_a_name_is_a_word_that_sets_the_group_apart():
    items = catalog(texts=lambda n, kind: f"title: the story of {SUBJECTS[kind]} number {n}")
    found = InterestMap(items)
    assert sorted(found.names) == sorted(SUBJECTS)
    assert found.shares == [1.0] * 8
    for name, typical in zip(found.names, found.typical, strict=True):
        assert all(items.texts[items.tokens[row]].split()[4] == name for row in typical)
    later = found.group(torch.cat([items.representations, torch.eye(8)[3:4]]))
    assert found.names[int(later[-1])] == SUBJECTS[3]


def test_a_phrase_names_a_group_if_both_of_its_words_set_it_apart():
    cities = [
        "hong kong",
        "buenos aires",
        "rio grande",
        "costa brava",
        "saint moritz",
        "cape town",
        "tel aviv",
        "abu simbel",
    ]
    items = catalog(texts=lambda n, kind: f"travel {cities[kind]} guide {n}")
    assert sorted(InterestMap(items).names) == sorted(cities)


def test_categories_have_precedence_and_stay_whole():
    items = catalog(
        categories=lambda n, kind: (GENRES[kind], "Colour"),
        texts=lambda n, kind: f"title: {SUBJECTS[kind]}, genres: {GENRES[kind]}, Colour",
    )
    assert sorted(InterestMap(items).names) == sorted(GENRES)


def test_words_with_a_hyphen_stay_whole_without_categories():
    items = catalog(texts=lambda n, kind: f"Number {n} ({GENRES[kind]}), in colour")
    found = InterestMap(items)
    assert sorted(found.names) == sorted(genre.lower() for genre in GENRES)


@pytest.mark.parametrize("words", [{}, {"categories": lambda n, kind: (GENRES[kind],) if n % 3 else ("Colour",)}])
def test_shares_are_those_of_a_naive_count(words):
    """Some items carry the word of another group, some nothing; groups are unlike in size."""
    items = catalog(
        count=200, kinds=7,
        texts=lambda n, kind: None if n % 5 == 0 else f"a page on {SUBJECTS[(kind + (n % 4 == 0)) % 7]}, no. {n}",
        labels=lambda n, kind: f"Page {n}",
        **words,
    )  # fmt: skip
    found = InterestMap(items)
    counted = 0
    for (name, group), share, size in zip(members(found, items).items(), found.shares, found.sizes, strict=True):
        assert len(group) == size
        if share is None:
            continue
        carry = [
            token for token in group
            if name in items.categories.get(token, ()) or name in re.findall(r"\w+", items.texts.get(token, ""))
        ]  # fmt: skip
        assert share == pytest.approx(len(carry) / len(group))
        assert share >= 1 / 3
        counted += 1
    assert counted >= 5


@pytest.mark.parametrize(("carriers", "is_name"), [(4, True), (3, False)])
def test_a_word_below_a_third_never_names(carriers, is_name):
    texts = {f"i{n}": "orchid" if n < carriers else f"word{n}" for n in range(12)} | {f"j{n}": "" for n in range(12)}
    clusters = [[f"i{n}" for n in range(12)], [f"j{n}" for n in range(12)]]
    (name, nothing) = name_clusters(clusters, set(texts), {}, texts)
    assert (name is not None) == is_name
    assert nothing is None


def test_a_name_is_counted_in_all_items_and_not_in_the_sample_alone():
    """Of the sample, all items carry it; of all items, a fifth."""
    texts = {f"i{n}": "orchid" if n < 4 else "" for n in range(20)} | {f"j{n}": "" for n in range(20)}
    clusters = [[f"i{n}" for n in range(20)], [f"j{n}" for n in range(20)]]
    sampled = {f"i{n}" for n in range(4)} | {f"j{n}" for n in range(20)}
    assert name_clusters(clusters, sampled, {}, texts) == [None, None]


def test_what_all_groups_have_names_none():
    items = catalog(texts=lambda n, kind: "a colour film", labels=lambda n, kind: f"Film {n}")
    found = InterestMap(items)
    assert set(found.shares) == {None}
    assert all(name.startswith("Film ") for name in found.names)


def test_without_texts_names_are_typical_items():
    found = InterestMap(catalog())
    assert found.shares == [None] * 8
    for name, typical in zip(found.names, found.typical, strict=True):
        assert name == " / ".join(f"i{row - 1}" for row in typical)


def test_clusters_of_one_name_are_one_group():
    """Eight clusters of four genres: no name occurs twice, and probabilities of a genre's clusters are summed."""
    items = catalog(categories=lambda n, kind: (GENRES[kind // 2],))
    found = InterestMap(items)
    assert sorted(found.names) == sorted(GENRES[:4])
    assert found.sizes == [16] * 4
    for name, group in members(found, items).items():
        assert all(items.categories[token] == (name,) for token in group)


def test_names_are_the_same_each_time():
    items = catalog(texts=lambda n, kind: f"{SUBJECTS[kind]} and {SUBJECTS[n % 3]}")
    first, second = InterestMap(items), InterestMap(items)
    assert (first.names, first.shares, first.typical) == (second.names, second.shares, second.typical)


@pytest.mark.parametrize(
    "words",
    [
        [f"{decade}0" for decade in range(190, 198)],
        ["the", "und", "les", "della", "with", "für", "which", "not"],
        ["7", "x", "iv", "2nd", "mp3", "3d", "a1b2", "--"],
    ],
)
def test_numbers_years_and_function_words_name_nothing(words):
    items = catalog(texts=lambda n, kind: f"year: {words[kind]}", labels=lambda n, kind: f"Film {n}")
    assert set(InterestMap(items).shares) == {None}


def test_names_of_columns_name_nothing():
    texts = {f"i{n}": f"title: film{n}, abstract: page{n}" for n in range(9)} | {f"j{n}": f"film{n}" for n in range(9)}
    clusters = [[f"i{n}" for n in range(9)], [f"j{n}" for n in range(9)]]
    assert name_clusters(clusters, set(texts), {}, texts) == [None, None]


# --- writing without spaces


def test_chinese_titles_are_named_by_the_characters_that_they_share():
    subjects = ["机器人", "烹饪", "足球", "海洋", "历史", "音乐", "宇宙", "城堡"]
    fillers = "春夏秋冬东南西北金木水火土日月星山川"
    items = catalog(
        count=128,
        texts=lambda n, kind: f"title: {fillers[n % 17]}{subjects[kind]}的{fillers[n % 13]}{fillers[n % 11]}",
    )
    found = InterestMap(items)
    assert sorted(found.names) == sorted(subjects)
    assert found.shares == [1.0] * 8


def test_chinese_titles_that_share_nothing_are_titles():
    titles = [chr(0x4E00 + 7 * n) + chr(0x5000 + 11 * n) + chr(0x6000 + 13 * n) for n in range(64)]
    items = catalog(texts=lambda n, kind: f"title: {titles[n]}", labels=lambda n, kind: titles[n])
    found = InterestMap(items)
    assert found.shares == [None] * 8
    assert all(set(name.split(" / ")) <= set(titles) for name in found.names)


def test_terms_of_japanese_are_katakana_words_and_han_without_particles():
    terms = terms_of_text("スターウォーズの宇宙戦争です")
    assert {"スターウォーズ", "宇宙", "戦争", "宇宙戦争"} <= terms
    assert not any("の" in term or "です" in term or "ーズ宇" in term for term in terms)
    assert "전쟁" in terms_of_text("전쟁 영화")


@pytest.mark.parametrize(
    "text", ["Sci-Fi: Children's Night Train", "title: Æon Flux, 2005", "宇宙戦争 2", "“Heat” —cold"]
)
def test_a_text_carries_its_terms(text):
    assert terms_of_text(text)
    assert all(carries_term(text, term) for term in terms_of_text(text))


# --- categories from files


def read_rows(folder, rows):
    (folder / "content").mkdir(parents=True)
    lines = [json.dumps({"item_id": f"i{n}", **row}) for n, row in enumerate(rows)]
    (folder / "content" / "items.jsonl").write_text("\n".join(lines) + "\n")
    return read_catalogue(folder, "mine", "item", "item_id").category_columns.categories()


@pytest.mark.parametrize(
    "value", [["Sci-Fi", "Film-Noir"], "Sci-Fi, Film-Noir", "Sci-Fi|Film-Noir", "Sci-Fi; Film-Noir"]
)
def test_categories_are_read_whole(here, value):
    rows = [{"title": f"Night of the {n}th, Part {n}", "year": 1990 + n % 3, "genres": value} for n in range(9)]
    assert read_rows(here, rows) == {f"i{n}": ("Sci-Fi", "Film-Noir") for n in range(9)}


def test_titles_prose_years_and_stand_ins_are_no_categories(here):
    rows = [
        {
            "title": f"Night, The {n}",
            "decade": "1990s",
            "abstract": "prose, " * 20 + str(n),
            "kind": "unknown" if n % 2 else "Book",
            "is_new": True,
            "image_file_name": "cover.jpg",
        }
        for n in range(12)
    ]
    assert read_rows(here, rows) == {f"i{n}": ("Book",) for n in range(0, 12, 2)}


def test_sequences_of_an_atomic_file_are_split_at_its_separator(here):
    lines = [f"i{n}\tFilm no. {n}\tSci-Fi {'War' if n % 2 else 'Comedy'}" for n in range(8)]
    (here / "mine.item").write_text("item_id:token\ttitle:token_seq\tclass:token_seq\n" + "\n".join(lines) + "\n")
    found = read_catalogue(here, "mine", "item", "item_id").category_columns.categories()
    assert found["i1"] == ("Sci-Fi", "War")


# --- what a user sees


@pytest.fixture
def genres(settings, here):
    """A trained model on a set with genres, and its checkpoint."""
    events = [(f"u{u}", f"i{(u + step) % 16}", float(1000 * u + step)) for u in range(24) for step in range(9)]
    write_dataset(here / "data", "genres", events)
    (here / "data" / "genres" / "content").mkdir()
    rows = [{"item_id": f"i{n}", "title": f"Title {n}", "genres": [GENRES[n % 2]]} for n in range(16)]
    file = here / "data" / "genres" / "content" / "items.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    (result,) = run(["LLMInterest"], "genres", config_dict={**settings, "text_encoder": "hashing"})
    return result.checkpoint


def test_the_share_stands_beside_the_name(genres, capsys, tmp_path):
    recommender = Recommender.load(genres)
    state = recommender.start("u1", history="recorded")
    found = recommender.interests(state)
    assert {interest.name for interest in found if interest.share is not None} == set(GENRES[:2])
    assert sum(interest.weight for interest in found) == pytest.approx(1, abs=1e-5)
    assert f"share={found[0].share:.2f})" in repr(found[0])
    assert "share" not in repr(Interest("Title 1 / Title 2", 0.5, ("Title 1", "Title 2")))
    assert main([f"--checkpoint={genres}", "--user=u1"]) == 0
    shown = capsys.readouterr().out
    assert "| share" in shown
    assert re.search(rf"\| {re.escape(found[0].name)} +\| {found[0].share:.0%} +\|", shown)
    recommender.save_pretrained(tmp_path / "folder")
    copy = Recommender.from_pretrained(tmp_path / "folder")
    assert copy.interest_map.names == recommender.interest_map.names
    assert copy.interest_map.shares == recommender.interest_map.shares


@pytest.mark.slow
def test_the_benchmark_ends_in_one_line_of_json(genres, settings):
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "interest_names.py"), f"--checkpoint={genres}"]
    command += [f"--{key}={settings[key]}" for key in ("data_path", "feature_cache")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figure = json.loads(done.stdout.splitlines()[-1])
    assert figure["named"] >= 2
    assert figure["least"] >= 1 / 3
