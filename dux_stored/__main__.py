"""The process: `python -m dux_stored --config /etc/duxnet`."""

from dux_stored.daemon import StoreDaemon

if __name__ == "__main__":
    StoreDaemon.main()
