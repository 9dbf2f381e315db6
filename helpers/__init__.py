"""What the scripts share. Arrows go one way: scripts import helpers, never back."""
