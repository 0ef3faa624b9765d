"""Results that leave or enter: export, publish, import, verify."""
