"""A scripted person, so that the whole loop can be shown without one."""
