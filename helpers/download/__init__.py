"""Stage 1, card list -> image cache; and whether a cache is whole."""
