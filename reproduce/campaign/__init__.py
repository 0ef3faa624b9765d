"""How far the runs of experiments are, read from their files alone.  No torch needed."""

from reproduce.campaign.attacks import AttackStatus, AttackWork
from reproduce.campaign.runs import RunStatus, RunWork, read_status, run_work
from reproduce.campaign.survey import Campaign, Pace, Survey, find_campaign, survey

__all__ = [
    "AttackStatus",
    "AttackWork",
    "Campaign",
    "Pace",
    "RunStatus",
    "RunWork",
    "Survey",
    "find_campaign",
    "read_status",
    "run_work",
    "survey",
]
