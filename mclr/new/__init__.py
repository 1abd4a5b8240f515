"""A configuration for a user's own images: look at them, choose what the machine can do, write it.

``survey`` reads every image once; ``base`` recognises weights that the user has; ``machine`` times
networks here; ``propose`` takes the largest of a few experiments that is done in time, reckoned
with ``mclr.cost``; ``write`` makes the file, each value with its reason.
"""
