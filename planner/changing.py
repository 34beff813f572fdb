"""Making plans that go on with other weights, checked and named like any other."""

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from tql.diagnostics import TqlError, counted, error
from tql.planner import digest
from tql.planner.arguments import count, whole
from tql.planner.changes import Change
from tql.planner.plan import Plan
from tql.planner.stages import Made


def changed(first: Plan, changes: Sequence[tuple[int, int, Plan]]) -> Plan:
    """`first` up to a position of an epoch, from there on the next plan, and so on.

    changes  (epoch, position, plan), ascending; each plan gives the rows that stand at the same
             positions in it, so all have as many, and cut them alike into lanes and batches by quota
    """
    parts = [Change(0, 0, first)]
    told = []
    for epoch, position, plan in changes:
        epoch, position = count("epoch", epoch), whole("position", position)
        _check(first, parts[-1], epoch, position, plan)
        parts.append(Change(epoch, position, plan))
        told.append(
            {
                "epoch": epoch,
                "position": position,
                "origin": dict(plan.origin),
                "weights": plan.parts["weights"],
                "plan": plan.fingerprint,
            }
        )
    named = {**first.parts, "changes": told}
    notes = dict.fromkeys((*first.notes, *(n for _, _, plan in changes for n in plan.notes)))
    return replace(
        first,
        changes=tuple(parts),
        notes=tuple(notes),
        parts=MappingProxyType(named),
        fingerprint=digest.of_json(named),
        _made=Made(),
    )


def _check(first: Plan, before: Change, epoch: int, position: int, plan: Plan) -> None:
    if not 0 <= position <= len(first):
        raise error("range", f"a change at position {position} of an epoch of {len(first)} samples",
                    help=f"positions run from 0 to {len(first)}")  # fmt: skip
    if (epoch, position) <= (before.epoch, before.position) != (0, 0):
        raise _no_order(before, epoch, position)
    if first.changes or plan.changes:
        raise error("value", "a plan that changes its weights is no part of another",
                    help="give all changes at once")  # fmt: skip
    if len(plan) != len(first):
        raise error("value", f"the plan with other weights has {counted(len(plan), 'draw')} in an epoch, "
                    f"the one before {len(first):,}",
                    help="a change keeps the length: give a size that both can draw")  # fmt: skip
    if (plan.lanes, plan.block) != (first.lanes, first.block):
        raise error("value", "the plan with other weights has other lanes or batches",
                    help="change the weights alone")  # fmt: skip
    if first.block and position % first.block and position != len(first):
        raise error("value", f"a change at position {position}, within a batch of {first.block}: "
                    "mix='batch' counts whole ones",
                    help=f"change at a multiple of {first.block}")  # fmt: skip


def _no_order(before: Change, epoch: int, position: int) -> TqlError:
    return error("value", f"a change at epoch {epoch}, position {position}, which is not behind the one at "
                 f"epoch {before.epoch}, position {before.position}",
                 help="declare changes in the order in which they come")  # fmt: skip
