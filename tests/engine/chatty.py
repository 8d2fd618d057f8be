"""An optimizer in a package that prints when it is imported."""

import sys

import torch

sys.stdout.write("this package talks\n")
sys.stdout.flush()


class Chatty(torch.optim.SGD):
    def __init__(self, params, lr=1e-3, momentum=0.9):
        super().__init__(params, lr=lr, momentum=momentum)
