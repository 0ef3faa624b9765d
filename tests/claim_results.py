"""What tests of claims share: verdicts by name."""

from reproduce.claims import Claim, judge_claims
from reproduce.config import Config
from reproduce.experiments import Evaluation

Numbers = tuple[float, float, float]


def claims_of(config: Config) -> dict[str, Claim]:
    return {claim.name: claim for claim in judge_claims(config)}


def claim_of(config: Config, name: str) -> Claim:
    return claims_of(config)[name]


def width_of(item: Evaluation) -> int:
    return int(item.cell.architecture.rpartition("-")[2])
