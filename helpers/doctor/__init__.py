"""What this machine has, and what to do about what it lacks: each check is a function that returns what it found."""
