"""Live interest: load a trained model, tell it of events as they come, and ask what comes next, and why."""

from recbole_llm_interest.recommender.calibration import Calibration, Reliability
from recbole_llm_interest.recommender.explanation import Explanation, Part
from recbole_llm_interest.recommender.interests import Interest
from recbole_llm_interest.recommender.recommender import Forecast, Recommendation, Recommender
from recbole_llm_interest.recommender.user_state import State, join

__all__ = [
    "Calibration",
    "Explanation",
    "Forecast",
    "Interest",
    "Part",
    "Recommendation",
    "Recommender",
    "Reliability",
    "State",
    "join",
]
