"""Requests in batches: merged where they ask for the same, split where they are too many, answered one by one."""
