"""vLLM: in this process, or a server that is started here."""
