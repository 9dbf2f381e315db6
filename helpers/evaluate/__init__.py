"""How good is an index? What `evaluate_index.py` measures of it, and how that is shown."""
