"""Real services on the loopback interface, for tests and for a first try of the s3 profile."""
