"""Stage 1, card list -> image cache; and the check of a cache."""
