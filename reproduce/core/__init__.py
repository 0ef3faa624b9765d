"""What every folder uses: errors, files, random numbers, progress, provenance."""
