"""Where weights, gradients and activations live while a window is computed."""
