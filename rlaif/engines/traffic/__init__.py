"""How a call survives a busy server: transport, outcomes, limits, lanes, retries."""
