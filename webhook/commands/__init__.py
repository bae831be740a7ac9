"""The commands for people: they need a kubeconfig, the rights of whoever runs them, and nothing of ours that runs."""
