"""The process: `python -m dux_registryd --config /etc/duxnet`."""

from dux_registryd.daemon import RegistryDaemon

if __name__ == "__main__":
    RegistryDaemon.main()
