"""What a UPnP router says: its description, its actions, its answers."""

from __future__ import annotations

PAGES = {"WANIPConnection": "scpd.xml", "WANIPv6FirewallControl": "scpd6.xml"}


def description() -> str:
    services = service("WANIPConnection", "WANIPConn1") + service("WANIPv6FirewallControl", "WANIPv6Firewall1")
    inner = device("WANConnectionDevice:1", f"<serviceList>{services}</serviceList>")
    outer = device("WANDevice:1", f"<deviceList>{inner}</deviceList>")
    whole = device("InternetGatewayDevice:1", f"<deviceList>{outer}</deviceList>")
    head = '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">'
    return f"{head}<specVersion><major>1</major><minor>0</minor></specVersion>{whole}</root>"


def service(kind: str, name: str) -> str:
    return (
        f"<service><serviceType>urn:schemas-upnp-org:service:{kind}:1</serviceType>"
        f"<serviceId>urn:upnp-org:serviceId:{name}</serviceId><controlURL>/ctl</controlURL>"
        f"<eventSubURL>/evt</eventSubURL><SCPDURL>/{PAGES[kind]}</SCPDURL></service>"
    )


def device(kind: str, rest: str) -> str:
    name = f"<deviceType>urn:schemas-upnp-org:device:{kind}</deviceType><friendlyName>fake</friendlyName>"
    return f"<device>{name}<manufacturer>x</manufacturer><modelName>x</modelName><UDN>uuid:{kind}</UDN>{rest}</device>"


def soap(inner: str) -> str:
    space = "http://schemas.xmlsoap.org/soap/"
    head = f'<?xml version="1.0"?><s:Envelope xmlns:s="{space}envelope/" s:encodingStyle="{space}encoding/">'
    return f"{head}<s:Body>{inner}</s:Body></s:Envelope>"


FAULT = (
    "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
    '<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>718</errorCode>'
    "<errorDescription>ConflictInMappingEntry</errorDescription></UPnPError></detail></s:Fault>"
)
KINDS = {"NewExternalPort": "ui2", "NewInternalPort": "ui2", "NewEnabled": "boolean", "NewLeaseDuration": "ui4"}
KINDS |= {"RemotePort": "ui2", "InternalPort": "ui2", "Protocol": "ui2", "LeaseTime": "ui4", "UniqueID": "ui2"}
ADD = (
    "NewRemoteHost NewExternalPort NewProtocol NewInternalPort NewInternalClient NewEnabled "
    "NewPortMappingDescription NewLeaseDuration"
)


def action(name: str, words: str, direction: str = "in", out: str = "") -> str:
    rows = "".join(
        f"<argument><name>{word}</name><direction>{way}</direction>"
        f"<relatedStateVariable>A{word}</relatedStateVariable></argument>"
        for way, some in ((direction, words), ("out", out))
        for word in some.split()
    )
    return f"<action><name>{name}</name><argumentList>{rows}</argumentList></action>"


HOLE = "RemoteHost RemotePort InternalClient InternalPort Protocol LeaseTime"


def scpd(actions: str, words: tuple[str, ...]) -> str:
    return (
        '<?xml version="1.0"?><scpd xmlns="urn:schemas-upnp-org:service-1-0"><specVersion><major>1</major>'
        f"<minor>0</minor></specVersion><actionList>{actions}</actionList><serviceStateTable>"
        + "".join(
            f'<stateVariable sendEvents="no"><name>A{word}</name><dataType>{KINDS.get(word, "string")}</dataType>'
            "</stateVariable>"
            for word in words
        )
        + "</serviceStateTable></scpd>"
    )


SCPD = scpd(
    action("AddPortMapping", ADD)
    + action("DeletePortMapping", "NewRemoteHost NewExternalPort NewProtocol")
    + action("GetExternalIPAddress", "NewExternalIPAddress", "out"),
    (*ADD.split(), "NewExternalIPAddress"),
)
SCPD_V6 = scpd(
    action("AddPinhole", HOLE, out="UniqueID") + action("DeletePinhole", "UniqueID"), (*HOLE.split(), "UniqueID")
)
