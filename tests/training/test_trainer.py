"""The learning rate schedule, clipping under mixed precision, and optimizers for sparse gradients."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from recbole.trainer import Trainer
from recbole.utils import get_trainer

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.training.optim import DenseAndSparse, clip_gradients, learning_rate_schedule
from recbole_llm_interest.training.trainer import LLMInterestTrainer


@pytest.mark.parametrize(
    ("kind", "middle", "end"), [("constant", 1.0, 1.0), ("linear", 0.5, 0.0), ("cosine", 0.5, 0.0)]
)
def test_schedule_warms_up_then_decays(kind, middle, end):
    share = learning_rate_schedule(kind, warmup=9, total=109)
    assert [share(step) for step in range(9)] == pytest.approx([step / 10 for step in range(1, 10)])
    assert share(9) == pytest.approx(1.0)
    assert share(59) == pytest.approx(middle)
    assert share(109) == pytest.approx(end)
    assert share(500) == pytest.approx(end)


def test_learning_rate_follows_the_schedule_in_a_run(built):
    config, model, _, train, *_ = built(epochs=4, train_batch_size=64, warmup_epochs=1, learning_rate=0.01,
                                        learning_rate_schedule="linear")  # fmt: skip
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    rates = []
    trainer.optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    trainer.fit(train, None, saved=False, verbose=False)
    expected = learning_rate_schedule("linear", len(train), 4 * len(train))
    assert len(train) > 1
    assert rates == pytest.approx([0.01 * expected(step) for step in range(4 * len(train))])


@pytest.mark.parametrize("learner", ["sgd", "adam"])
def test_gradient_scaler_does_not_change_clipping(built, learner):
    """RecBole clips before it unscales: with a scale of 65,536 next to nothing would be left of each gradient."""
    config, model, _, train, *_ = built(clip_grad_norm={"max_norm": 0.01}, learner=learner, learning_rate=1.0)
    before = copy.deepcopy(model.state_dict())
    batch = next(iter(train))
    steps = {}
    for scaled in (False, True):
        model.load_state_dict(before)
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        trainer.enable_scaler = scaled  # as on a GPU
        trainer.optimizer = trainer._build_optimizer()
        scaler = torch.amp.GradScaler("cpu", enabled=scaled)
        torch.manual_seed(0)
        trainer.optimizer.zero_grad()
        scaler.scale(sum(model.calculate_loss(batch))).backward()
        scaler.step(trainer.optimizer)
        assert trainer.clip_grad_norm is None  # else RecBole would clip as well
        steps[scaled] = torch.cat([(p.detach() - before[name]).flatten() for name, p in model.named_parameters()])
    assert torch.allclose(steps[False], steps[True], atol=1e-5)
    if learner == "sgd":
        assert float(steps[True].norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("overrides", [{}, {"ssl_backward_weight": 1.0, "ssl_views_weight": 0.1}])
def test_epoch_equals_one_of_recboles_trainer(built, overrides):
    """Which looks at every loss before it goes on."""
    config, model, _, train, *_ = built(train_batch_size=64, learning_rate=0.01, **overrides)
    before = copy.deepcopy(model.state_dict())
    losses, weights = [], []
    for kind in (Trainer, LLMInterestTrainer):
        model.load_state_dict(before)
        trainer = LLMInterestTrainer(config, model)
        train.generator.manual_seed(1)
        torch.manual_seed(1)
        losses.append(kind._train_epoch(trainer, train, 0))
        weights.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert len(train) > 1
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert torch.allclose(*weights, atol=1e-6)


def test_warning_about_bfloat16_on_a_processor_without_it(built, monkeypatch, caplog):
    for is_fast in (True, False):
        monkeypatch.setattr("recbole_llm_interest.training.trainer.has_fast_bfloat16", lambda: is_fast)  # noqa: B023
        config, model, *_ = built(loss_precision="bfloat16")
        LLMInterestTrainer(config, model)
        assert ("no instructions for bfloat16" in caplog.text) is not is_fast


def test_gradients_are_clipped_in_a_run(built):
    config, model, _, train, *_ = built(epochs=1, clip_grad_norm={"max_norm": 1e-3}, learner="sgd", learning_rate=1.0,
                                        train_batch_size=4096)  # fmt: skip
    before = torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, None, saved=False, verbose=False)
    after = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3 * len(train), rel=1e-2)


def table_and_layer(sparse):
    torch.manual_seed(0)
    return torch.nn.Embedding(9, 4, sparse=sparse), torch.nn.Linear(4, 2)


def optimizer_of(table, layer, weight_decay=0.0):
    dense = torch.optim.Adam(layer.parameters(), lr=0.1, weight_decay=weight_decay)
    return DenseAndSparse(dense, torch.optim.SparseAdam(table.parameters(), lr=0.1), weight_decay)


def backward_of(table, layer, rows):
    """Use the table twice, as with an SSL objective, each time with a repeated row."""
    (layer(table(rows)).square().sum() + table(rows).sum()).backward()


def test_sparse_gradients_are_clipped_like_dense_ones():
    gradients = []
    for sparse in (True, False):
        table, layer = table_and_layer(sparse)
        backward_of(table, layer, torch.tensor([1, 5, 5]))
        parameters = [*table.parameters(), *layer.parameters()]
        clip_gradients(parameters, max_norm=0.3) if sparse else torch.nn.utils.clip_grad_norm_(parameters, 0.3)
        gradients.append([p.grad.to_dense() for p in parameters])
    assert all(torch.allclose(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_used_rows_follow_adam_and_others_stay(weight_decay):
    table, layer = table_and_layer(sparse=True)
    all_dense = table_and_layer(sparse=False)
    before = table.weight.detach().clone()
    ours = optimizer_of(table, layer, weight_decay)
    adam = torch.optim.Adam([p for part in all_dense for p in part.parameters()], lr=0.1, weight_decay=weight_decay)
    for _ in range(3):
        for optimizer, parts in ((ours, (table, layer)), (adam, all_dense)):
            optimizer.zero_grad()
            backward_of(*parts, torch.tensor([1, 5, 5]))
            optimizer.step()
    met, others = [1, 5], [0, 2, 3, 4, 6, 7, 8]
    assert torch.allclose(table.weight[met], all_dense[0].weight[met], atol=1e-5)
    assert torch.allclose(layer.weight, all_dense[1].weight, atol=1e-5)
    assert torch.equal(table.weight[others], before[others])


def test_states_of_both_optimizers_are_saved_and_loaded():
    def step(optimizer, *parts):
        optimizer.zero_grad()
        backward_of(*parts, torch.tensor([1, 5]))
        optimizer.step()

    parts = table_and_layer(sparse=True)
    ours = optimizer_of(*parts)
    step(ours, *parts)
    step(ours, *parts)
    copied = copy.deepcopy(parts)
    resumed = optimizer_of(*copied)
    resumed.load_state_dict(copy.deepcopy(ours.state_dict()))
    step(ours, *parts)
    step(resumed, *copied)
    assert all(torch.equal(one.weight, other.weight) for one, other in zip(parts, copied, strict=True))
    ours = resumed
    schedule = torch.optim.lr_scheduler.LambdaLR(ours, lambda _: 0.5)
    assert schedule.get_last_lr() == [0.05, 0.05]
    assert [optimizer.param_groups[0]["lr"] for optimizer in (ours.dense, ours.sparse)] == [0.05, 0.05]


def test_recbole_resumes_a_run_with_sampled_negatives(built):
    options = {"loss_candidates": 3, "clip_grad_norm": {"max_norm": 1.0}, "learning_rate_schedule": "linear",
               "weight_decay": 0.01}  # fmt: skip
    config, model, _, train, valid, _ = built(epochs=2, **options)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, valid, verbose=False)
    config, fresh, *_ = built(epochs=3, seed=5, **options)
    resumed = get_trainer(config["MODEL_TYPE"], config["model"])(config, fresh)
    resumed.resume_checkpoint(trainer.saved_model_file)
    saved = load_checkpoint(Path(trainer.saved_model_file))["optimizer"]["sparse"]["state"][0]
    loaded = resumed.optimizer.state_dict()["sparse"]["state"][0]
    assert saved["exp_avg"].abs().sum() > 0
    assert all(torch.equal(torch.as_tensor(saved[name]), torch.as_tensor(loaded[name])) for name in saved)
    resumed.fit(train, valid, verbose=False)


def test_sampled_negatives_need_adam(built):
    config, model, *_ = built(loss_candidates=3, learner="rmsprop")
    with pytest.raises(SettingsError, match="learner=adam"):
        get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
