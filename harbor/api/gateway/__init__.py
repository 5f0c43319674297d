"""The Cloud Foundry v1 service gateway, ``/gateway/v1``: how a cloud controller of that time asks for ports.

Its words are not ours. A *configuration* is a service that the cloud controller had made; a *handle* is one of its
bindings; the *service id* in a reply is the id of whichever of the two the reply is about.
"""
