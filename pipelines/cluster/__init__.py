"""The Ray that stages run on: what is set of it, what nodes it has, and a session of it."""
