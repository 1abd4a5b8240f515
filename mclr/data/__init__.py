"""Raw data to prepared Parquet with a manifest.

On disk, a split is a Parquet file of rows (index, label, image): ``image`` holds C·H·W bytes in
row-major order, 0–255. ``manifest.json`` beside it says what the bytes mean and hashes both
splits. A network sees what its family's ``encode`` makes of the bytes. Of the user's own images a
split is an index instead (``mclr.data.images``).
"""
