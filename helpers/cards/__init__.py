"""Scryfall's cards: the list, the faces it names, their pictures in the cache."""
