"""Closing gaps: the plan, the reconciler that carries it out, and the proof that the exchange has nothing."""
