"""Pure decisions: names, ports, the registry of backends, who may be one.

Nothing here opens a socket, reads a clock or logs. Callers pass ``now`` in monotonic seconds and carry
out what a decision returns.
"""
