"""LLMInterest: a content-aware sequential recommender for RecBole 1.2.1.

Importing this package is all it takes: RecBole then runs on today's numpy, torch and ray, and knows the model
``LLMInterest`` by name. ``activation`` says when that is done.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from recbole_llm_interest.activation import watch_imports

if TYPE_CHECKING:
    from recbole_llm_interest.conversion import from_pandas
    from recbole_llm_interest.recommender import Recommender
    from recbole_llm_interest.recommender.recommend_all import recommend_all
    from recbole_llm_interest.report.live_figures import plot_history, plot_interests
    from recbole_llm_interest.training.comparison import compare

watch_imports()

__version__ = "0.1.0"
__all__ = [
    "Recommender",
    "__version__",
    "compare",
    "from_pandas",
    "plot_history",
    "plot_interests",
    "recommend_all",
]

#: where the names are that this module gives; importing them takes seconds, importing this module does not
_MODULES = {
    "Recommender": "recommender",
    "compare": "training.comparison",
    "from_pandas": "conversion",
    "plot_history": "report.live_figures",
    "plot_interests": "report.live_figures",
    "recommend_all": "recommender.recommend_all",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
