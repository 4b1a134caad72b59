"""How a service is asked: blocking and asyncio transports, their limits and retries, and the drivers of the tail."""
