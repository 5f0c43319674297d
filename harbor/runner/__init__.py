"""``harbor run``: keeps the instances of an app running and registered with a node. An API client; no part of one."""
