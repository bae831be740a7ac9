"""What each `ledgergate migrate` command does, once its flags are read; every one gives its exit code."""
