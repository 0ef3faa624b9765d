"""Attacks on images: PGD and FGSM of ours, FAB, Square and AutoAttack of a package."""
