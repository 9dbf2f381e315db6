"""Tuning a model to cards: pictures and a base model in, a model folder out."""
