"""``llm-interest adapt``: trains an adapter inside an encoder, on a data set's own content and training events."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from recbole_llm_interest.adaptation.job import Adapted, adapt
from recbole_llm_interest.cli.arguments import file_option, parse_arguments
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.early_checks import check_adaptation
from recbole_llm_interest.cli.parsers import adapt_parser
from recbole_llm_interest.io.config_files import models_and_dataset
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.files import exclusive_lock, shared_data_set_lock
from recbole_llm_interest.training.config import as_user_error, configure


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = adapt_parser()

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        check_adaptation(options, overrides)
        _, dataset = models_and_dataset(["LLMInterest"], options.dataset, options.config_files, overrides)
        named = f"adapted/{dataset}-{options.modality}.safetensors" if options.output is None else options.output
        output = file_option("output", named)
        with as_user_error("the settings"):
            config = configure("LLMInterest", dataset, options.config_files, overrides)
        with exclusive_lock(output, "give another --output"), shared_data_set_lock(Path(config["data_path"])):
            adapted = adapt(config, options.modality, output)
        if options.json:
            show_json({"adapter": adapted.adapter, "report": adapted.report, **asdict(adapted.result)})
            return
        _show(adapted, options.modality)

    return exit_code(job, kept="training goes on from the last validation: run the same command")


def _show(adapted: Adapted, modality: str) -> None:
    result = adapted.result
    change = f"{result.best / result.frozen - 1:+.1%}" if result.frozen else "from nothing"
    show(
        f"validation NDCG@10 by the features alone: {result.frozen:.4f} frozen, {result.best:.4f} adapted ({change}); "
        f"{result.parameters:,} parameters ({result.share:.2%} of the encoder's), {result.seconds:.0f} seconds, "
        f"{result.state_bytes / 2**20:.0f} MiB of remembered states"
    )
    if result.best <= result.frozen:
        show("the adapter is no gain by this measure: other settings may serve, or more events")
    adapter = one_line(adapted.adapter)
    show(f"adapter: {adapter} | figures: {one_line(adapted.report)}\nuse it: --{modality}_adapter={adapter}")


if __name__ == "__main__":
    sys.exit(main())
