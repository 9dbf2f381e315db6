"""The painters of the sample: made-up cards that look like cards, and the demo's page."""
