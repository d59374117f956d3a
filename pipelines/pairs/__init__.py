"""From tables to weak pairs: a text and one that it should find."""
