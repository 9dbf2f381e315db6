"""Stage 2, image cache -> index: find the existing rows, make the missing ones, publish all of them."""
