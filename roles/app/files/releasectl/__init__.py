"""Change which release of an app runs on this host, one atomic or repeatable step at a time.

The truth is what the disk and systemd say when asked, never what an earlier step remembers:
the program may be killed at any instruction and run again.
"""
