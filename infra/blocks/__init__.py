"""Sealed blocks: old rows of a series in the form in which REST prints them, compressed."""
