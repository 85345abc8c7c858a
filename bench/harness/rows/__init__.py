"""The rows of the benchmark: each module does one kind of work and returns figures as dictionaries."""
