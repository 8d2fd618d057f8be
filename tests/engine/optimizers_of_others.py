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


class FailsAtOnce(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("no rate like this.\nand more of it")


class FailsLater(ProdigyLike):
    def step(self, closure=None):
        super().step()
        if self.calls == 3:
            raise AssertionError("no rate like this")


class FailsWhenShown(ScheduleFreeLike):
    def eval(self):
        raise RuntimeError("no rate like this")


class Hidden(torch.optim.SGD):
    """Divides by a sum that it keeps in an attribute of itself, a tensor."""

    def __init__(self, params, lr=1e-3):
        super().__init__(params, lr=lr)
        self.total = torch.zeros(())

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.total += parameter.grad.abs().sum().cpu()
                    parameter.sub_(parameter.grad / self.total, alpha=group["lr"])


class LookaheadLike(torch.optim.SGD):
    """Every ten steps halfway back to weights that it keeps in an attribute (Zhang et al. 2019, 1907.08610)."""

    def __init__(self, params, lr=1e-3, *, hidden=False):
        super().__init__(params, lr=lr)
        self.slow, self.count, self.hidden = {}, 0, hidden

    @torch.no_grad()
    def step(self, closure=None):
        super().step()
        self.count += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                kept = self.slow if self.hidden else self.state[parameter]
                slow = kept.setdefault(parameter if self.hidden else "slow", parameter.clone())
                if self.count % 10 == 0:
                    parameter.lerp_(slow, 0.5)
                    slow.copy_(parameter)


class Noisy(torch.optim.SGD):
    """Adds noise from torch's own generator."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(torch.randn_like(parameter), alpha=group["lr"])


class OneRate(torch.optim.SGD):
    """A resting group is none, as for Prodigy."""

    def step(self, closure=None):
        if len({group["lr"] for group in self.param_groups if group["lr"]}) > 1:
            raise RuntimeError("Setting different lr values in different parameter groups is not supported")
        super().step()


class OddState(torch.optim.SGD):
    """Its state is no table: torch allows whatever one likes."""

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter] = parameter.detach() * 2
