"""Patches for how RecBole reads, filters and orders data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import AtomicFormat, read_atomic_file, read_header


def load_configured_columns() -> None:
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


def replace_atomic_file_reader() -> None:
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
        path, layout = Path(filepath), AtomicFormat.from_config(self.config)
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
        frame = read_atomic_file(
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


def log_filtered_interactions() -> None:
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


def sort_by_float64_timestamps() -> None:
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
