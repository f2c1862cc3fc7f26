"""Train RecBole models, ``LLMInterest`` among them, and compare them: see ``python run_recbole.py --help``."""

import sys

from llm_interest import run

if __name__ == "__main__":
    sys.exit(run("compare"))
