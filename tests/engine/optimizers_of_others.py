"""Optimizers as packages write them, with the habits that make them hard to save, to rehearse and to show."""

import torch


class ScheduleFreeLike(torch.optim.Optimizer):
    """Schedule-free SGD (Defazio et al. 2024, 2405.15682): trains y, shows x, keeps z; counts in its groups."""

    def __init__(self, params, lr=1e-3, beta=0.9):
        super().__init__(params, {"lr": lr, "beta": beta, "k": 0, "weight_sum": 0.0, "train_mode": False})

    def _move(self, training, weight_of):
        for group in self.param_groups:
            if group["train_mode"] is not training:
                for parameter in group["params"]:
                    if "z" in self.state[parameter]:
                        parameter.data.lerp_(self.state[parameter]["z"], weight_of(group["beta"]))
                group["train_mode"] = training

    def train(self):
        self._move(True, lambda beta: 1 - beta)

    def eval(self):
        self._move(False, lambda beta: 1 - 1 / beta)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            assert group["train_mode"], "call train() first"
            group["k"] += 1
            group["weight_sum"] += group["lr"] ** 2
            share = group["lr"] ** 2 / group["weight_sum"]
            for y in group["params"]:
                if y.grad is not None:
                    z = self.state[y].setdefault("z", y.clone())
                    y.lerp_(z, share).add_(y.grad, alpha=group["lr"] * (group["beta"] * (1 - share) - 1))
                    z.sub_(y.grad, alpha=group["lr"])


class ProdigyLike(torch.optim.Optimizer):
    """Estimates its own rate `d` in the group, remembers where it began, and counts in an attribute of itself."""

    def __init__(self, params, lr=1.0, *, betas=(0.9, 0.99), growth=float("inf")):
        if not 0 <= betas[0] < 1:
            raise ValueError(f"Invalid betas at index 0: {betas[0]}\nand more of it")
        super().__init__(params, {"lr": lr, "betas": betas, "d": 1e-3, "growth": growth, "dtype": None})
        self.calls = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.calls += 1
        if "k" in self.param_groups[0]:
            self.param_groups[0]["k"] += 1
        for group in self.param_groups:
            group["dtype"] = torch.bfloat16
            group.setdefault("seen", []).append((group["d"], None))
            group["k"] = self.param_groups[0].get("k", torch.zeros((), dtype=torch.int32))  # one for all groups
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    if not state:
                        state["p0"] = parameter.clone() if parameter.any() else torch.tensor(0.0)
                        state["sliced"] = parameter.flatten()[::99].clone()  # one element, with a stride of 99
                        state["half"] = {"m": torch.zeros_like(parameter, dtype=torch.bfloat16), 8: (1, "u")}
                    state["half"]["m"].mul_(group["betas"][0]).add_(parameter.grad)
                    group["d"] = min(
                        group["d"] * 1.1 + 1e-4 / self.calls + 1e-5 * int(group["k"]), group["d"] * group["growth"]
                    )
                    parameter.sub_(state["half"]["m"].sign().float(), alpha=group["d"] * group["lr"])


class AnyArguments(torch.optim.SGD):
    def __init__(self, params, **others):
        super().__init__(params, **others)


class Demanding(torch.optim.SGD):
    def __init__(self, params, lr, radius):
        super().__init__(params, lr=lr * radius)


class WithoutRate(torch.optim.SGD):
    def __init__(self, params, momentum=0.0):
        super().__init__(params, lr=1e-3, momentum=momentum)


class KeepsAnObject(torch.optim.SGD):
    def step(self, closure=None):
        self.param_groups[0]["generator"] = object()


class SwapsWhenShown(ScheduleFreeLike):
    def eval(self):
        for state in self.state.values():
            state["z"] = state["z"] + 1
        super().eval()


class ForOtherDevices(torch.optim.SGD):
    def step(self, closure=None):
        raise NotImplementedError("no kernel for the CPU")


class Sharpness(torch.optim.SGD):
    def step(self, closure=None):
        assert closure is not None, "Sharpness Aware Minimization requires a closure"


def a_function(params, lr):
    return torch.optim.SGD(params, lr)
