"""Which row stands at which position: plans, their order, their weights, their ranks."""

from tql.planner.by_fragment import fragment_weights
from tql.planner.changing import changed
from tql.planner.line import DrawLine
from tql.planner.making import make_plan, sample
from tql.planner.plan import Plan
from tql.planner.plan_file import PlanFile, load
from tql.planner.samplers import BatchSampler, Sampler
from tql.planner.source import PlannedSource
from tql.planner.stream import IndexStream, StreamBatch, check_state
from tql.planner.windows import Windows

__all__ = [
    "BatchSampler",
    "DrawLine",
    "IndexStream",
    "Plan",
    "PlanFile",
    "PlannedSource",
    "Sampler",
    "StreamBatch",
    "Windows",
    "changed",
    "check_state",
    "fragment_weights",
    "load",
    "make_plan",
    "sample",
]
