"""A terminal interface that edits SDXL fine-tuning profiles and watches their runs."""
