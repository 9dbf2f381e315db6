"""Picture -> vector: the model, its preprocessing, its precision."""
