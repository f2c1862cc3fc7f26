"""Live recommendations: load a trained model, update the state of a user with each event, and ask for the next items.

Example:
    >>> state = recommender.start("u1", history=["i1", "i2"])
    >>> state = recommender.update(state, "i3")
    >>> [item for item, score in recommender.recommend(state, k=1)]
    ['i4']
"""

from recbole_llm_interest.recommender.calibration import Calibration, Reliability
from recbole_llm_interest.recommender.explanation import Explanation, Part
from recbole_llm_interest.recommender.forecast import Forecast
from recbole_llm_interest.recommender.interests import Interest
from recbole_llm_interest.recommender.recommendations import Recommendation, Recommendations
from recbole_llm_interest.recommender.recommender import Recommender
from recbole_llm_interest.recommender.user_state import State, UserState, join

__all__ = [
    "Calibration",
    "Explanation",
    "Forecast",
    "Interest",
    "Part",
    "Recommendation",
    "Recommendations",
    "Recommender",
    "Reliability",
    "State",
    "UserState",
    "join",
]
