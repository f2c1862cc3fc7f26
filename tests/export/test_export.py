"""Export: programs equal the model, a folder gives the saved model's answers, a hostile folder is refused."""

from __future__ import annotations

import copy
import hashlib
import json
import pickletools
import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from conftest import QUICK, REPOSITORY, SUBJECTS, write_dataset
from safetensors.torch import load_file, save_file

from recbole_llm_interest.cli.export import main
from recbole_llm_interest.cli.recommend import main as recommend
from recbole_llm_interest.errors import CheckpointError, ExportError, LLMInterestError, RequestError, SettingsError
from recbole_llm_interest.evaluation.table import write_comparison
from recbole_llm_interest.export.equality import largest_differences
from recbole_llm_interest.export.programs import programs_of
from recbole_llm_interest.export.saving import write_programs
from recbole_llm_interest.export.targets import EXPORT_TARGETS
from recbole_llm_interest.export.tracing import trace
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.training.comparison import run

START = 1_700_000_000.0
LENGTH = QUICK["MAX_ITEM_LIST_LENGTH"]
TIMES = ["gap", "hour", "weekday"]
NEIGHBOURS = {"content_neighbours": 5, "transition_neighbours": 5, "repeat_context": True}
BARE = {
    "repeat_bias": False,
    "repeat_context": False,
    "content_neighbours": 0,
    "transition_neighbours": 0,
    "use_user_content": False,
}


def is_pickle(data):
    """Whether bytes begin as pickles do, of whatever protocol from 2 on, and go on as one to its end.

    The first byte alone does not tell: one weight in 256 begins with the same.
    """
    try:
        return data.startswith(b"\x80") and bool(list(pickletools.genops(data)))
    except (ValueError, UnicodeDecodeError):
        return False


def write_shelf(folder):
    """Items and users of whom some have no text, and events with times."""
    chance = random.Random(0)
    events = [
        (f"reader-{user:03}", f"i{chance.randrange(30)}", START + 9e4 * user + 5e3 * step)
        for user in range(20)
        for step in range(8)
    ]
    events += [("reader-000", f"i{item}", START + 9e6 + item) for item in range(30)]
    items = {f"i{n}": f"{SUBJECTS[n % 8]}, volume {n}" for n in range(30) if n % 5}
    users = {f"reader-{n:03}": f"who likes {SUBJECTS[n % 8]}" for n in range(0, 20, 2)}
    write_dataset(folder / "data", "shelf", events, items, users)


@pytest.fixture
def model(built, here):
    write_shelf(here)

    def make(seed=5, **settings):
        _, made, *_ = built("LLMInterest", "shelf", **{**NEIGHBOURS, "text_encoder": "hashing", **settings})
        torch.manual_seed(seed)
        for bias in made.history_bias.parameters():
            torch.nn.init.normal_(bias, std=0.3)
        for embedding in made.event_encoder.times.values():
            torch.nn.init.normal_(embedding.weight[1:], std=0.3)
        return made.eval()

    return make


def traced(model, k=None):
    """The programs as torch runs them."""
    programs = programs_of(model, k)
    modules = {name: (program, trace(program, LENGTH).module()) for name, program in programs.items()}
    return {
        name: lambda inputs, program=program, module=module: module({key: inputs[key] for key in program.fields})
        for name, (program, module) in modules.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "k"),
    [
        ({"time_features": TIMES}, None),
        ({"tracker": "gru", "num_layers": 2, "score": "dot"}, 4),
        ({"tracker": "transformer", "num_layers": 2, "time_features": ["gap"]}, None),
        ({"tracker": "lru", "num_layers": 2}, None),
        ({"tracker": "hstu", "projection": "semantic_ids"}, None),
        ({"tracker": "ligr"}, None),
        ({"attention_readout": True, "last_item_skip": True, "fusion": "late"}, None),
        ({"use_item_id": False, **BARE}, None),
    ],
    ids=["lstm", "gru", "transformer", "lru", "hstu", "ligr", "readout", "bare"],
)
@torch.no_grad()
def test_programs_equal_the_model(model, changes, k):
    """Also beyond the length to which attention reaches, and for one user alone."""
    made = model(**changes)
    programs = traced(made, k)
    differences = largest_differences(programs, made, LENGTH)
    assert set(differences) == {"score", "step"} | ({"start"} if made.user_encoder is not None else set())
    assert max(differences.values()) <= 1e-5
    items = torch.randint(1, made.n_items, (1, 2 * LENGTH))
    state = made.initial_state(torch.tensor([0]))
    fields = programs_of(made)["step"].fields
    began = {"carried": state.carried, "past": state.past, "user": state.user, "history": items[:, :0]}
    began = {name: values for name, values in began.items() if name in fields}
    for place in range(2 * LENGTH):
        now = {name: torch.ones(1, dtype=torch.long) for name in fields if name.startswith("time_")}
        found = programs["step"]({"item": items[:, place], **now, **began})
        began = {name: found.get(f"next_{name}", values) for name, values in began.items()}
        event = made.item_table().representations[items[:, place]]
        event = event + sum(embedding.weight[1] for embedding in made.event_encoder.times.values())
        interest, state = made.tracker.step(event, state)
        assert torch.allclose(found["interest"], interest, atol=1e-5)
        assert torch.equal(found["next_history"], items[:, : place + 1])


@pytest.mark.slow
@torch.no_grad()
def test_comparison_finds_another_model(model):
    made = model(**BARE)
    other = copy.deepcopy(made)
    other.tracker.output.bias.add_(0.05)
    assert min(largest_differences(traced(made), other, LENGTH).values()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"time_features": TIMES},
        {"tracker": "transformer", **BARE},
        {"tracker": "lru", **BARE},
        {"tracker": "hstu", **BARE},
        {"tracker": "gru", "attention_readout": True, **BARE},
    ],
    ids=["lstm", "transformer", "lru", "hstu", "gru with readout"],
)
def test_onnx_programs_equal_the_model(model, changes, here):
    """``write_programs`` raises where one differs; the limits of its own check are those of the test above."""
    pytest.importorskip("onnxruntime")
    made = model(**changes)
    written = write_programs(made, LENGTH, here / "programs", k=5, targets=["torch", "onnx"])
    names = ["score", "step", *(["start"] if made.user_encoder is not None else [])]
    assert {(it.program, it.file.suffix) for it in written} == {(n, s) for n in names for s in (".pt2", ".onnx")}
    assert max(it.difference for it in written) <= 1e-5
    for it in written:
        assert str(REPOSITORY).encode() not in it.file.read_bytes(), it.file


@EXPORT_TARGETS.register("listing")
class Listing:
    """A target from outside the package: the traced operations as text, run by the module that was traced."""

    suffix = ".txt"
    packages = ()

    def write(self, exported, program, max_length, path):
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(exported.graph))
        return program


@pytest.mark.slow
def test_target_from_outside_the_package_is_written_and_compared(model, here):
    written = write_programs(model(**BARE), LENGTH, here / "programs", targets=["listing"])
    assert [one.file.name for one in written] == ["score.txt", "step.txt"]
    assert max(one.difference for one in written) <= 1e-5
    assert "aten.matmul" in (here / "programs" / "score.txt").read_text()
    described = json.loads((here / "programs" / "programs.json").read_text())["programs"]
    assert [list(program["files"]) for program in described.values()] == [["score.txt"], ["step.txt"]]


@pytest.mark.slow
def test_target_that_differs_from_the_model_is_an_error(model, here, monkeypatch):
    monkeypatch.setattr(Listing, "write", lambda self, exported, program, max_length, path: lambda inputs: {
        name: value + 1 for name, value in program(inputs).items()
    })  # fmt: skip
    with pytest.raises(ExportError, match=r"score\.txt differs from the model by "):
        write_programs(model(**BARE), LENGTH, here / "programs", targets=["listing"])


@pytest.mark.slow
def test_target_that_is_unknown_or_lacks_a_package_is_an_error(model, here, monkeypatch):
    with pytest.raises(SettingsError, match="unknown export target 'onx': did you mean 'onnx'"):
        write_programs(model(**BARE), LENGTH, here, targets=["onx"])
    monkeypatch.setattr(Listing, "packages", ("no_such_package",))
    with pytest.raises(ExportError, match=r"\.txt programs need the package no_such_package: pip install "):
        write_programs(model(**BARE), LENGTH, here, targets=["listing"])
    assert not list(here.glob("*.txt"))


# --- the folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, feature_cache):
    """A trained model's checkpoint, and the folder that the command made of it."""
    folder = tmp_path_factory.mktemp("export")
    write_shelf(folder)
    settings = {**QUICK, "data_path": str(folder / "data"), "feature_cache": str(feature_cache), "learning_rate": 0.03,
                "checkpoint_dir": str(folder / "saved"), "time_features": ["gap"],
                **NEIGHBOURS}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["test"])
        kept = []
        run(["LLMInterest"], "shelf", config_dict=settings, on_result=kept.append)
        write_comparison(kept, folder / "saved" / "shelf.json")
        checkpoint = folder / kept[0].checkpoint
        code = main([f"--checkpoint={checkpoint}", "--output=model", "--k=5", "--license=mit"])
    assert code == 0
    return checkpoint, folder / "model", kept[0]


@pytest.fixture
def folder(trained, here):
    """A copy of the folder, to be spoilt."""
    shutil.copytree(trained[1], here / "model")
    return here / "model"


def test_folder_gives_the_answers_of_the_saved_model(trained, here, monkeypatch):
    checkpoint, folder, _ = trained
    saved = Recommender.load(checkpoint, use_gpu=False)
    shutil.copytree(folder, here / "moved")
    monkeypatch.chdir(here)
    loaded = Recommender.from_pretrained(here / "moved", device="cpu")
    assert loaded.version == saved.version
    history, times = ["i1", "i7", "i5"], [START, START + 60, None]
    for profile in (None, {"occupation": "who likes whales"}):
        states = [one.start(profile=profile, history=history, at=times) for one in (saved, loaded)]
        assert torch.equal(states[0].interest, states[1].interest)
        assert loaded.recommend(states[1], 30) == saved.recommend(states[0], 30)
        assert loaded.interests(states[1]) == saved.interests(states[0])
        assert loaded.explain(states[1], "i3") == saved.explain(states[0], "i3")
        assert [step.item for step in loaded.forecast(states[1], 4)] == [s.item for s in saved.forecast(states[0], 4)]
    saved.save(states[0], here / "state")
    assert torch.equal(loaded.restore(here / "state").interest, states[0].interest)
    for one in (saved, loaded):
        one.add_item("new", {"title": "whales, volume 31"})
    assert loaded.recommend(states[1], 31) == saved.recommend(states[0], 31)
    assert loaded.label("i1") == saved.label("i1") == "whales, volume 1"
    with pytest.raises(RequestError, match="unknown user 'reader-000'"):
        loaded.start("reader-000")
    with pytest.raises(RequestError, match="1 items were added or removed"):
        loaded.save_pretrained(here / "again")


def test_loaded_folder_can_be_saved_again(trained, here):
    files = Recommender.from_pretrained(trained[1]).save_pretrained(here / "again")
    for file in files:
        if file.name != "README.md":
            assert file.read_bytes() == (trained[1] / file.name).read_bytes(), file.name


def test_folder_holds_no_pickle_and_no_user(trained):
    _, folder, _ = trained
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md", ".pt2"}
    for path in files:
        assert b"reader-" not in path.read_bytes(), path
        assert str(folder.parent).encode() not in path.read_bytes(), path
        if path.suffix == ".pt2":
            with zipfile.ZipFile(path) as archive:
                parts = {name: archive.read(name) for name in archive.namelist()}
            assert not any(data.startswith(b"PK") or is_pickle(data) for data in parts.values()), path
            words = (b"reader-", str(REPOSITORY).encode(), torch.__path__[0].encode())
            assert not any(word in data for data in parts.values() for word in words), path
    users = load_file(folder / "features.safetensors")
    assert len(users["user_text"]) == 1
    assert not users["user_text"].any()


def test_card_has_the_results_of_the_run(trained):
    _, folder, result = trained
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["library_name"] == "recbole_llm_interest"
    assert card["license"] == "mit"
    assert card["datasets"] == ["shelf"]
    (one,) = card["model-index"][0]["results"]
    assert {metric["type"]: metric["value"] for metric in one["metrics"]} == result.test
    assert "20 users, 30 items, 190 events" in body
    assert "all-MiniLM-L6-v2 | apache-2.0" in body
    assert f"commit {result.environment_info['commit'] or 'unknown'}" in body
    assert "`time_features`" in body


def test_programs_json_suffices_to_run_a_program(trained):
    """From ``programs.json`` alone, as somebody without this package would."""
    _, folder, _ = trained
    described = json.loads((folder / "programs" / "programs.json").read_text())
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    values = {"item_seq": torch.tensor([[vocabulary.index("i1"), vocabulary.index("i7"), 0]]),
              "item_seq_len": torch.tensor([2]), "time_gap": torch.tensor([[1, 2 + 7, 0]])}  # fmt: skip
    inputs = {}
    for name, field in described["programs"]["score"]["inputs"].items():
        shape = [{"batch": 1, "length": 3}.get(size, size) for size in field["shape"]]
        inputs[name] = values.get(name, torch.zeros(shape, dtype=getattr(torch, field["type"])))
        assert list(inputs[name].shape) == shape
    found = torch.export.load(folder / "programs" / "score.pt2").module()(inputs)
    recommender = Recommender.from_pretrained(folder, device="cpu")
    best = recommender.recommend(recommender.start(history=["i1", "i7"], at=[START, START + 100]), 5)
    assert [vocabulary[row] for row in found["items"][0].tolist()] == [item for item, _ in best]
    assert found["scores"][0].tolist() == pytest.approx([score for _, score in best], abs=1e-4)


def test_recommend_command_takes_a_folder(trained, here, capsys):
    assert recommend([f"--checkpoint={trained[1]}", "--history=i1,i7", "--k=3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    recommender = Recommender.from_pretrained(trained[1])
    best = recommender.recommend(recommender.start(history=["i1", "i7"]), 3)
    assert [one["item"] for one in answer["recommendations"]] == [item for item, _ in best]
    assert recommend([f"--checkpoint={trained[1]}", "--hidden_size=3"]) == 2
    assert "hidden_size is not a setting of the encoders" in capsys.readouterr().err


# --- hostile folders


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_settings(folder, **changes):
    change_config(folder, settings={**json.loads((folder / "config.json").read_text())["settings"], **changes})


def change_part(folder, name, write):
    """Another file in the place of a part, with the hash that goes with it."""
    write(folder / name)
    digests = json.loads((folder / "config.json").read_text())["sha256"]
    change_config(folder, sha256={**digests, name: hashlib.sha256((folder / name).read_bytes()).hexdigest()})


def change_tensors(folder, name, change):
    tensors = load_file(folder / name)
    change(tensors)
    change_part(folder, name, lambda path: save_file(tensors, path))


def flip(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 5]) + whole[-8:])


def only_a_pickle(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"weight": torch.ones(2)}, folder / "pytorch_model.bin")


HOSTILE = {
    "bit flipped": (flip, "is damaged, or of another model"),
    "cut off": (lambda f: (f / "features.safetensors").write_bytes(b"12345"), "is damaged, or of another model"),
    "not safetensors": (
        lambda f: change_part(f, "model.safetensors", lambda path: path.write_bytes(b"\x80\x04N.")), "not a safetensors"
    ),
    "weights in a pickle": (only_a_pickle, "weights in pickles, as in pytorch_model.bin, are not read"),
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("[" * 100_000), "is not JSON"),
    "of another kind": (lambda f: change_config(f, model_type="bert"), "is not of LLMInterest"),
    "of another format": (lambda f: change_config(f, format=99), "has format 99, and this version reads 1"),
    "config lacks parts": (lambda f: change_config(f, id_fields={}), "it has to have item and user"),
    "counts that are none": (lambda f: change_config(f, counts={"users": "x"}), "is damaged: counts.users: Input"),
    "opens the network": (lambda f: change_settings(f, download_weights=True), "sets 'download_weights', which a"),
    "allows pickles": (lambda f: change_settings(f, allow_pickle=True), "sets 'allow_pickle', which a"),
    "unknown setting": (lambda f: change_settings(f, trust_remote_code=True), "sets 'trust_remote_code', which a"),
    "encoder elsewhere": (lambda f: change_settings(f, text_encoder="/etc"), "text_encoder='/etc' is a path"),
    "encoder outside": (lambda f: change_settings(f, image_encoder="local-dir:../x"), "'local-dir:../x' is a path"),
    "a value out of range": (lambda f: change_settings(f, temperature=-1), "temperature=-1 is not a value"),
    "a size of billions": (lambda f: change_settings(f, hidden_size=10**12), "hidden_size is 1000000000000 in the set"),
    "layers of billions": (lambda f: change_settings(f, num_layers=10**12), "num_layers is 1000000000000 in the set"),
    "another tracker": (lambda f: change_settings(f, tracker="gru"), "its settings and its weights do not fit"),
    "vocabulary of numbers": (
        lambda f: change_part(f, "vocabulary.json", lambda path: path.write_text("[1, 2]")), "is not a list of items"
    ),
    "vocabulary too short": (
        lambda f: change_part(f, "vocabulary.json", lambda path: path.write_text('["[PAD]", "i1"]')), "do not fit"
    ),
    "texts of another form": (
        lambda f: change_part(f, "texts.json", lambda path: path.write_text('{"texts": [], "labels": {}}')),
        "is damaged: texts: Input should be a valid dictionary",
    ),
    "neighbours outside": (
        lambda f: change_tensors(f, "features.safetensors", lambda t: t["item_neighbours"].fill_(999)), "not of these"
    ),
    "transitions outside": (
        lambda f: change_tensors(f, "features.safetensors", lambda t: t["item_transition_items"].fill_(-1)),
        "the transitions are not of these items",
    ),
    "strengths of no bucket": (
        lambda f: change_tensors(f, "features.safetensors", lambda t: t["item_transition_strengths"].fill_(99)),
        "strengths that no bucket has",
    ),
    "a tensor is missing": (
        lambda f: change_tensors(f, "features.safetensors", lambda t: t.pop("item_present")), "do not fit"
    ),
    "a weight is missing": (
        lambda f: change_tensors(f, "model.safetensors", lambda t: t.pop("tracker.output.bias")), "do not fit"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_folders_are_refused_in_one_line(folder, name):
    spoil, words = HOSTILE[name]
    spoil(folder)
    with pytest.raises(LLMInterestError) as error:
        Recommender.from_pretrained(folder)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_texts_are_optional(folder):
    (folder / "texts.json").unlink()
    recommender = Recommender.from_pretrained(folder)
    assert recommender.label("i1") == "i1"
    assert len(recommender.recommend(recommender.start(history=["i1"]), 5)) == 5


def test_encoder_that_differs_from_training_is_refused(folder):
    recommender = Recommender.from_pretrained(folder, text_encoder="hashing")
    with pytest.raises(RequestError, match="text encoder on this machine is not the one that the model was trained"):
        recommender.add_item("new", {"title": "whales"})
    with pytest.raises(SettingsError, match="hidden_size is not a setting of the encoders"):
        Recommender.from_pretrained(folder, hidden_size=3)


def test_hub_is_contacted_only_with_download_weights(here, network):
    with pytest.raises(CheckpointError, match="not asked unless download_weights=True"):
        Recommender.from_pretrained("someone/interest")
    with pytest.raises(CheckpointError, match="not the name of a model on the Hub"):
        Recommender.from_pretrained("../../someone", download_weights=True)
    assert not network
    with pytest.raises(CheckpointError, match="the Hub did not give the model someone/interest"):
        Recommender.from_pretrained("someone/interest", download_weights=True)
    assert network


# --- the command line


def test_mistake_is_one_line(trained, here, capsys):
    checkpoint, *_ = trained
    (here / "file").write_text("")
    other = json.loads((checkpoint.parent / "shelf.json").read_text())
    (here / "other.json").write_text(json.dumps([{**other[0], "checkpoint": "saved/other.pth"}]))
    for words, complaint in (
        (["--checkpoint=nothing.pth", "--output=x"], "checkpoint nothing.pth does not exist"),
        ([f"--checkpoint={checkpoint}", "--output="], "--output is empty"),
        ([f"--checkpoint={checkpoint}", "--output=file"], "--output=file is a file"),
        ([f"--checkpoint={checkpoint}", "--output=x", "--k=31"], "k=31: the model has 30 items"),
        ([f"--checkpoint={checkpoint}", "--output=x", "--table=other.json"], "other.json has no run that wrote"),
        ([f"--checkpoint={checkpoint}", "--output=x", "--nonsense=1"], "unknown setting 'nonsense'"),
    ):
        assert main(words) == 2
        lines = capsys.readouterr().err.splitlines()
        assert complaint in lines[-1]
        assert sum(line.startswith("error:") for line in lines) == 1
    assert Path("file").read_text() == ""
    assert not Path("x").exists()
