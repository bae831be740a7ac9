"""Everything that faces Kubernetes: admission, the controller and their command line."""
