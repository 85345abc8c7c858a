"""The support of the tests in the cluster."""
