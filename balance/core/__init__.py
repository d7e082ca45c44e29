"""Who runs, where and with what: analyzers, the scheduler and the coordinators."""
