"""The ledger of documents: what a run changes in it, and the tables that follow it."""
