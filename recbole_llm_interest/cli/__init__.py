"""The command line: one module for each subcommand of ``llm-interest``, which parses, calls and prints."""
