"""``python -m recbole_llm_interest``: the command line of ``run_recbole.py``, for an installed package."""

import sys

from llm_interest import run

if __name__ == "__main__":
    sys.exit(run("compare"))
