"""The interfaces between what we know and what touches the world, one concern a file.

Each has two implementations: one that touches the world and one that a test or the simulation owns.
"""
