"""Round the process that decodes: what it may not do, and what its parent believes of it.

``kernel`` asks Linux to take rights away from the child, each where the kernel has a way that
needs no root; ``syscalls`` is the list of system calls among them. ``shared`` is the memory that
parent and child have in common, ``answers`` checks every message of the child as any input.
"""
