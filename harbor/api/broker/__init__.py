"""The Open Service Broker API 2.17: the way in for Cloud Foundry, Kubernetes and whatever else speaks it."""
