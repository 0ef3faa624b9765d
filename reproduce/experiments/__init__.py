"""What tables and figures need: cells, settings, costs, and where their files lie."""
