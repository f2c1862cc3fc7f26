"""Mends for what RecBole 1.2.1 breaks on today: one small function per upstream fault.

Each says which upstream issue reports the fault and when the mend is not needed; RecBole itself is neither
copied nor edited. They apply to every model that runs in the process, so that a baseline runs under the same
rules as ours.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import os
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
import yaml

from recbole_llm_interest.distributed import is_first
from recbole_llm_interest.files import write_atomically


def install() -> None:
    """Apply every mend that this environment needs. Calling it again changes nothing."""
    if getattr(install, "done", False):
        return
    # The first three have to be in place before RecBole is imported.
    restore_numpy_names()
    stand_in_for_ray()
    let_torchvision_import()
    read_strings_as_literals()
    load_the_columns_that_are_named()
    skip_unused_negative_sampling()
    count_every_choice_in_pop()
    order_events_exactly()
    write_loadable_checkpoints()
    keep_tensorboard_beside_the_log()
    stop_on_a_plateau()
    let_several_runs_start_at_once()
    collect_counts_as_they_are()
    let_graph_models_fill_matrices()
    hide_deprecations_in_recbole()
    keep_anomaly_detection_off()
    install.done = True  # type: ignore[attr-defined]


def restore_numpy_names() -> None:
    """Give numpy back the aliases that RecBole uses (#1604, #1714, PR #2203).

    Skipped for each name that numpy still has; not needed once RecBole stops using them.
    """
    aliases = {
        "float": float,
        "int": int,
        "object": object,
        "str": str,
        "complex": complex,
        "unicode": str,
        "float_": np.float64,
        "complex_": np.complex128,
        "unicode_": np.str_,
        "bool8": np.bool_,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # merely asking numpy for some of the old names warns
        for name, value in aliases.items():
            if not hasattr(np, name):
                setattr(np, name, value)


def stand_in_for_ray() -> None:
    """Let ``recbole.quick_start`` import where ray cannot (#1820, #1518).

    RecBole imports ray for one call, ``tune.report``, which does nothing outside of a ray session. ray 2.6.3, the
    newest that RecBole allows, has no wheel for Python 3.12 and needs ``pkg_resources``, which setuptools dropped
    in version 82. Skipped where ray is imported already or can be.
    """
    importable = importlib.util.find_spec("ray") and importlib.util.find_spec("pkg_resources")
    if "ray" in sys.modules or importable:
        return
    ray = types.ModuleType("ray")
    ray.tune = types.ModuleType("ray.tune")  # type: ignore[attr-defined]
    ray.tune.report = lambda *args, **kwargs: None
    sys.modules["ray"], sys.modules["ray.tune"] = ray, ray.tune


def let_torchvision_import() -> None:
    """Let torchvision import beside a CPU-only torch (pytorch #122494, vision #8985).

    PyPI's torchvision is linked against CUDA. Where that library does not load, ``import torchvision`` fails for
    want of two operators, and takes transformers and open_clip down with it. Declaring the operators' signatures
    is enough for the rest of torchvision, transforms included. Skipped where torchvision is absent or loads.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or "torchvision" in sys.modules:
        return
    libraries = [path for path in Path(spec.origin).parent.glob("_C.*") if path.suffix in (".so", ".pyd", ".dylib")]
    try:
        for library in libraries:
            torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    except OSError:
        for operator in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )


def literal(text: str) -> Any:
    """Read ``text`` as a Python literal (number, string, list, tuple, dict, set, boolean, None) or a YAML list or dict.

    Raises:
        SyntaxError: it is none of these. RecBole then keeps the string as it stands.
    """
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        if text.strip()[:1] in ("[", "{"):  # as in [title, genres]: words without quotes
            with contextlib.suppress(yaml.YAMLError):
                return yaml.safe_load(text)
        raise SyntaxError(f"not a literal: {text[:80]}") from error


def read_strings_as_literals() -> None:
    """Read settings as literals where RecBole calls ``eval`` on them (no upstream issue).

    RecBole runs every string of the command line and of ``config_dict`` as code, so that ``--a=1/0`` crashes and
    ``--a=__import__('os')…`` executes. A module's own name goes before the builtin, which is all this needs.
    Not needed once upstream has no ``eval`` in these two modules.
    """
    import recbole.config.configurator
    import recbole.trainer.hyper_tuning

    for module in (recbole.config.configurator, recbole.trainer.hyper_tuning):
        module.eval = literal


def load_the_columns_that_are_named() -> None:
    """Load the user, item and time column of a data set that RecBole has no settings file for (no upstream issue).

    RecBole's default ``load_col`` has ``user_id`` and ``item_id`` only, whatever the settings call them, and no time,
    so that every sequential model stops at a data set of one's own. Skipped where the user, or RecBole's own file
    for the data set, says which columns to load.
    """
    from recbole.config import Config

    original = Config._update_internal_config_dict

    def _update_internal_config_dict(self: Any, file: str) -> Any:
        config_dict = original(self, file)
        if os.path.basename(file) == "sample.yaml":
            named = {**self.internal_config_dict, **self.external_config_dict}
            fields = [named[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
            self.internal_config_dict["load_col"]["inter"] = fields
        return config_dict

    Config._update_internal_config_dict = _update_internal_config_dict


def skip_unused_negative_sampling() -> None:
    """Turn negative sampling off for models that make no use of it (no upstream issue).

    RecBole samples negatives by default. A sequential model with cross-entropy then refuses to start, and ``Pop``
    counts the sampled items as if users had chosen them. Skipped where the user sets ``train_neg_sample_args``.
    """
    from recbole.config import Config
    from recbole.utils import InputType, ModelType

    original = Config._set_default_parameters

    def _set_default_parameters(self: Any) -> None:
        settings = self.final_config_dict
        input_type = getattr(self.model_class, "input_type", None)
        cross_entropy = (
            settings["MODEL_TYPE"] == ModelType.SEQUENTIAL and input_type is None and settings.get("loss_type") == "CE"
        )
        counts_positives = settings["MODEL_TYPE"] == ModelType.TRADITIONAL and input_type == InputType.POINTWISE
        if (cross_entropy or counts_positives) and "train_neg_sample_args" not in self.external_config_dict:
            settings["train_neg_sample_args"] = None
        original(self)

    Config._set_default_parameters = _set_default_parameters


def count_every_choice_in_pop() -> None:
    """Let ``Pop`` count an item as often as it was chosen (no upstream issue).

    RecBole adds one by advanced indexing, which counts an item once a batch however often it stands there: with 48
    batches an epoch the hundreds of ml-100k's popular films all end at 48. Not needed once upstream uses
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


def order_events_exactly() -> None:
    """Sort events by their time in double precision (#2204, #1653).

    RecBole casts times to float32 before it sorts: a step of 128 s for epoch seconds, of two minutes and more for
    milliseconds, within which events keep the file's order. Sorting stably beforehand is enough, since the cast
    keeps the order and RecBole's own sort is stable. Events of the very same time stay in the file's order.
    Skipped for data that is not ordered by time or that comes already split.
    """
    from recbole.data.dataset import Dataset

    original = Dataset._change_feat_format

    def _change_feat_format(self: Any) -> None:
        ordered_by_time = self.config["eval_args"]["order"] == "TO" and self.time_field in self.inter_feat
        if ordered_by_time and self.benchmark_filename_list is None:
            self.inter_feat = self.inter_feat.sort_values(self.time_field, kind="stable", ignore_index=True)
        original(self)

    Dataset._change_feat_format = _change_feat_format


def write_loadable_checkpoints() -> None:
    """Write checkpoints that torch's safe loader reads, and that a kill cannot damage (#2212).

    Stock checkpoints use a pickle protocol that ``weights_only`` loading does not know and hold a model class and
    a YAML loader, so that every run dies when it reloads its best model. Written to a temporary file first and
    renamed, a checkpoint is either the old one or the new one. Not needed once upstream saves plain values.
    """
    from recbole.config import Config
    from recbole.trainer import Trainer
    from recbole.utils import EvaluatorType, InputType, ModelType, set_color

    def state_without_classes(self: Any) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("model_class", "yaml_loader")}

    def restore_state(self: Any, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.yaml_loader = self._build_yaml_loader()

    def _save_checkpoint(self: Any, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        if not self.config["single_spec"] and self.config["local_rank"] != 0:
            return
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        state = {
            "config": self.config,
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "state_dict": self.model.state_dict(),
            "other_parameter": {
                name: value
                for name, value in self.model.other_parameter().items()
                if not isinstance(value, torch.nn.Module)  # its weights are in the state_dict; it holds the data set
            },
            "optimizer": self.optimizer.state_dict(),
        }
        write_atomically(Path(path), lambda file: torch.save(state, file, pickle_protocol=2))
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {path}")

    Config.__getstate__, Config.__setstate__ = state_without_classes, restore_state
    Trainer._save_checkpoint = _save_checkpoint
    torch.serialization.add_safe_globals([Config, EvaluatorType, InputType, ModelType, *_array_types()])


def _array_types() -> list[Any]:
    """The names by which numpy and scipy arrays are pickled: ItemKNN, EASE and the like keep their model in such."""
    matrices = [
        np.matrix,
        scipy.sparse.csr_matrix,
        scipy.sparse.csc_matrix,
        scipy.sparse.coo_matrix,
        scipy.sparse.lil_matrix,
    ]
    dtypes = [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64, np.bool_, np.object_)]
    rebuild: list[Any] = [np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]]
    return [*rebuild, np.ndarray, np.dtype, *dtypes, *matrices]


def keep_tensorboard_beside_the_log() -> None:
    """Write TensorBoard's events next to the run's log file (no upstream issue).

    RecBole writes them to ``log_tensorboard`` below the current directory, whatever the other logs' place.
    A run without a log file, as in a notebook, writes to ``log/tensorboard``. Of processes that train together, the
    first writes.
    """
    import recbole.trainer.trainer
    from torch.utils.tensorboard import SummaryWriter

    def get_tensorboard(logger: Any) -> SummaryWriter | _NoTensorBoard:
        if not is_first():
            return _NoTensorBoard()
        files = [Path(handler.baseFilename) for handler in logger.handlers if hasattr(handler, "baseFilename")]
        logs = [file.with_suffix("") for file in files if file.is_file()]
        return SummaryWriter(str(logs[0] if logs else Path("log", "tensorboard")))

    recbole.trainer.trainer.get_tensorboard = get_tensorboard


class _NoTensorBoard:
    """What a process that writes nothing has in the place of TensorBoard's writer."""

    def add_scalar(self, *args: object) -> None:
        pass

    def add_hparams(self, *args: object) -> None:
        pass


def stop_on_a_plateau() -> None:
    """Stop early when the validation score stays level, and keep the first of equal epochs (no upstream issue).

    RecBole takes a score that equals the best one, to four decimals, for an improvement: a model that has converged
    trains on to the last epoch and overwrites its best checkpoint each time. Not needed once it compares with ``>``.
    """
    import recbole.trainer.trainer

    def early_stopping(
        value: float, best: float, cur_step: int, max_step: int, bigger: bool = True
    ) -> tuple[float, int, bool, bool]:
        if value > best if bigger else value < best:
            return value, 0, False, True
        return best, cur_step + 1, cur_step + 1 > max_step, False

    recbole.trainer.trainer.early_stopping = early_stopping


def let_several_runs_start_at_once() -> None:
    """Make folders whether or not another process has just made them (no upstream issue).

    RecBole looks first and makes then, so that of two runs that start together one ends with ``FileExistsError``.
    """
    import recbole.data.utils
    import recbole.trainer.trainer
    import recbole.utils.logger

    def ensure_dir(dir_path: str) -> None:
        Path(dir_path).mkdir(parents=True, exist_ok=True)

    for module in (recbole.data.utils, recbole.trainer.trainer, recbole.utils.logger):
        module.ensure_dir = ensure_dir


def collect_counts_as_they_are() -> None:
    """Let metrics that need counts be computed: coverage, popularity, Gini, entropy, tail share (#2194, #2191).

    RecBole calls ``.cpu()`` on all that it collected, plain counts included. Not needed once it asks for the type.
    """
    from recbole.evaluator import Collector

    original = Collector.get_data_struct

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

    Collector.get_data_struct = get_data_struct


def let_graph_models_fill_matrices() -> None:
    """Give scipy's ``dok_matrix`` back the ``_update`` by which LightGCN and its kin fill it (#2034, #2090).

    Skipped where scipy still has it, as before 1.13.
    """
    if not hasattr(scipy.sparse.dok_matrix, "_update"):
        scipy.sparse.dok_matrix._update = lambda self, values: self._dict.update(values)


def hide_deprecations_in_recbole() -> None:
    """Keep RecBole's use of deprecated pandas and torch calls off the console (no upstream issue).

    A user can do nothing about them, and they come once a column and once an epoch. The constraints on pandas and
    torch hold the versions in which the calls still work.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")


def keep_anomaly_detection_off() -> None:
    """Undo what importing RecBole's SINE does to every model of the process (no upstream issue).

    That module turns torch's anomaly detection on as it is imported, and looking up any sequential model imports
    it: training then takes up to half as long again. Whoever wants the detection turns it on after importing us.
    """
    before = torch.is_anomaly_enabled()
    importlib.import_module("recbole.model.sequential_recommender")
    torch.autograd.set_detect_anomaly(before)
