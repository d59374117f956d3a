"""What is left to embed, cut into units of about equal tokens; read from the tables alone."""
