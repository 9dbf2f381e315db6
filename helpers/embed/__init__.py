"""Picture -> vector: the model, how pictures are prepared for it, in which precision it computes."""
