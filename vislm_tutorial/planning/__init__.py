"""Will a recipe fit a machine, and how long will it take? Answered on paper, before it is run."""

from .machines import MACHINES, Machine, find_machine
from .planner import Plan, StagePlan, plan

__all__ = ["MACHINES", "Machine", "Plan", "StagePlan", "find_machine", "plan"]
