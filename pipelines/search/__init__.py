"""Search over the vectors of a lake: exactly, or by a funnel, at any dimension, now or as of a release."""
