"""The interfaces between app/ and infra/, one concern in each file.

Each has two implementations: the real one in infra/, and one for tests and the simulation.
"""
