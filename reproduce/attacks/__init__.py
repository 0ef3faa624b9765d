"""Attacks within an l_inf ball around images in [0, 1]."""
