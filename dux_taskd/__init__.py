"""Task daemon: runs other people's work in sandboxes, and has one's own work run, paid, checked and judged.

It guards the machine: nothing that came from outside runs but in a sandbox whose limits this daemon has seen to hold.
It holds no key, signs only through p2pd, pays only through escrowd, and never falls back to a bare subprocess.
"""
