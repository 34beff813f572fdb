"""Which row stands at which position: plans, their order, their weights, their ranks."""

from tql.planner.plan import Plan, make_plan, sample
from tql.planner.plan_file import PlanFile, load
from tql.planner.stream import IndexStream, StreamBatch

__all__ = ["IndexStream", "Plan", "PlanFile", "StreamBatch", "load", "make_plan", "sample"]
