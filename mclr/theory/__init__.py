"""Theory lab: each statement of the paper beside a computation that would expose it if false."""
