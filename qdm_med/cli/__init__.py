"""The command line: signatures are the documentation, bodies are one call."""
