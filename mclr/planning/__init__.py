"""A tier expanded: which runs, which points and files, and what each job needs to know."""
