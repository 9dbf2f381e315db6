"""Which card is in this picture?"""
