"""Patches for how RecBole reads, filters and sorts data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import AtomicFormat, read_atomic_file, read_header
from recbole_llm_interest.io.manifest import record_run


def load_configured_columns() -> None:
    """Load the user, item and time columns of a data set that RecBole has no settings file for (no upstream issue).

    RecBole's default ``load_col`` has only ``user_id`` and ``item_id``, whatever names the settings give them, and no
    time, so every sequential model fails on a data set of one's own. Of data that is split already, the lists of items
    and times are loaded, too. Skipped if ``load_col`` is set by the user or by RecBole's own file for the data set.
    """
    from recbole.config import Config

    original = Config._update_internal_config_dict

    def _update_internal_config_dict(self: Any, file: str) -> Any:
        config_dict = original(self, file)
        if os.path.basename(file) == "sample.yaml":
            settings = {**self.internal_config_dict, **self.external_config_dict}
            fields = [settings[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
            if settings["benchmark_filename"]:
                fields += [f"{field}{settings['LIST_SUFFIX']}" for field in fields[1:]]
            self.internal_config_dict["load_col"]["inter"] = fields
        return config_dict

    Config._update_internal_config_dict = _update_internal_config_dict


def number_listed_items_as_items() -> None:
    """Give the items of the histories in ``benchmark_filename`` the numbers of items (no upstream issue).

    RecBole does so only if ``alias_of_item_id`` names their column. Without it, a sequential model reads other items
    than those in the file, without a message. Skipped if the column is an alias already.
    """
    from recbole.data.dataset import Dataset

    original = Dataset._init_alias

    def _init_alias(self: Any) -> None:
        listed = f"{self.iid_field}{self.config['LIST_SUFFIX']}"
        aliases = self.config["alias_of_item_id"] or []
        if self.benchmark_filename_list is not None and listed in self.field2type and listed not in aliases:
            self.config["alias_of_item_id"] = [*aliases, listed]
        original(self)

    Dataset._init_alias = _init_alias


def replace_atomic_file_reader() -> None:
    """Read atomic files by ``read_atomic_file``, for every model (no upstream issue; memory: #704).

    RecBole's reader treats quotes in titles as those of CSV, drops the ids ``NA`` and ``null``, shifts columns if a
    title holds a tab, fails on a byte order mark, and replaces an invalid timestamp with the mean. It also takes three
    times as long and five times the memory. Not needed once RecBole reads fields unchanged and reports skipped rows.
    """
    from recbole.data.dataset import Dataset
    from recbole.utils import FeatureSource

    def _load_feat(self: Any, filepath: str, source: Any) -> pd.DataFrame | None:
        path, atomic_format = Path(filepath), AtomicFormat.from_config(self.config)
        columns = _columns_to_load(self, path, atomic_format, source)
        if not columns:
            return None
        is_interaction = source == FeatureSource.INTERACTION
        frame = read_atomic_file(
            path,
            atomic_format,
            columns,
            ids=_id_fields(self, source),
            unique=not is_interaction,
            time_field=self.time_field if is_interaction else None,
            strict=bool(self.config["strict_data"]),
        )
        for field, kind in columns.items():
            _register_field(self, frame, field, kind, source)
        return frame

    Dataset._load_feat = _load_feat


def _columns_to_load(dataset: Any, path: Path, atomic_format: AtomicFormat, source: Any) -> dict[str, str]:
    """Return the type of each column that ``load_col`` and ``unload_col`` select, by its name."""
    load, unload = dataset._get_load_and_unload_col(source)
    if load == set():
        return {}
    columns = {
        name: kind
        for name, kind in read_header(path, atomic_format).items()
        if (load is None or name in load) and name not in (unload or ())
    }
    if not columns:
        dataset.logger.warning(f"no column of {path} is loaded: load_col and unload_col exclude all of them")
    return columns


def _id_fields(dataset: Any, source: Any) -> list[str]:
    """Return the columns that must not be empty in a file of ``source``."""
    from recbole.utils import FeatureSource

    fields = {
        FeatureSource.INTERACTION: [dataset.uid_field, dataset.iid_field],
        FeatureSource.USER: [dataset.uid_field],
        FeatureSource.ITEM: [dataset.iid_field],
    }.get(source, [])
    return [field for field in fields if field is not None]


def _register_field(dataset: Any, frame: pd.DataFrame, field: str, kind: str, source: Any) -> None:
    """Set what RecBole's data set knows of a field, and truncate its sequences to ``seq_len``."""
    from recbole.utils import FeatureType

    if source != "link":  # the columns of a link file are described by other files
        dataset.field2source[field] = source
        dataset.field2type[field] = FeatureType(kind)
        if "float" in kind:
            dataset.field2bucketnum[field] = 2
    dataset.field2seqlen[field] = 1
    if kind.endswith("_seq"):
        longest = max(map(len, frame[field]))
        at_most = (dataset.config["seq_len"] or {}).get(field, longest)
        frame[field] = [values[:at_most] for values in frame[field]]
        dataset.field2seqlen[field] = min(longest, at_most)


def record_saved_data_sets() -> None:
    """Record the data sets and data loaders that RecBole saves with all ids, before it does (no upstream issue).

    Only with ``save_dataset`` or ``save_dataloaders``. Not needed if the files need not be found again.
    """
    import recbole.data
    from recbole.data.dataset import Dataset

    save, save_loaders = Dataset.save, recbole.data.utils.save_split_dataloaders

    def save_data_set(self: Any) -> None:
        record_run(self.config, "saved data set", [_saved(self.config, type(self).__name__)])
        save(self)

    def save_split_dataloaders(config: Any, dataloaders: Any) -> None:
        record_run(config, "saved data set", [_saved(config, f"for-{config['model']}-dataloader")])
        save_loaders(config, dataloaders)

    Dataset.save = save_data_set
    recbole.data.save_split_dataloaders = recbole.data.utils.save_split_dataloaders = save_split_dataloaders


def keep_generators_of_saved_loaders() -> None:
    """Keep the random number generators of data loaders that RecBole saves (no upstream issue).

    With ``save_dataloaders``, RecBole removes them for the pickle and trains on: the order of batches is that of no
    seed, and a resume state, which has the generators' states, cannot be written. Not needed once RecBole puts them
    back.
    """
    import recbole.data

    save_loaders = recbole.data.utils.save_split_dataloaders

    def save_split_dataloaders(config: Any, dataloaders: Any) -> None:
        generators = [(loader, loader.generator) for loader in dataloaders]
        save_loaders(config, dataloaders)
        for loader, generator in generators:
            loader.generator = loader.sampler.generator = generator

    recbole.data.save_split_dataloaders = recbole.data.utils.save_split_dataloaders = save_split_dataloaders


def _saved(config: Any, what: str) -> Path:
    return Path(config["checkpoint_dir"]) / f"{config['dataset']}-{what}.pth"


def log_filtered_interactions() -> None:
    """Log how many interactions RecBole drops because their item or user is not in its own file (no upstream issue).

    RecBole removes them from every split without a message. Skipped if ``filter_inter_by_user_or_item`` is off.

    Raises:
        DataError: in the patched method, if ``strict_data`` is set and an interaction is dropped.
    """
    from recbole.data.dataset import Dataset

    original = Dataset._filter_inter_by_user_or_item

    def _filter_inter_by_user_or_item(self: Any) -> None:
        before = len(self.inter_feat)
        original(self)
        if dropped := before - len(self.inter_feat):
            message = (
                f"{self.dataset_name}: {dropped} of {before} interactions dropped, because their item or user is not "
                "in the .item or .user file: filter_inter_by_user_or_item=False keeps them"
            )
            if self.config["strict_data"]:
                raise DataError(message)
            self.logger.warning(message)

    Dataset._filter_inter_by_user_or_item = _filter_inter_by_user_or_item


def sort_by_float64_timestamps() -> None:
    """Sort interactions by their timestamps in double precision (#2204, #1653).

    RecBole casts timestamps to float32 before it sorts. That rounds epoch seconds to multiples of 128 s, and epoch
    milliseconds to multiples of 131 s; interactions in between stay in the file's order. The patch sorts before the
    cast, which keeps the order, as does RecBole's own sort, which is stable. Interactions with equal timestamps stay in
    the file's order. Skipped for data that is not ordered by time or is split already.
    """
    from recbole.data.dataset import Dataset

    original = Dataset._change_feat_format

    def _change_feat_format(self: Any) -> None:
        is_ordered_by_time = self.config["eval_args"]["order"] == "TO" and self.time_field in self.inter_feat
        if is_ordered_by_time and self.benchmark_filename_list is None:
            self.inter_feat = self.inter_feat.sort_values(self.time_field, kind="stable", ignore_index=True)
        original(self)

    Dataset._change_feat_format = _change_feat_format
