"""What a UPnP router says: its description, its actions, its answers."""

from __future__ import annotations


def description() -> str:
    service = (
        "<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>"
        "<serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId><controlURL>/ctl</controlURL>"
        "<eventSubURL>/evt</eventSubURL><SCPDURL>/scpd.xml</SCPDURL></service>"
    )
    inner = device("WANConnectionDevice:1", f"<serviceList>{service}</serviceList>")
    outer = device("WANDevice:1", f"<deviceList>{inner}</deviceList>")
    whole = device("InternetGatewayDevice:1", f"<deviceList>{outer}</deviceList>")
    head = '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">'
    return f"{head}<specVersion><major>1</major><minor>0</minor></specVersion>{whole}</root>"


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
ADD = (
    "NewRemoteHost NewExternalPort NewProtocol NewInternalPort NewInternalClient NewEnabled "
    "NewPortMappingDescription NewLeaseDuration"
)


def action(name: str, words: str, direction: str = "in") -> str:
    rows = "".join(
        f"<argument><name>{word}</name><direction>{direction}</direction>"
        f"<relatedStateVariable>A{word}</relatedStateVariable></argument>"
        for word in words.split()
    )
    return f"<action><name>{name}</name><argumentList>{rows}</argumentList></action>"


SCPD = (
    '<?xml version="1.0"?><scpd xmlns="urn:schemas-upnp-org:service-1-0"><specVersion><major>1</major>'
    "<minor>0</minor></specVersion><actionList>"
    + action("AddPortMapping", ADD)
    + action("DeletePortMapping", "NewRemoteHost NewExternalPort NewProtocol")
    + action("GetExternalIPAddress", "NewExternalIPAddress", "out")
    + "</actionList><serviceStateTable>"
    + "".join(
        f'<stateVariable sendEvents="no"><name>A{word}</name><dataType>{KINDS.get(word, "string")}</dataType>'
        "</stateVariable>"
        for word in (*ADD.split(), "NewExternalIPAddress")
    )
    + "</serviceStateTable></scpd>"
)
