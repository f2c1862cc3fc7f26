"""LLMInterest: a content-aware sequential recommender for RecBole 1.2.1.

Importing this package is all it takes: RecBole then runs on today's numpy, torch and ray, and knows the model
``LLMInterest`` by name. The import is eager on purpose: RecBole falls back silently to its base dataset and
trainer for a model whose own ones it cannot find.
"""

from recbole_llm_interest import patches

patches.install()

from recbole_llm_interest import registration  # noqa: E402  (RecBole must be patched before it is imported)

registration.register()

__version__ = "0.1.0"
__all__ = ["__version__"]
