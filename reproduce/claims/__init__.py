"""The paper's claims, tested on the results: a verdict each, with the effects behind it."""

from reproduce.claims.evidence import Claim, Effect
from reproduce.claims.judge import context, judge_claims, write_claims

__all__ = ["Claim", "Effect", "context", "judge_claims", "write_claims"]
