"""Replay: a past time that runs at a chosen speed, what was visible at it, and the frames of its closes."""
