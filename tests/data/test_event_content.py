"""Content of events: what a user wrote at one event tells of the next, and never of its own."""

from __future__ import annotations

import json
import random
import re

import pytest
import torch
from conftest import SUBJECTS, write_dataset
from PIL import Image
from recbole.data.interaction import Interaction

from recbole_llm_interest.content.event_catalogue import EventKey
from recbole_llm_interest.content.event_fields import EventField
from recbole_llm_interest.errors import DataError, RequestError, SettingsError
from recbole_llm_interest.export.programs import programs_of
from recbole_llm_interest.export.saving import write_programs
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.training.comparison import run


def write_messages(here, name, told):
    """Events of items at random; the text of each names the subject of the item that ``told`` gives for it, if any."""
    chance = random.Random(1)
    events = [
        (f"u{user}", f"i{chance.randrange(8)}", float(100 * user + step)) for user in range(60) for step in range(9)
    ]
    write_dataset(here / "data", name, events, {f"i{n}": subject for n, subject in enumerate(SUBJECTS)})
    content = here / "data" / name / "content"
    content.mkdir()
    following = [*events[1:], events[0]]
    with (content / "events.jsonl").open("w") as file:
        for event, after in zip(events, following, strict=True):
            user, item, time = event
            about = told(event, after)
            subject = SUBJECTS[int(about[1][1:])] if about is not None else ""
            print(json.dumps({"user_id": user, "item_id": item, "timestamp": time, "note": subject}), file=file)


def next_item(event, after):
    return after


def own_item(event, after):
    return event


@pytest.mark.slow
@pytest.mark.parametrize("fields", [[], ["note"]], ids=["encoded", "embedded"])
@pytest.mark.parametrize(
    ("told", "context", "least", "most"),
    [(next_item, [], 0.9, 1.0), (own_item, [], 0.0, 0.6), (own_item, ["note"], 0.9, 1.0)],
    ids=["an event tells of the next", "an event does not tell of itself", "unless it is said to be known before"],
)
def test_what_an_event_tells_of(here, settings, told, context, least, most, fields):
    write_messages(here, "notes", told)
    quick = {"text_encoder": "hashing", "epochs": 30, "stopping_step": 30, "learning_rate": 0.01}
    chosen = {**settings, **quick, "context_fields": context, "event_fields": fields}
    (result,) = run(["LLMInterest"], "notes", config_dict=chosen)
    assert least <= result.test["recall@3"] <= most


@pytest.mark.slow
def test_content_of_another_event_tells_nothing(here, settings):
    """The control of event texts: what they gave is lost. Embedded columns have no text that it could exchange."""
    write_messages(here, "notes", next_item)
    quick = {"text_encoder": "hashing", "epochs": 30, "stopping_step": 30, "learning_rate": 0.01}
    shuffled = {**settings, **quick, "content_control": "shuffled", "controlled_content": ["event_text"]}
    (result,) = run(["LLMInterest"], "notes", config_dict=shuffled)
    assert result.test["recall@3"] < 0.6
    with pytest.raises(DataError, match="names content of the kind 'event', which has none"):
        run(["LLMInterest"], "notes", config_dict={**shuffled, "event_fields": ["note"]})


@pytest.mark.slow
@pytest.mark.parametrize("fields", [[], ["note"]], ids=["encoded", "embedded"])
def test_live_updates_read_events_as_training_does(here, settings, fields):
    """What the model's own face says of whole histories is what states say after each event."""
    write_messages(here, "notes", next_item)
    chosen = {
        "text_encoder": "hashing",
        "epochs": 5,
        "stopping_step": 30,
        "learning_rate": 0.01,
        "context_fields": ["note"],
        "event_fields": fields,
    }
    (result,) = run(["LLMInterest"], "notes", config_dict={**settings, **chosen})
    recommender = Recommender.load(result.checkpoint)
    rows = map(json.loads, (here / "data" / "notes" / "content" / "events.jsonl").open())
    events = [row for row in rows if row["user_id"] == "u3"]
    items, times = [row["item_id"] for row in events], [row["timestamp"] for row in events]
    contents = [{"note": row["note"]} for row in events]

    recorded = recommender.start("u3")
    given = recommender.start("u3", history=items, at=times, contents=contents)
    assert torch.allclose(recorded.interest, given.interest, atol=1e-5)
    assert torch.allclose(recorded.events.content, given.events.content, atol=1e-5)
    state = recommender.start("u3", history=[])
    for item, time, content in zip(items, times, contents, strict=True):
        state = recommender.update(state, item, time, **content)
    assert torch.allclose(recorded.interest, state.interest, atol=1e-5)
    bare = recommender.start("u3", history=items, at=times)
    assert not torch.allclose(recorded.interest, bare.interest, atol=1e-3)

    recommender.save(state, here / "state")
    assert b"volcanoes" not in (here / "state").read_bytes()
    restored = recommender.restore(here / "state")
    assert torch.equal(restored.events.content, state.events.content)
    *_, replayed = recommender.replay(restored, events=2)
    assert torch.allclose(replayed.interest, recorded.interest, atol=1e-5)

    best = recommender.recommend(restored, 1, context={"note": "volcanoes"})[0]
    assert best.score == pytest.approx(recommender.score(restored, best.item, context={"note": "volcanoes"}))
    explained = recommender.explain(restored, best.item, context={"note": "volcanoes"})
    assert "context" in {part.name for part in explained.of_user}
    assert explained.score == pytest.approx(best.score)
    silent = recommender.start("u3", history=items, at=times, contents=[*contents[:-1], None])
    (last,) = [part for part in explained.of_user if part.name == f"content at {items[-1]}" and part.time == times[-1]]
    without = recommender.score(silent, best.item, context={"note": "volcanoes"})
    assert last.points == pytest.approx(best.score - without, abs=1e-4)
    with pytest.raises(RequestError, match="nots"):
        recommender.update(state, "i1", nots="tango")


@pytest.mark.slow
@pytest.mark.parametrize("tracker", ["lstm", "transformer"])
def test_window_of_events_is_the_same_live(here, settings, tracker):
    """What is next was said two events ago: the window of two events sees it, and so do live states."""
    chosen = {"event_window": 2, "tracker": tracker, "epochs": 3, "learning_rate": 0.01, "MAX_ITEM_LIST_LENGTH": 4}
    (result,) = run(["LLMInterest"], "cycle", config_dict={**settings, **chosen})
    recommender = Recommender.load(result.checkpoint)
    assert recommender._live.model.tracker.window.convolution.weight.abs().max() > 1e-4
    whole = recommender.start("u3", history=["i3", "i4", "i5", "i6", "i7"])
    state = recommender.start("u3", history=["i3", "i4"])
    for item in ("i5", "i6", "i7"):
        state = recommender.update(state, item)
    assert torch.allclose(whole.interest, state.interest, atol=1e-5)
    recommender.save(state, here / "state")
    state, whole = (recommender.update(one, "i0") for one in (recommender.restore(here / "state"), whole))
    assert torch.allclose(whole.interest, state.interest, atol=1e-5)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"user_id": "u1", "item_id": "i1", "timestamp": -5.0}, "1 of 541 rows .* belong to no event"),
        (None, "541 rows read, 540 kept, 1 skipped: 1 of an event that has a row already"),
        ({"timestamp": "soon"}, "541 rows read, 540 kept, 1 skipped: 1 whose timestamp is no number"),
        ({"timestamp": 10**400}, "541 rows read, 540 kept, 1 skipped: 1 whose timestamp is no number"),
        ({"user_id": ["u1"]}, "541 rows read, 540 kept, 1 skipped: 1 whose user_id is neither a string nor an integer"),
    ],
    ids=["unmatched", "twice", "no time", "no finite time", "a list as id"],
)
def test_rows_that_cannot_be_used_are_counted(built, here, caplog, row, problem):
    write_messages(here, "notes", next_item)
    path = here / "data" / "notes" / "content" / "events.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, json.dumps({**json.loads(lines[0]), **(row or {"note": "chess"})})]))
    built("LLMInterest", "notes", text_encoder="hashing")
    assert re.search(problem, caplog.text)
    with pytest.raises(DataError, match=problem):
        built("LLMInterest", "notes", text_encoder="hashing", strict_content=True, strict_data=True)


def test_content_of_modalities_that_are_not_in_use_is_reported(built, here, caplog):
    write_messages(here, "notes", own_item)
    _, model, *_ = built("LLMInterest", "notes", modalities=["image"], context_fields=["note"])
    assert "context content is not read: it is text, and modalities=['image']" in caplog.text
    assert model.context.side_information is None


def test_context_that_names_the_choice_is_suspicious(built, here, caplog):
    write_messages(here, "notes", own_item)
    built("LLMInterest", "notes", text_encoder="hashing", context_fields=["note"])
    assert "540 of 540 texts that context_fields names have the title of the item that was chosen" in caplog.text
    with pytest.raises(DataError, match="take its column out"):
        built("LLMInterest", "notes", text_encoder="hashing", context_fields=["note"], strict_content=True)


def test_of_equal_events_the_last_has_the_content(built, here, caplog):
    """What was written at one of them is not known when another one is predicted."""
    events = [("u1", item, float(time)) for time, item in enumerate(["i1", "i2", "i3", "i3", "i4", "i5"])]
    events[3] = ("u1", "i3", 2.0)
    write_dataset(here / "data", "twice", events)
    (here / "data" / "twice" / "content").mkdir()
    row = {"user_id": "u1", "item_id": "i3", "timestamp": 2.0, "note": "chess"}
    (here / "data" / "twice" / "content" / "events.jsonl").write_text(json.dumps(row))
    _, _, dataset, *_ = built("LLMInterest", "twice", text_encoder="hashing")
    assert dataset.event_features["event_content"].tolist() == [0, 0, 0, 1, 0, 0]
    assert "1 of 6 events have the user, item and time of a later one" in caplog.text


def test_columns_come_from_both_files(built, here):
    """A rating is in ``.inter``, the note in JSON lines, and neither is an error."""
    write_messages(here, "notes", next_item)
    path = here / "data" / "notes" / "notes.inter"
    header, *lines = path.read_text().splitlines()
    rated = [f"{header}\trating:float", *(f"{line}\t{place % 5}" for place, line in enumerate(lines))]
    path.write_text("\n".join(rated) + "\n")
    _, model, *_ = built("LLMInterest", "notes", text_encoder="hashing", event_fields=["rating"])
    assert model.event_encoder.names == ["event_field_rating", "event_content"]
    with pytest.raises(DataError, match=r"event_fields names 'ratings', .* did you mean 'rating'"):
        built("LLMInterest", "notes", text_encoder="hashing", event_fields=["ratings"])


def test_content_that_no_training_event_has_is_not_read(built, here, caplog):
    write_messages(here, "notes", next_item)
    path = here / "data" / "notes" / "content" / "events.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["timestamp"] % 100 == 8))  # the last events
    _, model, *_ = built("LLMInterest", "notes", text_encoder="hashing")
    assert model.event_encoder.side_information is None
    assert "no event of training has text: it is not read" in caplog.text


def test_events_of_published_splits_have_their_content(built, here, caplog):
    """The tables of the parts share events: each part has the content of its own and of those before."""
    write_messages(here, "notes", next_item)
    write_parts(here, "notes", lambda user, step: "train" if step < 7 else "valid" if step == 7 else "test")
    split = {"benchmark_filename": ["train", "valid", "test"], "text_encoder": "hashing"}
    _, model, _, train, valid, test = built("LLMInterest", "notes", **split)
    assert model.event_encoder.side_information is not None
    (batch, *_), held_out = train, [next(iter(part))[0] for part in (valid, test)]
    for rows in (batch, *held_out):
        is_event = rows["item_id_list"] > 0
        assert (rows["event_content_list"] > 0).equal(is_event)
    assert "alone has their content" not in caplog.text


def greeting(event, after):
    """At a user's first event alone, a note names the item that is three before the chosen one."""
    user, item, time = event
    return None if time % 100 else (user, f"i{(int(item[1:]) - 3) % 8}", time)


def write_parts(here, name, part_of):
    """Split the interactions of a data set by a function of user and step."""
    folder = here / "data" / name
    header, *rows = (folder / f"{name}.inter").read_text().splitlines()
    parts = {"train": [], "valid": [], "test": []}
    for row in rows:
        time = int(float(row.split("\t")[2]))
        parts[part_of(*divmod(time, 100))].append(row)
    for part, of_part in parts.items():
        (folder / f"{name}.{part}.inter").write_text("\n".join([header, *of_part]) + "\n")


@pytest.mark.parametrize("split", [{}, {"benchmark_filename": ["train", "valid", "test"]}], ids=["own", "published"])
@pytest.mark.parametrize("context", [[], ["note"]])
def test_first_event_is_a_target_once_if_it_has_a_context(built, here, split, context):
    write_messages(here, "notes", greeting)
    write_parts(here, "notes", lambda user, step: "train" if step < 7 else "valid" if step == 7 else "test")
    _, _, dataset, train, *_ = built("LLMInterest", "notes", text_encoder="hashing", context_fields=context, **split)
    found = []
    for batch in train:
        for user, items, length, following, *notes in zip(
            *(batch[field] for field in ("user_id", "item_id_list", "item_length", "next_item_id_list")),
            *([batch["next_context_content_list"]] if context else []),
            strict=True,
        ):
            if not items[0]:
                assert (int(length), int((following > 0).sum())) == (1, 1)
                found.append((int(user), int(following[0]), *(int(note[0] > 0) for note in notes)))
    users, items = torch.as_tensor(dataset.event_users), dataset.event_items
    first = {user: int(items[(users == user).nonzero()[0]]) for user in users.unique().tolist()}
    assert sorted(found) == (sorted((user, item, 1) for user, item in first.items()) if context else [])


@pytest.mark.slow
@pytest.mark.parametrize(("context", "least", "most"), [(["note"], 0.6, 1.0), ([], 0.0, 0.4)])
def test_first_choice_is_learned_from_its_context(here, settings, context, least, most):
    """Users of the test have first events alone, and no other event of training has a note."""
    write_messages(here, "notes", greeting)
    write_parts(here, "notes", lambda user, step: "train" if user < 40 or step else ("valid", "test")[user % 2])
    folder = here / "data" / "notes"
    rows = (folder / "notes.train.inter").read_text().splitlines()
    kept = [rows[0], *(row for row in rows[1:] if float(row.split("\t")[2]) < 4000)]
    (folder / "notes.train.inter").write_text("\n".join(kept) + "\n")
    quick = {"text_encoder": "hashing", "epochs": 40, "stopping_step": 40, "learning_rate": 0.01}
    split = {"benchmark_filename": ["train", "valid", "test"], "context_fields": context}
    (result,) = run(
        ["LLMInterest"], "notes", config_dict={**settings, **quick, **split, "topk": [1], "valid_metric": "NDCG@1"}
    )
    assert least <= result.test["recall@1"] <= most


@pytest.mark.slow
def test_control_is_the_same_live(here, settings):
    """States of a model of shuffled texts read the shuffled ones."""
    write_messages(here, "notes", next_item)
    shuffled = {"content_control": "shuffled", "controlled_content": ["event_text"], "text_encoder": "hashing"}
    (result,) = run(["LLMInterest"], "notes", config_dict={**settings, **shuffled, "learning_rate": 0.01, "epochs": 5})
    recommender = Recommender.load(result.checkpoint)
    path = here / "data" / "notes" / "content" / "events.jsonl"
    events = [row for row in map(json.loads, path.open()) if row["user_id"] == "u3"]
    history = {"history": [row["item_id"] for row in events], "at": [row["timestamp"] for row in events]}
    true = recommender.start("u3", **history, contents=[{"note": row["note"]} for row in events])
    assert not torch.allclose(recommender.start("u3").interest, true.interest, atol=1e-3)


def test_context_reads_nothing_that_is_known_afterwards(built, here):
    write_messages(here, "notes", own_item)
    columns = {"context_fields": ["query"], "context_text_template": "{query} {note}", "text_encoder": "hashing"}
    with pytest.raises(SettingsError, match="names 'note', which context_fields lacks"):
        built("LLMInterest", "notes", **columns)


def test_numbers_in_text_are_numbers():
    rating, price = EventField.fitted("rating", [5.0, 4.0, 5.0]), EventField.fitted("price", range(100))
    assert [rating.code(value) for value in ("5", "4.0", 4, "else")] == [1, 2, 2, 0]
    assert [price.code("12.5"), price.code("cheap")] == [price.code(12.5), 0]


def write_orders(here):
    """Random events with a remark and stars afterwards and a query before."""
    write_messages(here, "orders", next_item)
    path = here / "data" / "orders" / "content" / "events.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"stars": number % 5, "query": SUBJECTS[number % 7] if number % 3 else None}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


#: all that can be known of events
EVERYTHING = {
    "text_encoder": "hashing",
    "event_fields": ["stars"],
    "context_fields": ["query"],
    "event_window": 2,
    "attention_readout": True,
}


@pytest.mark.slow
@torch.no_grad()
def test_exported_programs_read_events(here, built):
    write_orders(here)
    _, model, *_ = built("LLMInterest", "orders", **EVERYTHING)
    torch.manual_seed(3)
    sums = [one.side_information.sum for one in (model.event_encoder, model.context)]
    for part in (*sums, model.tracker.window, model.history_bias.event):
        for weights in part.parameters():
            torch.nn.init.normal_(weights, std=0.3)
    programs = programs_of(model)
    assert set(programs["step"].fields) >= {"event_text", "event_field_stars", "context_text", "recent", "codes"}
    assert set(programs["choose"].fields) == {"interest", "history", "codes", "context_text", "has_context_text"}
    write_programs(model.eval(), 6, here / "programs")  # which compares them with the model


@pytest.mark.slow
def test_updates_with_content_equal_a_full_pass(here, settings):
    """A thousand random histories: with remarks, stars, both, or neither."""
    write_orders(here)
    quick = {"epochs": 3, "learning_rate": 0.01}
    (result,) = run(["LLMInterest"], "orders", config_dict={**settings, **EVERYTHING, **quick})
    recommender = Recommender.load(result.checkpoint)
    chance = random.Random(2)
    events = [
        {"note": chance.choice([None, *SUBJECTS]), "stars": chance.choice([None, 0, 1, 4])} for _ in range(1000 * 5)
    ]
    items, times = [f"i{chance.randrange(8)}" for _ in events], [float(place) for place in range(len(events))]

    def histories(length):
        starts = range(0, len(events), 5)
        return {
            "history": [items[start : start + length] for start in starts],
            "at": [times[start : start + length] for start in starts],
            "contents": [events[start : start + length] for start in starts],
        }

    whole = recommender.start(**histories(5))
    state = recommender.start(**histories(2))
    for step in (2, 3, 4):
        columns = {name: [event[name] for event in events[step::5]] for name in ("note", "stars")}
        state = recommender.update(state, items[step::5], times[step::5], **columns)
    assert len(whole) == 1000
    assert (whole.interest - state.interest).abs().max() < 1e-5
    of_whole, of_updated = (recommender.recommend(one, 8) for one in (whole, state))
    for best, updated in zip(of_whole, of_updated, strict=True):
        assert [score for _, score in best] == pytest.approx([score for _, score in updated], abs=1e-4)


@pytest.mark.slow
def test_live_scores_count_neighbours_of_events_as_the_model_does(here, settings):
    """Recorded events, given ones, and those of a restored folder; with a bias that matters."""
    write_messages(here, "notes", own_item)
    chosen = {**settings, "text_encoder": "hashing", "epochs": 2}
    (result,) = run(["LLMInterest"], "notes", config_dict=chosen)
    recommender = Recommender.load(result.checkpoint)
    model, reader = recommender._trained.model, recommender._trained.event_readers["event"]
    torch.manual_seed(0)
    for weights in model.history_bias.event.parameters():
        torch.nn.init.normal_(weights)
    rows = map(json.loads, (here / "data" / "notes" / "content" / "events.jsonl").open())
    events = [row for row in rows if row["user_id"] == "u3"]
    items, times = [row["item_id"] for row in events], [row["timestamp"] for row in events]
    keys = [EventKey("u3", item, time) for item, time in zip(items, times, strict=True)]
    batch = {
        model.USER_ID: torch.tensor([recommender._trained.users["u3"]]),
        model.ITEM_SEQ: recommender.items.find(items)[None],
        model.ITEM_SEQ_LEN: torch.tensor([len(items)]),
        f"event_content{model.LIST_SUFFIX}": torch.from_numpy(reader._recorded.rows_of(keys))[None],
    }
    with torch.no_grad():
        expected = model.full_sort_predict(Interaction(batch))[0, 1:]
    contents = [{"note": row["note"]} for row in events]
    given = {"history": items, "at": times, "contents": contents}
    found = {
        "recorded": scores_of(recommender, recommender.start("u3")),
        "given": scores_of(recommender, recommender.start("u3", **given)),
    }
    recommender.save_pretrained(here / "folder")
    restored = Recommender.from_pretrained(here / "folder")
    found["folder"] = scores_of(restored, restored.start(**given))
    for way, scores in found.items():
        assert torch.allclose(scores, expected, atol=1e-4), way
    silent = recommender.start("u3", history=items, at=times)
    assert not torch.allclose(scores_of(recommender, silent), expected, atol=1e-2)
    parts = recommender.explain(recommender.start("u3"), items[0]).of_item
    assert any(part.name == "event content bias" and abs(part.points) > 0.01 for part in parts)


def scores_of(recommender, state):
    """Scores of all items, in the order of their rows, ``[N - 1]``."""
    scores = dict(recommender.recommend(state, len(recommender.items.tokens) - 1))
    return torch.tensor([scores[token] for token in recommender.items.tokens[1:]])


@pytest.mark.slow
def test_modalities_that_items_lack_are_read_of_events(here, settings):
    """Items have text, events also images, which a trained model, its folder and live use read alike."""
    write_messages(here, "notes", own_item)
    content = here / "data" / "notes" / "content"
    rows = [json.loads(line) for line in (content / "events.jsonl").open()]
    for name, colour in (("red.png", (200, 0, 0)), ("blue.png", (0, 0, 200))):
        Image.new("RGB", (8, 8), colour).save(content / name)
    for number, row in enumerate(rows):
        row["image_file_name"] = ("red.png", "blue.png", None)[number % 3]
    (content / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    both = {"text_encoder": "hashing", "image_encoder": "color_hist", "modalities": ["text", "image"], "epochs": 2}
    (result,) = run(["LLMInterest"], "notes", config_dict={**settings, **both, "learning_rate": 0.01})
    trained = Recommender.load(result.checkpoint)
    trained.save_pretrained(here / "folder")
    found = []
    for recommender in (trained, Recommender.from_pretrained(here / "folder")):
        state = recommender.update(recommender.start(), "i3", note="tango", image=content / "red.png")
        found.append(scores_of(recommender, state))
    assert torch.allclose(*found, atol=1e-5)
    state = trained.update(trained.start(), "i3", note="tango")
    assert not torch.allclose(scores_of(trained, state), found[0], atol=1e-4)


@pytest.mark.slow
def test_exported_folder_reads_events(here, settings):
    """A folder has what serving needs to read events, and no remark of a user."""
    write_orders(here)
    quick = {"epochs": 3, "learning_rate": 0.01}
    (result,) = run(["LLMInterest"], "orders", config_dict={**settings, **EVERYTHING, **quick})
    trained = Recommender.load(result.checkpoint)
    files = trained.save_pretrained(here / "folder")
    assert not any(b"volcanoes" in file.read_bytes() for file in files if file.name != "texts.json")
    read = Recommender.from_pretrained(here / "folder")
    found = []
    for recommender in (trained, read):
        state = recommender.update(recommender.start(), "i3", note="tango", stars=4)
        state = recommender.update(state, "i4", stars=2)
        found.append([recommender.score(state, "i1", context=known) for known in (None, {"query": "volcanoes"})])
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert abs(found[0][0] - found[0][1]) > 1e-3


@pytest.mark.slow
def test_codes_are_those_of_training_after_the_data_have_changed(here, settings):
    """New events make another value the most frequent one, whose code stays what it was."""
    write_orders(here)
    quick = {"epochs": 3, "learning_rate": 0.01, "text_encoder": "hashing", "event_fields": ["stars"]}
    (result,) = run(["LLMInterest"], "orders", config_dict={**settings, **quick})

    def score():
        recommender = Recommender.load(result.checkpoint)
        return recommender.score(recommender.update(recommender.start(), "i3", stars=4), "i1"), recommender.version

    before = score()
    folder = here / "data" / "orders"
    later = [("u1", f"i{n % 8}", 5000.0 + n) for n in range(300)]
    with (folder / "orders.inter").open("a") as file:
        file.writelines("\t".join(map(str, event)) + "\n" for event in later)
    with (folder / "content" / "events.jsonl").open("a") as file:
        for user, item, time in later:
            print(json.dumps({"user_id": user, "item_id": item, "timestamp": time, "stars": 4}), file=file)
    assert score() == before


SHOP = {"shown_field": "shown", "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]}}


def write_shop(here):
    """Users choose what is dear to them among four that are shown; who likes what is told by nothing else."""
    chance = random.Random(1)
    events, rows = [], []
    for user in range(40):
        for step in range(8):
            shown = chance.sample(range(24), 4)
            item = max(shown, key=lambda n: (n + 7 * (user % 2)) % 24)
            events.append((f"u{user}", f"i{item}", float(100 * user + step)))
            rows.append({"user_id": f"u{user}", "item_id": f"i{item}", "timestamp": events[-1][2],
                         "shown": [f"i{n}" for n in shown]})  # fmt: skip
    write_dataset(here / "data", "shop", events, {f"i{n}": f"thing {n}" for n in range(24)})
    (here / "data" / "shop" / "content").mkdir()
    (here / "data" / "shop" / "content" / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_loss_among_shown_items_is_that_of_a_plain_reference(built, here):
    """Cross-entropy over the chosen item and those beside it, event by event."""
    write_shop(here)
    chosen = {"text_encoder": "hashing", "ssl_shown_weight": 1.0, "dropout_prob": 0.0, **SHOP}
    _, model, _, train, *_ = built("LLMInterest", "shop", **chosen, modality_dropout=0.0)
    torch.manual_seed(2)
    for bias in model.history_bias.parameters():
        torch.nn.init.normal_(bias, std=0.3)
    batch, *_ = train
    found = model.calculate_loss(batch)[model.loss_names.index("shown")]
    losses = []
    model.eval()
    for row in range(len(batch)):
        for place in range(int(batch["item_length"][row])):
            history = batch["item_id_list"][row : row + 1, : place + 1]
            fields = {"user_id": batch["user_id"][row : row + 1], "item_id_list": history}
            fields["item_length"] = torch.tensor([place + 1])
            scores = model.full_sort_predict(Interaction(fields))[0]
            among = [int(batch["next_item_id_list"][row, place])]
            among += [item for item in batch["next_shown"][row, place].tolist() if item]
            losses.append(-scores[among].log_softmax(0)[0])
    assert float(found) == pytest.approx(float(torch.stack(losses).mean()), abs=1e-4)


@pytest.mark.slow
def test_shown_items_teach_what_is_preferred_among_them(here, settings):
    rows = write_shop(here)
    quick = {"text_encoder": "hashing", "epochs": 40, "stopping_step": 40, "learning_rate": 0.01}
    hits = {}
    for weight in (0.0, 1.0):
        chosen = {
            **settings,
            **quick,
            **SHOP,
            "ssl_shown_weight": weight,
            "next_item_weight": 1 - weight,
        }
        (result,) = run(["LLMInterest"], "shop", config_dict=chosen)
        recommender = Recommender.load(result.checkpoint)
        last = [row for row in rows if row["timestamp"] % 100 == 7]
        best = [
            recommender.recommend(recommender.start(row["user_id"], history="training"), 1, candidates=row["shown"])[0]
            for row in last
        ]
        hits[weight] = sum(one.item == row["item_id"] for one, row in zip(best, last, strict=True)) / len(last)
    assert hits[1.0] > max(0.7, hits[0.0])


def test_shown_items_have_to_be_named(built):
    with pytest.raises(DataError, match="name them by shown_field"):
        built("LLMInterest", text_encoder="hashing", ssl_shown_weight=1.0)
