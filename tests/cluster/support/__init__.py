"""What the tests in the cluster are written with."""
