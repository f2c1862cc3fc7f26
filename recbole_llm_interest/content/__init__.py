"""From content (text, images, audio) to features, one row per item or user. Independent of RecBole."""
