"""`python -m dux_p2pd --config FOLDER`."""

from dux_p2pd.daemon import P2pDaemon

P2pDaemon.main()
