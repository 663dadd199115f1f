"""Tell who listens, once it is durable."""

from __future__ import annotations

from ..context import Context
from ..events import start_delivery

__all__ = ["announce"]


async def announce(ctx: Context) -> None:
    if ctx.events:
        events, ctx.events = ctx.events, []
        ctx.deliveries.append(start_delivery(ctx.scope.get("app"), events))
