"""Test NDCG@10 of LLMInterest on ml-100k over several seeds, beside a baseline under the same protocol.

ml-100k is a demonstration, not an evaluation: with 943 test users the standard error of a run's Recall@10 is about
.01, so differences of that size mean nothing here.

    python benchmarks/accuracy.py --seeds=3
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from recbole_llm_interest.runner import run

METRIC = "ndcg@10"


def main() -> None:
    """Train both sides once a seed and print the figure, in words and then as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baseline", default="FPMC")
    parser.add_argument("--seeds", type=int, default=3, help="how many; they are 1, 2, 3, …")
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole reads the command line too

    values: dict[str, list[float]] = {"LLMInterest": [], options.baseline: []}
    for seed in range(1, options.seeds + 1):
        for result in run(list(values), "ml-100k", config_dict={"seed": seed}):
            values[result.model].append(result.test[METRIC])
    ours, theirs = (statistics.mean(side) for side in values.values())
    spread = {model: [min(side), max(side)] for model, side in values.items()}
    print(f"test {METRIC} over {options.seeds} seeds: LLMInterest {ours:.4f}, {options.baseline} {theirs:.4f}")
    print(
        json.dumps(
            {
                "figure": f"test {METRIC}, ml-100k, LLMInterest / {options.baseline}",
                "our_value": round(ours, 4),
                "baseline_value": round(theirs, 4),
                "ratio": round(ours / theirs, 2),
                "repeats": options.seeds,
                "spread": spread,
                "values": values,
            }
        )
    )


if __name__ == "__main__":
    main()
