"""Whether a results folder stands: checksums, contradictions, and a sample done again."""

from reproduce.verification.again import Sample
from reproduce.verification.finding import Finding, Verification
from reproduce.verification.verify import verify_folder

__all__ = ["Finding", "Sample", "Verification", "verify_folder"]
