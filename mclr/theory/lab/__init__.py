"""What the topics of the theory share: how they run, exact worlds, optimisers, drawing."""
