"""The models that a comparison can name: RecBole's, and those that this package adds."""

from __future__ import annotations

import difflib
import functools
import re

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.settings.baselines import BASELINE_SETTINGS
from recbole_llm_interest.settings.peers import PEERS
from recbole_llm_interest.settings.recbole_sources import recbole_folder

#: names of the models that this package adds to RecBole's
MODELS = ("LLMInterest", *BASELINE_SETTINGS, *PEERS)


def check_model(model: str) -> None:
    """Check that a model can be trained.

    Raises:
        SettingsError: the name is unknown. The message suggests the nearest known name.
    """
    known = {*MODELS, *_recbole_models()}
    if model not in known:
        by_lower_case = {name.lower(): name for name in known}
        nearest = difflib.get_close_matches(model.lower(), by_lower_case, n=1, cutoff=0.5)
        hint = f": did you mean {by_lower_case[nearest[0]]!r}?" if nearest else "; RecBole's documentation lists them"
        raise SettingsError(f"unknown model {model!r}{hint}")


@functools.cache
def _recbole_models() -> frozenset[str]:
    models: set[str] = set()
    for path in (recbole_folder() / "model").glob("*_recommender/*.py"):
        classes = re.findall(r"^class (\w+)\(", path.read_text("utf-8"), re.MULTILINE)
        models.update(name for name in classes if name.lower() == path.stem)  # how RecBole finds a model's file
    return frozenset(models)
