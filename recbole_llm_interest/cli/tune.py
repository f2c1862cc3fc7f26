"""``llm-interest tune``: searches a model's hyperparameters on the validation split.

The result is a variant for ``llm-interest compare --rows=FILE``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from recbole_llm_interest.cli.arguments import file_option, parse_arguments
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.early_checks import check_search, search_space
from recbole_llm_interest.cli.parsers import tune_parser
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.config_files import models_and_dataset
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.files import exclusive_lock
from recbole_llm_interest.training.search import tune
from recbole_llm_interest.training.trials import OTHER_OUTPUT_HINT, trials_path


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = tune_parser()

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        check_search(options, overrides)
        given = [options.model] if options.model else []
        (model, *others), dataset = models_and_dataset(given, options.dataset, options.config_files, overrides)
        if others:
            raise SettingsError(f"model={','.join([model, *others])}: a search is for one model: give one by --model")
        named = f"tuned/{model}-{dataset}.yaml" if options.output is None else options.output
        output = file_option("output", named)
        with exclusive_lock(output, OTHER_OUTPUT_HINT):
            variant = tune(
                model,
                dataset,
                options.config_files,
                overrides,
                space=Path(options.space or search_space(model)),
                output=output,
                algorithm=options.algorithm,
                trials=options.trials,
                ray=options.ray,
            )
        if options.json:
            show_json({**asdict(variant), "row": output, "trials": trials_path(output)})
            return
        show(f"{one_line(variant.note)}\nrow: {one_line(output)} | trials: {one_line(trials_path(output))}")

    return exit_code(job, kept="finished trials are kept: the same command goes on with the others")


if __name__ == "__main__":
    sys.exit(main())
