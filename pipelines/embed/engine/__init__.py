"""Units through Ray: encoders where the accelerators are, reading and writing where they are not."""
