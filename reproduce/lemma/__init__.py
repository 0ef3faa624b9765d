"""Lemma 4.2 on random networks."""
