"""Train and compare RecBole models, ``LLMInterest`` among them: see ``python run_recbole.py --help``."""

import sys

from recbole_llm_interest.cli.compare import main

if __name__ == "__main__":
    sys.exit(main())
