"""Mends for what RecBole 1.2.1 breaks on today: one small function per upstream fault.

Each says which upstream issue reports the fault and when the mend is not needed; RecBole itself is neither
copied nor edited. They apply to every model that runs in the process, so that a baseline runs under the same
rules as ours.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import os
import pickle
import sys
import types
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
import yaml

from recbole_llm_interest.atomic_files import Layout, read_header, read_rows
from recbole_llm_interest.distributed import is_first
from recbole_llm_interest.errors import DataError, SettingsError
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
    name_teachers_without_eval()
    unpickle_nothing_unasked()
    read_item_embeddings_as_numbers()
    download_no_data_sets()
    load_the_columns_that_are_named()
    read_atomic_files_as_they_stand()
    say_which_events_are_left_out()
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


def name_teachers_without_eval() -> None:
    """Look ``teacher``, which KD_DAGFM runs as code, up by its name (no upstream issue).

    Not needed once upstream has no ``eval`` there.
    """
    from recbole.model.context_aware_recommender import kd_dagfm

    teachers = {
        name: value
        for name, value in vars(kd_dagfm).items()
        if isinstance(value, type) and issubclass(value, torch.nn.Module) and value.__module__ == kd_dagfm.__name__
    }

    def teacher_named(name: str) -> type:
        if name not in teachers:
            raise SettingsError(f"teacher={name!r} is none of {', '.join(teachers)}")
        return teachers[name]

    kd_dagfm.eval = teacher_named


def unpickle_nothing_unasked() -> None:
    """Refuse saved data sets and data loaders, unless ``allow_pickle`` is set (no upstream issue).

    RecBole unpickles ``<checkpoint_dir>/<data set>-*.pth`` wherever it finds such a file, asked or not, and
    unpickling runs what the file says. A configuration that comes out of a checkpoint cannot allow it. Not needed
    once RecBole saves data in a form that holds no code.
    """
    import recbole.data
    import recbole.data.utils

    is_allowed = ContextVar("allow_pickle", default=False)

    def load(file: Any) -> Any:
        if is_allowed.get():
            return pickle.load(file)
        raise DataError(
            f"{file.name} is a pickle, which may run any code as it is read: delete it, or set allow_pickle=True if "
            "you made it (save_dataset, save_dataloaders)"
        )

    def as_configured(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(read)
        def read_as_configured(config: Any) -> Any:
            before = is_allowed.set(config["allow_pickle"] is True)
            try:
                return read(config)
            finally:
                is_allowed.reset(before)

        return read_as_configured

    recbole.data.utils.pickle = types.SimpleNamespace(load=load, dump=pickle.dump)
    for name in ("create_dataset", "load_split_dataloaders"):
        reader = as_configured(getattr(recbole.data.utils, name))
        for module in (recbole.data.utils, recbole.data, sys.modules.get("recbole.quick_start.quick_start")):
            if hasattr(module, name):  # quick_start imports ray, which takes a while: if it is there, it is mended
                setattr(module, name, reader)


def read_item_embeddings_as_numbers() -> None:
    """Refuse pickled objects in ``item_emb.npy``, which LDiffRec reads from the data set's folder (no upstream issue).

    Not needed once upstream leaves ``allow_pickle`` off.
    """
    from recbole.model.general_recommender import ldiffrec

    numpy = types.ModuleType("numpy")
    vars(numpy).update(vars(np))
    vars(numpy)["load"] = lambda path, **_: np.load(path, allow_pickle=False)
    ldiffrec.np = numpy


def download_no_data_sets() -> None:
    """Refuse to fetch a data set whose folder is missing and whose name RecBole has an address for (#1989).

    A misspelt ``data_path`` would be answered by hundreds of megabytes from the network.
    """
    import recbole.data.dataset.dataset
    import recbole.data.dataset.kg_dataset

    def decide_download(url: str) -> bool:
        raise DataError(
            f"the data set is not where data_path says, and data sets are never downloaded: {url} is where RecBole "
            "would get it from"
        )

    for module in (recbole.data.dataset.dataset, recbole.data.dataset.kg_dataset):
        module.decide_download = decide_download


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


def read_atomic_files_as_they_stand() -> None:
    """Load a data set's files by the checked reader, for every model (no upstream issue).

    RecBole's takes quotes in titles for CSV's, drops the ids ``NA`` and ``null``, shifts columns where a title holds a
    tab, fails on a byte order mark, and puts the mean in the place of a time that is none. It also takes three times
    as long and five times the memory (#704). Not needed once it reads what stands between two tabs, and says what it
    leaves out.
    """
    from recbole.data.dataset import Dataset
    from recbole.utils import FeatureSource, FeatureType

    def _load_feat(self: Any, filepath: str, source: Any) -> Any:
        wanted, unwanted = self._get_load_and_unload_col(source)
        if wanted == set():
            return None
        path, layout = Path(filepath), Layout.of(self.config)
        columns = {
            name: kind
            for name, kind in read_header(path, layout).items()
            if (wanted is None or name in wanted) and name not in (unwanted or ())
        }
        if not columns:
            self.logger.warning(f"no column of {path} is loaded: load_col and unload_col leave none")
            return None
        ids = {
            FeatureSource.INTERACTION: [self.uid_field, self.iid_field],
            FeatureSource.USER: [self.uid_field],
            FeatureSource.ITEM: [self.iid_field],
        }.get(source, [])
        is_event = source == FeatureSource.INTERACTION
        frame = read_rows(
            path,
            layout,
            columns,
            ids=[field for field in ids if field is not None],
            unique=not is_event,
            time_field=self.time_field if is_event else None,
            strict=bool(self.config["strict_data"]),
        )
        for field, kind in columns.items():
            if source != "link":  # its columns are those of other files
                self.field2source[field] = source
                self.field2type[field] = FeatureType(kind)
                if "float" in kind:
                    self.field2bucketnum[field] = 2
            self.field2seqlen[field] = 1
            if kind.endswith("_seq"):
                longest = max(map(len, frame[field]))
                at_most = (self.config["seq_len"] or {}).get(field, longest)
                frame[field] = [values[:at_most] for values in frame[field]]
                self.field2seqlen[field] = min(longest, at_most)
        return frame

    Dataset._load_feat = _load_feat


def say_which_events_are_left_out() -> None:
    """Say how many events RecBole leaves out for an item or user that its own file does not have (no upstream issue).

    Their items and users are gone from every split, without a word. Skipped where ``filter_inter_by_user_or_item`` is
    off.
    """
    from recbole.data.dataset import Dataset

    original = Dataset._filter_inter_by_user_or_item

    def _filter_inter_by_user_or_item(self: Any) -> None:
        before = len(self.inter_feat)
        original(self)
        if left_out := before - len(self.inter_feat):
            message = (
                f"{self.dataset_name}: {left_out} of {before} events left out, whose item or user the .item or .user "
                "file does not have: filter_inter_by_user_or_item=False keeps them"
            )
            if self.config["strict_data"]:
                raise DataError(message)
            self.logger.warning(message)

    Dataset._filter_inter_by_user_or_item = _filter_inter_by_user_or_item


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
    renamed, a checkpoint is either the old one or the new one. RecBole also writes one, of epoch -1, when no epoch is
    left to train, over that of the run that is resumed. Not needed once upstream saves plain values.
    """
    from recbole.config import Config
    from recbole.trainer import Trainer
    from recbole.utils import EvaluatorType, InputType, ModelType, set_color

    def state_without_classes(self: Any) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("model_class", "yaml_loader")}

    def restore_state(self: Any, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__.setdefault("final_config_dict", {})["allow_pickle"] = (
            False  # whoever wrote the file may have wanted it otherwise
        )
        self.yaml_loader = self._build_yaml_loader()

    def _save_checkpoint(self: Any, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        if not self.config["single_spec"] and self.config["local_rank"] != 0:
            return
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        if epoch < 0 and Path(path).exists():
            self.logger.warning(f"{path} is finished: there is no epoch left to train, and it stays as it is")
            return
        state = checkpoint_of(self, epoch)
        write_checkpoint(Path(path), state)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {path}")

    Config.__getstate__, Config.__setstate__ = state_without_classes, restore_state
    Trainer._save_checkpoint = _save_checkpoint
    torch.serialization.add_safe_globals([Config, EvaluatorType, InputType, ModelType, *_array_types()])


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint that torch's safe loader reads.

    Raises:
        StorageError: it cannot be written; what was there before is still there.
    """
    otherwise = "set checkpoint_dir to another folder"
    write_atomically(path, lambda file: torch.save(state, file, pickle_protocol=2), otherwise)


def checkpoint_of(trainer: Any, epoch: int) -> dict[str, Any]:
    """What RecBole saves of a trainer, in values that torch's safe loader reads."""
    return {
        "config": trainer.config,
        "epoch": epoch,
        "cur_step": trainer.cur_step,
        "best_valid_score": float(trainer.best_valid_score),
        "state_dict": trainer.model.state_dict(),
        "other_parameter": {
            name: value
            for name, value in trainer.model.other_parameter().items()
            if not isinstance(value, torch.nn.Module)  # its weights are in the state_dict; it holds the data set
        },
        "optimizer": trainer.optimizer.state_dict(),
    }


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
