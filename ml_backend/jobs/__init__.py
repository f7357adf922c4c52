"""The only room with Redis: queues, the worker, the schedule."""
