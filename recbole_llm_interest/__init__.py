"""LLMInterest: a content-aware sequential recommender for RecBole 1.2.1.

Importing this package is all it takes: RecBole then runs on today's numpy, torch and ray, and knows the model
``LLMInterest`` by name. ``activation`` says when that is done.
"""

from recbole_llm_interest.activation import watch_imports

watch_imports()

__version__ = "0.1.0"
__all__ = ["__version__"]
