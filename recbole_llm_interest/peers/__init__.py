"""Models of other libraries as rows of a comparison: trained by their library, in an environment of its own."""

from recbole_llm_interest.activation import activate

activate()
