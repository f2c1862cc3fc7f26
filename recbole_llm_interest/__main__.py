"""``python -m recbole_llm_interest``: the command line of ``run_recbole.py``, for an installed package."""

import sys

from recbole_llm_interest.cli.compare import main

if __name__ == "__main__":
    sys.exit(main())
