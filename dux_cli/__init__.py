"""What a person types: the `duxnet` command.

Guards nothing; every command is a call to a node's daemons on this machine, or starts and ends them.
Never holds a key for longer than it takes to write it into a new node's directory, and never speaks to the network.
"""
