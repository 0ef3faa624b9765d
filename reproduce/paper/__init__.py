"""What the paper says: its numbers and its protocol."""
