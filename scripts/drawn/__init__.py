"""The painters of the sample: invented cards that look like real ones, and the demo's page."""
