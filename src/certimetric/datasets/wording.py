"""The phrases of messages, under the name that this room knows them by."""

from __future__ import annotations

from certimetric.base.wording import closest, counted, did_you_mean, first_line, listing

__all__ = ["closest", "counted", "did_you_mean", "first_line", "listing"]
