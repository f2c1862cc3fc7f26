"""The context of the repeat bias: it equals a naive loop, and learns what is chosen again, and by whom."""

from __future__ import annotations

import math
import random

import pytest
import torch
import torch.nn.functional as F
from conftest import SUBJECTS, write_dataset
from recbole.utils import get_trainer

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.model.history_bias import Histories, HistoryBias
from recbole_llm_interest.model.repeat_bias import RepeatBias, RepeatContext


@pytest.fixture
def repeat():
    """A bias with a context whose weights are not zero."""
    torch.manual_seed(0)
    made = RepeatBias(size=4)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def naive_bias(repeat, history, events, interest):
    """The bias of each event of one history, without padding: one number an event."""
    counts = torch.tensor([len(history), len(history) - len(set(history.tolist()))])
    of_history = repeat.context.history @ torch.log1p(counts.float())
    of_interest = repeat.context.interest @ interest / interest.norm()
    biases = []
    for lag, event in enumerate(events.flip(0)):
        of_item = repeat.context.item @ event / event.norm()
        biases.append(repeat.bias[min(int(math.log2(lag + 1)), 5)] + of_item + of_interest + of_history)
    return torch.stack(biases[::-1])


def test_bias_with_context_equals_a_naive_loop(repeat):
    generator = torch.Generator().manual_seed(1)
    item_seq = torch.randint(1, 6, (3, 12), generator=generator)
    lengths = [12, 7, 1]
    for row, length in enumerate(lengths):
        item_seq[row, length:] = 0
    events = torch.randn(3, 12, 4, generator=generator) * (item_seq > 0)[..., None]
    row, position = (item_seq > 0).nonzero(as_tuple=True)
    interest = torch.randn(len(row), 4, generator=generator)
    found = repeat(item_seq, lambda: events, interest, row, position)
    bias_of = HistoryBias(repeat, None)
    for target, (user, end) in enumerate(zip(row.tolist(), position.tolist(), strict=True)):
        expected = naive_bias(repeat, item_seq[user, : end + 1], events[user, : end + 1], interest[target])
        assert torch.allclose(found.bias[target, 11 - end :], expected, atol=1e-5)
        assert found.items[target, 11 - end :].tolist() == item_seq[user, : end + 1].tolist()
        assert not found.items[target, : 11 - end].any()
        last, read = torch.full((3,), end), Histories(item_seq, lambda: events, lambda items: items)
        at_the_end = bias_of.after(read, last, interest[[target]].expand(3, -1))
        assert torch.allclose(at_the_end.bias[user, 11 - end :], expected, atol=1e-5)


@pytest.mark.parametrize("pad", ["in front", "behind"])
def test_repeats_are_counted_as_a_loop_counts_them(pad):
    item_seq = torch.randint(1, 5, (50, 9), generator=torch.Generator().manual_seed(0))
    item_seq[10:, -4:] = 0
    if pad == "in front":
        item_seq = item_seq.flip(1)
    for history, found in zip(item_seq.tolist(), RepeatContext.repeats(item_seq).tolist(), strict=True):
        so_far = [[item for item in history[: end + 1] if item] for end in range(9)]
        assert found == [len(items) - len(set(items)) for items in so_far]


def test_context_starts_as_no_context():
    """At the start, and in a model without it, the bias depends on the lag alone."""
    item_seq, events, interest = torch.tensor([[3, 4, 3]]), torch.randn(1, 3, 4), torch.randn(1, 4)
    made = RepeatBias(size=4)
    torch.nn.init.normal_(made.bias)
    plain = RepeatBias()
    plain.load_state_dict({"bias": made.bias})
    by_lag = plain.after(item_seq, lambda: events, interest).bias.expand(1, 3)
    assert torch.equal(made.after(item_seq, lambda: events, interest).bias, by_lag)


def bias_after_training(built, here, walks):
    """The bias on the last item of each of these histories, after training on them."""
    events = [(f"u{n}", f"i{item}", float(step)) for n, walk in enumerate(walks) for step, item in enumerate(walk)]
    write_dataset(here / "data", "walks", events, {f"i{n}": subject for n, subject in enumerate(SUBJECTS)})
    config, model, dataset, train, *_ = built(
        "LLMInterest", "walks", epochs=15, learning_rate=0.02, repeat_context=True
    )
    get_trainer(config["MODEL_TYPE"], config["model"])(config, model).fit(train, None, verbose=False)
    model.eval()
    items = [[dataset.token2id("item_id", f"i{item}") for item in walk[:-2]] for walk in walks]
    item_seq = torch.tensor(items)
    with torch.no_grad():
        table = model.item_table().representations
        seq_output = model(item_seq, model.initial_state(torch.zeros(len(walks), dtype=torch.long)), table)
        bias = model.history_bias.repeat.after(item_seq, lambda: F.embedding(item_seq, table), seq_output[:, -1])
    return bias.bias[:, -1]


@pytest.mark.slow
def test_things_that_are_chosen_again_are_told_from_others(built, here):
    """Half of the items are chosen several times in a row, by everybody; the others never are."""
    chance = random.Random(0)
    count = len(SUBJECTS)
    walks = []
    for _ in range(60):
        walk = []
        while len(walk) < 8:
            item = chance.randrange(count)
            walk += [item] * (3 if item < count // 2 else 1)
        walks.append(walk[:8])
    bias = bias_after_training(built, here, walks)
    is_bought_again = torch.tensor([walk[5] < count // 2 for walk in walks])
    assert bias[is_bought_again].mean() > bias[~is_bought_again].mean() + 0.1


@pytest.mark.slow
def test_users_who_repeat_are_told_from_others(built, here):
    """Every other user chooses one item over and over, the others never the same one twice."""
    chance = random.Random(0)
    count = len(SUBJECTS)
    walks = [[chance.randrange(count)] * 8 if n % 2 else chance.sample(range(count), 8) for n in range(200)]
    bias = bias_after_training(built, here, walks)
    assert bias[1::2].mean() > bias[0::2].mean() + 0.1


def test_a_context_of_a_bias_that_is_off_is_an_error(built):
    with pytest.raises(SettingsError, match="repeat_context refines repeat_bias, which is off"):
        built("LLMInterest", "cycle", repeat_context=True, repeat_bias=False)
