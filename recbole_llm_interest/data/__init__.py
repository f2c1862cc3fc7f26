"""RecBole's data set and data loader, as this model needs them."""

from recbole_llm_interest.activation import activate

activate()
