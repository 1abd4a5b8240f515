"""A user's own images: an index of them is prepared, and jobs decode them when they read them.

An index is a Parquet file with a row per image: index (position in the sorted source), label, name,
bytes and sha256 of the file, and where an archive holds it: offset and, if deflated, packed bytes.
No pixel is stored, so that a large data set is neither copied nor held in memory.
"""
