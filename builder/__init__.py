"""What runs on the maker's machine: from a model reference to an artifact."""
