"""`python -m dux_flopd --config DIR`."""

from dux_flopd.daemon import FlopDaemon

if __name__ == "__main__":
    FlopDaemon.main()
