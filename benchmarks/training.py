"""What benchmarks of training and evaluation share: a model with its data and RecBole's trainer."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

import recbole_llm_interest  # noqa: F401  (RecBole runs, and knows LLMInterest, once this is imported)

#: a user's last event tests and the one before it validates, each ranked among all items
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}


class Training(NamedTuple):
    """A model, ready to train.

    Attributes:
        trainer: RecBole's, with the model and its configuration.
        train_data: batches to train on.
        valid_data: events to choose an epoch by.
        test_data: events to report.
    """

    trainer: Any
    train_data: Any
    valid_data: Any
    test_data: Any


def ready_to_train(
    model_name: str, dataset: str, settings: Mapping[str, Any], config_files: Sequence[str] = ()
) -> Training:
    """Read the data set, and build the model and its trainer, as RecBole does."""
    sys.argv = sys.argv[:1]  # RecBole reads the command line too
    config = Config(
        model_name,
        dataset,
        config_file_list=list(config_files) or None,
        config_dict={"show_progress": False, **settings},
    )
    init_seed(config["seed"], config["reproducibility"])
    train_data, valid_data, test_data = data_preparation(config, create_dataset(config))
    model = get_model(model_name)(config, train_data._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], model_name)(config, model)
    return Training(trainer, train_data, valid_data, test_data)
