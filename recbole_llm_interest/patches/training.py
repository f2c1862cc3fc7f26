"""Patches for RecBole's training: negative sampling, early stopping, TensorBoard and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from recbole_llm_interest.distributed import is_main_process


def disable_unused_negative_sampling() -> None:
    """Disable negative sampling for models that do not use negatives (no upstream issue).

    RecBole samples negatives by default. A sequential model with cross-entropy then refuses to start, and ``Pop``
    counts the negatives as interactions. Skipped if the user sets ``train_neg_sample_args``.
    """
    from recbole.config import Config
    from recbole.utils import InputType, ModelType

    original = Config._set_default_parameters

    def _set_default_parameters(self: Any) -> None:
        settings = self.final_config_dict
        input_type = getattr(self.model_class, "input_type", None)
        has_cross_entropy = (
            settings["MODEL_TYPE"] == ModelType.SEQUENTIAL and input_type is None and settings.get("loss_type") == "CE"
        )
        is_pointwise = settings["MODEL_TYPE"] == ModelType.TRADITIONAL and input_type == InputType.POINTWISE
        if (has_cross_entropy or is_pointwise) and "train_neg_sample_args" not in self.external_config_dict:
            settings["train_neg_sample_args"] = None
        original(self)

    Config._set_default_parameters = _set_default_parameters


def fix_pop_counts() -> None:
    """Count every interaction in ``Pop`` (no upstream issue).

    RecBole increments counts by advanced indexing, which adds one per item and batch, however often the item is in the
    batch: with 48 batches an epoch, all popular films of ml-100k end at a count of 48. Not needed once RecBole uses
    ``index_add_``.
    """
    from recbole.model.general_recommender import Pop

    original = Pop.calculate_loss

    def calculate_loss(self: Any, interaction: Any) -> torch.Tensor:
        counts = self.item_cnt.clone()
        loss = original(self, interaction)
        counts.index_add_(0, interaction[self.ITEM_ID], torch.ones_like(interaction[self.ITEM_ID])[:, None])
        self.item_cnt, self.max_cnt = counts, counts.max(dim=0).values
        return loss

    Pop.calculate_loss = calculate_loss


def write_tensorboard_beside_log() -> None:
    """Write TensorBoard's events beside the run's log file (no upstream issue).

    RecBole writes them to ``log_tensorboard`` in the current directory, wherever the logs are. A run without a log
    file, as in a notebook, writes to ``log/tensorboard``. In distributed training only the main process writes.
    """
    import recbole.trainer.trainer
    from torch.utils.tensorboard import SummaryWriter

    def get_tensorboard(logger: Any) -> SummaryWriter | NoTensorBoard:
        if not is_main_process():
            return NoTensorBoard()
        files = [Path(handler.baseFilename) for handler in logger.handlers if hasattr(handler, "baseFilename")]
        logs = [file.with_suffix("") for file in files if file.is_file()]
        return SummaryWriter(str(logs[0] if logs else Path("log", "tensorboard")))

    recbole.trainer.trainer.get_tensorboard = get_tensorboard


@contextmanager
def without_tensorboard() -> Iterator[None]:
    """Make trainers that are built in this block write no events (no upstream issue).

    RecBole's trainers write some of their values, under names of their own; trackers write all of them.
    """
    import recbole.trainer.trainer

    original = recbole.trainer.trainer.get_tensorboard
    recbole.trainer.trainer.get_tensorboard = lambda logger: NoTensorBoard()
    try:
        yield
    finally:
        recbole.trainer.trainer.get_tensorboard = original


class NoTensorBoard:
    """Replaces TensorBoard's writer where it is not wanted."""

    def add_scalar(self, *args: object) -> None:
        """Do nothing."""

    def add_hparams(self, *args: object) -> None:
        """Do nothing."""


def fix_early_stopping_on_plateaus() -> None:
    """Stop early if the validation score does not change, and keep the first of equal epochs (no upstream issue).

    RecBole counts a score that equals the best one, to four decimals, as an improvement: a converged model trains to
    the last epoch and overwrites its best checkpoint each time. Not needed once RecBole compares with ``>``.
    """
    import recbole.trainer.trainer

    def early_stopping(
        value: float, best: float, cur_step: int, max_step: int, bigger: bool = True
    ) -> tuple[float, int, bool, bool]:
        if value > best if bigger else value < best:
            return value, 0, False, True
        return best, cur_step + 1, cur_step + 1 > max_step, False

    recbole.trainer.trainer.early_stopping = early_stopping


def fix_folder_creation_race() -> None:
    """Create folders even if another process has just created them (no upstream issue).

    RecBole checks whether a folder exists before it creates it, so one of two runs that start at the same time can end
    with ``FileExistsError``. Not needed once RecBole creates folders with ``exist_ok``.
    """
    import recbole.data.utils
    import recbole.trainer.trainer
    import recbole.utils.logger

    def ensure_dir(dir_path: str) -> None:
        Path(dir_path).mkdir(parents=True, exist_ok=True)

    for module in (recbole.data.utils, recbole.trainer.trainer, recbole.utils.logger):
        module.ensure_dir = ensure_dir


def fix_count_metrics() -> None:
    """Compute metrics that need counts: coverage, popularity, Gini index, entropy and tail share (#2194, #2191).

    RecBole calls ``.cpu()`` on everything that it collected, including plain integers. It also counts the padding as an
    item of the catalogue, so that the coverage of all items is not 1. Not needed once it checks the type and leaves out
    the padding.
    """
    from recbole.evaluator import Collector

    collect, original = Collector.data_collect, Collector.get_data_struct

    def data_collect(self: Any, train_data: Any) -> None:
        collect(self, train_data)
        if self.register.need("data.num_items"):
            self.data_struct.set("data.num_items", self.data_struct.get("data.num_items") - 1)

    def get_data_struct(self: Any) -> Any:
        collected = self.data_struct._data_dict
        counts = {name: value for name, value in collected.items() if not isinstance(value, torch.Tensor)}
        for name in counts:
            del collected[name]
        struct = original(self)
        for name, value in counts.items():
            self.data_struct.set(name, value)
            struct.set(name, value)
        return struct

    Collector.data_collect, Collector.get_data_struct = data_collect, get_data_struct
