"""What is done to one unit: read, encode, write; no Ray here."""
