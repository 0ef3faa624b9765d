"""The paper's claims, tested on the results."""
