"""Mends for what RecBole 1.2.1 breaks on today: one small function per upstream fault.

Each says which upstream issue reports the fault and when the mend is not needed; RecBole itself is neither
copied nor edited. They apply to every model that runs in the process, so that a baseline runs under the same
rules as ours.
"""

from __future__ import annotations

from recbole_llm_interest.patches.data import (
    load_the_columns_that_are_named,
    order_events_exactly,
    read_atomic_files_as_they_stand,
    say_which_events_are_left_out,
)
from recbole_llm_interest.patches.environment import (
    hide_deprecations_in_recbole,
    keep_anomaly_detection_off,
    let_graph_models_fill_matrices,
    let_torchvision_import,
    restore_numpy_names,
    stand_in_for_ray,
)
from recbole_llm_interest.patches.security import (
    download_no_data_sets,
    name_teachers_without_eval,
    read_item_embeddings_as_numbers,
    read_strings_as_literals,
    unpickle_nothing_unasked,
)
from recbole_llm_interest.patches.training import (
    collect_counts_as_they_are,
    count_every_choice_in_pop,
    keep_tensorboard_beside_the_log,
    let_several_runs_start_at_once,
    skip_unused_negative_sampling,
    stop_on_a_plateau,
    write_loadable_checkpoints,
)


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
