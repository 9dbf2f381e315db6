"""Talking to servers: throttling, what their answers mean, resumable downloads."""
