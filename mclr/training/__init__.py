"""Training that may die at any moment: one loop for every network, resumed to the same bits."""
