"""The commands: one module a subcommand of ``llm-interest``."""
