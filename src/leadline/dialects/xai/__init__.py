"""xAI's gRPC API, as its SDK speaks it. The protos are in `protos/`, a service's methods in a table of its module."""
