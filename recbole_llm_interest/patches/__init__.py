"""Mends for what RecBole 1.2.1 breaks on today: one small function per upstream fault.

Each says which upstream issue reports the fault and when the mend is not needed; RecBole itself is neither
copied nor edited. They apply to every model that runs in the process, so that a baseline runs under the same
rules as ours.
"""

from __future__ import annotations

from recbole_llm_interest.patches.data import (
    load_configured_columns,
    log_filtered_interactions,
    replace_atomic_file_reader,
    sort_by_float64_timestamps,
)
from recbole_llm_interest.patches.environment import (
    declare_torchvision_operators,
    ignore_recbole_deprecations,
    keep_anomaly_detection_off,
    patch_numpy_aliases,
    restore_dok_matrix_update,
    stub_ray,
)
from recbole_llm_interest.patches.security import (
    disallow_pickles_in_ldiffrec,
    refuse_downloads,
    refuse_unrequested_pickles,
    replace_eval_by_literals,
    replace_eval_in_kd_dagfm,
)
from recbole_llm_interest.patches.training import (
    disable_unused_negative_sampling,
    fix_count_metrics,
    fix_early_stopping_on_plateaus,
    fix_folder_creation_race,
    fix_pop_counts,
    save_weights_only_checkpoints,
    write_tensorboard_beside_log,
)


def install() -> None:
    """Apply every mend that this environment needs. Calling it again changes nothing."""
    if getattr(install, "done", False):
        return
    # The first three have to be in place before RecBole is imported.
    patch_numpy_aliases()
    stub_ray()
    declare_torchvision_operators()
    replace_eval_by_literals()
    replace_eval_in_kd_dagfm()
    refuse_unrequested_pickles()
    disallow_pickles_in_ldiffrec()
    refuse_downloads()
    load_configured_columns()
    replace_atomic_file_reader()
    log_filtered_interactions()
    disable_unused_negative_sampling()
    fix_pop_counts()
    sort_by_float64_timestamps()
    save_weights_only_checkpoints()
    write_tensorboard_beside_log()
    fix_early_stopping_on_plateaus()
    fix_folder_creation_race()
    fix_count_metrics()
    restore_dok_matrix_update()
    ignore_recbole_deprecations()
    keep_anomaly_detection_off()
    install.done = True  # type: ignore[attr-defined]
