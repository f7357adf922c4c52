"""The only room that knows Label Studio's API."""
