"""Views of the metrics: Table 1, figures, sample grids and the report page."""
