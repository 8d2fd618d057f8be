"""What the two processes share. Standard library and msgspec at import time, nothing heavier."""
