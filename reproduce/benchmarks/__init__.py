"""How fast this machine is: peaks, our steps beside reference formulations, attacks, hours.

A module a measurement; `run` puts them together.  `measured`, `result`, `settings` and `budget`
come without torch.
"""
