"""From records and runs to tidy frames, and the statistics on them."""
