"""Patches of RecBole 1.2.1: one function for each upstream fault.

Each docstring describes the fault with its upstream issue, what the patch does, and when it is not needed. RecBole is
neither copied nor edited. Patches apply to every model of the process, so baselines run under the same conditions as
LLMInterest.
"""

from __future__ import annotations

from recbole_llm_interest.patches import checkpoints, data, environment, security, training

#: in the order in which they are applied; the first three must run before RecBole is imported
PATCHES = (
    environment.patch_numpy_aliases,
    environment.stub_ray,
    environment.declare_torchvision_operators,
    security.replace_eval_by_literals,
    security.replace_eval_in_kd_dagfm,
    security.refuse_unrequested_pickles,
    security.disallow_pickles_in_ldiffrec,
    security.refuse_downloads,
    data.load_configured_columns,
    data.number_listed_items_as_items,
    data.replace_atomic_file_reader,
    data.log_filtered_interactions,
    data.record_saved_data_sets,
    data.keep_generators_of_saved_loaders,
    training.disable_unused_negative_sampling,
    training.fix_pop_counts,
    data.sort_by_float64_timestamps,
    checkpoints.save_checkpoints_without_pickles,
    training.write_tensorboard_beside_log,
    training.fix_early_stopping_on_plateaus,
    training.fix_folder_creation_race,
    training.fix_count_metrics,
    environment.restore_dok_matrix_update,
    environment.ignore_recbole_deprecations,
    environment.keep_anomaly_detection_off,
    checkpoints.read_checkpoints_without_pickles,  # imports sequential models
)


def install() -> None:
    """Apply every patch that this environment needs. Further calls have no effect."""
    if getattr(install, "done", False):
        return
    for patch in PATCHES:
        patch()
    install.done = True  # type: ignore[attr-defined]
