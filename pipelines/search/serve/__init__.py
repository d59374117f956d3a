"""A page and a JSON interface for people and programs that search a lake over HTTP."""
