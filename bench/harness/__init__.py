"""The benchmark: the same work through Warmline and through its peers, in one run."""
