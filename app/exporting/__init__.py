"""Exports: which rows go to which file, what is proven of them, and how an export is resumed and checked."""
