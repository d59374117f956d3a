"""What gets run: the `embedlake` command and one thin module per job. No logic: that is in `pipelines`."""
