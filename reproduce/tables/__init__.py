"""Tables, and their comparison with the paper."""
