"""What collects data for a request, from the kind of source that it names; one file each.

`Collectors` is the way in: it finds the `Source` of a request's `DataSource`, and counts what came of it.  Whatever
goes over the web goes through one `WebClient`: limits, politeness to hosts, and the cache are there and nowhere else.
"""
