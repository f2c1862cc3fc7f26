"""From content (text, later images and sound) to one feature row per item or user. Nothing in here knows RecBole."""
