"""The ports by which Balance meets models, data and the world outside: abstract classes, and nothing else.

Whoever writes a program against Balance writes it against these; what stands behind each is in
`balance.adapters.model`, `balance.adapters.data` and `balance.adapters.external`, and may be the reader's own.
"""
