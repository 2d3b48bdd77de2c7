"""Servers that speak the OpenAI API: the engine, its options, the wire, prices."""
