"""From content (text, images, audio) to features, one row per item or user. Independent of RecBole."""

from recbole_llm_interest.activation import activate

activate()
