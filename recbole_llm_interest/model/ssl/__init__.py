"""Self-supervised objectives, and the augmented histories that they compare.

``objectives`` has their base and their registry. The modules that are imported here register them.
"""

from recbole_llm_interest.model.ssl import contrastive, predictive, shown

__all__ = ["contrastive", "predictive", "shown"]
