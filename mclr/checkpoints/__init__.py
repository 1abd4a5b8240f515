"""Files of other people's code, read without running any of it."""
