"""The event loop that the cloud runs on: uvloop's, or asyncio's own where there is none."""

import asyncio
import sys

if sys.platform == "win32":  # which uvloop does not know

    def new_event_loop() -> asyncio.AbstractEventLoop:
        """A loop that nothing runs on yet."""
        return asyncio.new_event_loop()

else:
    import uvloop

    def new_event_loop() -> asyncio.AbstractEventLoop:
        """A loop that nothing runs on yet."""
        return uvloop.new_event_loop()
