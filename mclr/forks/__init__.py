"""Commands of a run as forks of one process that has imported their libraries; how they end."""
