"""Pictures and captions, encoded once, then served in an order that depends on the seed alone."""
