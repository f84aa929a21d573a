"""The process: `python -m dux_escrowd --config FOLDER`."""

from dux_escrowd.daemon import EscrowDaemon

if __name__ == "__main__":
    EscrowDaemon.main()
