"""What is learnt: pure tensor mathematics, in the order of the papers."""
