"""What every room uses: errors, files, random numbers, progress, provenance."""
