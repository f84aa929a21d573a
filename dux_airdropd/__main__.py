"""The process: `python -m dux_airdropd --config /etc/duxnet`."""

from dux_airdropd.daemon import AirdropDaemon

if __name__ == "__main__":
    AirdropDaemon.main()
