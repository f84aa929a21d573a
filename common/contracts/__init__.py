"""What daemons say to each other: one file per daemon, each a list of `Method` values with their types and errors.

A contract file is the only thing that two daemons share.
"""
