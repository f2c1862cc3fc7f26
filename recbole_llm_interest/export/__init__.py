"""Export of a trained model's programs, which run without this package, in the formats of ``EXPORT_TARGETS``."""
