"""A script that makes the node look to its dashboard as if a collector ran in it."""

from typing import Final

import orjson

COLLECTING: Final = {
    "uptime_seconds": 5400,
    "collector_metrics": {"messages_processed": 80_000, "messages_published": 79_990, "errors_count": 1},
    "exchanges": {
        "okx": {
            "state": "following",
            "sockets_active": 2,
            "messages_count": 9,
            "errors_count": 1,
            "gaps_open": 1,
            "books_followed": 4,
            "books_valid": 3,
            "levels_compared": 900,
            "levels_equal": 899,
            "lag_p50_ms": 40,
            "lag_p99_ms": None,
            "faults": [],
            "types": {"trade": {"feeds": 4, "processed": 9, "published": 9, "errors": 1, "gaps_open": 1}},
        }
    },
    "outbox": {"waiting": 3, "spilled_bytes": 5_000_000, "spill_used": 0.6, "fault": None},
    "faults": ["okx: a book is not proven"],
}
COLLECTOR: Final = f"""
window.answered = {orjson.dumps(COLLECTING).decode()};
const asked = window.fetch;
window.fetch = async (address, init) => {{
  if (String(address).endsWith('/api/v1/status')) return Response.json(window.answered);
  const answer = await asked(address, init);
  if (!String(address).endsWith('/v1/overview')) return answer;
  const overview = await answer.json();
  overview.health.collector = {{}};
  return Response.json(overview);
}};
"""
"""A node with a collector, as far as its page asks."""
