"""The published SDXL file, its components, and what goes into and comes out of them."""
