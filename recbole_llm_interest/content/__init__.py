"""From the files of a data set to features of its content, one row per item or user. Independent of RecBole."""
