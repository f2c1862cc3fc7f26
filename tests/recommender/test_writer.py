"""Written words: what is refused, what stands where all is refused, and a real model that is held to its facts."""

import pytest
import tiny_models
from safetensors.torch import load_file, save_file

from recbole_llm_interest.content.encoders.bundled import SMOLLM2
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.recommender.explanation import Explanation, Part
from recbole_llm_interest.recommender.interests import Interest
from recbole_llm_interest.recommender.language_model import LanguageModel
from recbole_llm_interest.recommender.writer import Writer


class Proposals:
    """Gives what it was made with, and remembers what it was asked."""

    def __init__(self, *texts):
        self.texts, self.prompts = texts, []

    def continuations(self, prompt, tokens):
        self.prompts.append(prompt)
        return list(self.texts)


def interest(*attributes):
    return Interest(attributes[0], 0.5, ("Alien",), 0.9, attributes)


@pytest.mark.parametrize(
    ("text", "facts", "is_grounded"),
    [
        ("war dramas", ["War", "Drama"], True),
        ("dramatic stories about wars", ["War", "Drama"], True),
        ("Dramas of war", ["War", "Drama"], True),
        ("war comedies", ["War", "Drama"], False),
        ("horror", ["War"], False),
        ("aliens at war", ["War"], False),
        ("war films by Kubrick", ["War"], False),  # a name from nowhere
        ("war in 1945", ["War"], False),
        ("Toy Story (1995)", ["Toy Story (1995)"], True),
        ("action kitchen knives", ["Action"], False),  # of the prompt's examples
        ("children's stories", ["Children's"], True),
        ("romantic comedies", ["Romance", "Comedy"], True),
        ("adventurous thrillers", ["Adventure", "Thriller"], True),
        ("The user never likes horror, and has not chosen Alien.", ["Horror", "Alien"], False),
        ("The user doesn't like horror.", ["Horror"], False),
        ("The user has last chosen Never Say Never.", ["Never Say Never"], True),
        *[
            (other, [fact], False)
            for fact, other in (
                ("Mario", "marine"),
                ("Planes", "plants"),
                ("Comets", "comedy"),
                ("Crimson", "crime"),
                ("Russell", "Russian"),
                ("Princess", "prince"),
                ("Romance", "roman"),
            )
        ],
    ],
)
def test_a_text_names_nothing_beyond_its_facts(text, facts, is_grounded):
    assert Writer.is_grounded(text, facts) is is_grounded


def test_first_proposal_that_passes_is_taken():
    model = Proposals("horror at war", "dramas", "war dramas", "dramas of war")
    written = Writer(model).name(interest("War", "Drama"))
    assert (written.text, written.facts, written.is_written) == ("war dramas", ("War", "Drama"), True)
    assert model.prompts[0].endswith("Attributes: War, Drama\nName:")


def test_facts_stand_by_themselves_where_all_is_refused():
    written = Writer(Proposals("the best of Hollywood", "")).name(interest("War", "Drama"))
    assert (written.text, written.is_written) == ("War and Drama", False)
    untitled = Interest("Alien / The Thing", 0.5, ("Alien", "The Thing"))
    assert Writer(Proposals("aliens")).name(untitled).text == "Alien / The Thing"


def test_profile_is_of_the_history():
    model = Proposals("The user mostly likes horror, and has last chosen The Thing and Alien.")
    categories = [["Sci-Fi", "Horror"], ["Horror"]]
    written = Writer(model).profile(["Alien", "The Thing"], categories)
    assert written.facts == ("Horror", "Sci-Fi", "The Thing", "Alien")
    assert not written.is_written  # Sci-Fi is not mentioned
    assert written.text == "mostly Horror, Sci-Fi; last chosen: The Thing, Alien."
    model = Proposals("The user likes horror and sci-fi, and chose The Thing and Alien.")
    assert Writer(model).profile(["Alien", "The Thing"], categories).is_written


def test_equally_frequent_categories_of_a_profile_are_in_the_order_of_the_history():
    """Not in one that differs from process to process, as that of a set does."""
    names = [f"Genre {letter}" for letter in "WDCRTSAF"]
    written = Writer(Proposals()).profile(["Alien", "The Thing"], [names, names[::-1]])
    assert written.facts == (*names[:3], "The Thing", "Alien")


@pytest.mark.parametrize("title", ["1984", "Her", "It"])
def test_title_without_a_word_of_its_own_has_to_be_there_as_it_is(title):
    proposed = Proposals("The user mostly likes drama.", f"The user mostly likes drama, and has last chosen {title}.")
    assert Writer(proposed).profile([title], [["Drama"]]).text == proposed.texts[1]


def test_reason_has_the_events_with_the_largest_positive_parts():
    parts = [
        Part("i2", -0.5, 0.4, title="The Thing"),
        Part("i1", 0.4, 0.3, title="Alien"),
        Part("profile", 0.3, 0.2),
        Part("i3", 0.1, 0.1, title="Toy Story (1995)"),
    ]
    explanation = Explanation("i4", 1.0, [], True, parts)
    model = Proposals("War and Peace is recommended because you chose Alien and The Thing.",
                      "War and Peace is recommended because you chose Alien and Toy Story (1995).")  # fmt: skip
    written = Writer(model).reason(explanation, "War and Peace")
    assert written.is_written
    assert written.facts == ("War and Peace", "Alien", "Toy Story (1995)")
    assert "The Thing" not in written.text
    nothing = Writer(model).reason(Explanation("i4", 1.0, [], True, parts[:1]), "War and Peace")
    assert (nothing.text, nothing.is_written) == ("War and Peace is recommended.", False)


def test_language_model_that_is_missing_is_named(tmp_path):
    with pytest.raises(EncoderError, match="no weights for the text encoder"):
        LanguageModel(str(tmp_path / "no-such-model"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    with pytest.raises(EncoderError, match="does not load"):
        LanguageModel(str(tmp_path / "model")).continuations("a", 2)


def test_model_that_cannot_write_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="'all-MiniLM-L6-v2' is no causal language model: name one, such as smollm2"):
        LanguageModel("all-MiniLM-L6-v2")
    folder = tiny_models.causal_model(tmp_path / "llama", ["war", "drama"])
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: values for name, values in weights.items() if "layers.0.mlp" not in name},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(EncoderError, match="the checkpoint lacks 3 weights"):
        LanguageModel(str(folder)).continuations("war", 3)


@pytest.mark.slow
def test_real_model_writes_the_same_words_each_time_and_keeps_to_its_facts():
    model = LanguageModel(SMOLLM2.name)
    writer = Writer(model)
    written = [writer.name(interest(*facts)) for facts in (("War", "Drama"), ("Comedy",), ("Horror", "Sci-Fi"))]
    again = [writer.name(interest(*facts)) for facts in (("War", "Drama"), ("Comedy",), ("Horror", "Sci-Fi"))]
    assert written == again
    assert sum(one.is_written for one in written) >= 2
    for one in written:
        assert not one.is_written or writer.is_grounded(one.text, one.facts)
