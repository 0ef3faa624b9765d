"""Lemma 4.2, an upper bound on the input gradient, examined on the networks it is about."""
