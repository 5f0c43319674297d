"""The node's configuration: harbor.yml, checked, as frozen values.

``load`` finds and reads the file, ``parse`` checks a text, ``check`` says what is allowed but likely to hurt.
"""

from harbor.config.checks import check
from harbor.config.loading import find, load, parse
from harbor.config.settings import Api, Backends, Broker, Config, Defaults, Gateway, ListenOn, Log, Node, Ports, Quota

__all__ = [
    "Api",
    "Backends",
    "Broker",
    "Config",
    "Defaults",
    "Gateway",
    "ListenOn",
    "Log",
    "Node",
    "Ports",
    "Quota",
    "check",
    "find",
    "load",
    "parse",
]
