"""`python -m dux_taskd --config DIR`."""

from dux_taskd.daemon import TaskDaemon

TaskDaemon.main()
