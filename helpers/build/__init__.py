"""Stage 2, image cache -> index: which rows are there already, who makes the others, how they are published."""
