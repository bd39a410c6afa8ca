"""A whole node: what runs in it, and how it is opened."""
