"""The learning-rate schedule, and clipping that holds under mixed precision."""

from __future__ import annotations

import copy

import pytest
import torch
from recbole.utils import get_trainer

from recbole_llm_interest.trainer import learning_rate_schedule


@pytest.mark.parametrize(
    ("kind", "middle", "end"), [("constant", 1.0, 1.0), ("linear", 0.5, 0.0), ("cosine", 0.5, 0.0)]
)
def test_schedule_rises_then_falls_as_it_is_called(kind, middle, end):
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
def test_clipping_is_the_same_with_and_without_a_gradient_scaler(built, learner):
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


def test_gradients_are_clipped_in_a_run(built):
    config, model, _, train, *_ = built(epochs=1, clip_grad_norm={"max_norm": 1e-3}, learner="sgd", learning_rate=1.0,
                                        train_batch_size=4096)  # fmt: skip
    before = torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, None, saved=False, verbose=False)
    after = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3 * len(train), rel=1e-2)
