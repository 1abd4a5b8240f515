"""The paper's statements, one topic at a time: each module's ``run`` checks its own."""
