"""Passes over epochs, one after another: what a loader or a sampler gives next."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pass:
    """What an `iter()` gives: an epoch from a position on; `begun` if one has given it before.

    An offset is the start of the first pass, so it moves to another epoch only until it is begun.
    """

    epoch: int
    start: int
    begun: bool = False

    def at_epoch(self, epoch: int) -> "Pass":
        """The same of another epoch, from its start unless nothing was given yet."""
        return Pass(epoch, 0 if self.begun else self.start, self.begun)

    def after(self, pinned: bool) -> "Pass":
        """What comes next: the epoch that follows, or the same one where it is pinned."""
        return Pass(self.epoch if pinned else self.epoch + 1, 0, begun=True)
