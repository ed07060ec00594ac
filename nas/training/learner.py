"""Everything that learns in a run and its state: network, optimiser, averaged weights, teacher of the phase before."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from h4hc.errors import IntegrityError
from nas.supernet.supernet import Supernet
from nas.training.checkpoint import Checkpoint, Tensors
from nas.training.config import Group, Optimizer, Phase, TrainConfig


class Learner:
    """A supernet with what a checkpoint must hold beside its weights."""

    def __init__(self, net: Supernet, config: TrainConfig) -> None:
        self.net, self.config = net, config
        self.names = {p: name for name, p in net.named_parameters()}
        self.groups = net.parameter_groups()
        self.parameters = list(net.parameters())
        self.optimizer = _optimizer(net, self.groups, config.optimizer)
        self.average = {n: p.detach().clone() for n, p in net.named_parameters()} if config.ema else None
        self.teacher: Supernet | None = None
        self.phase = -1  # number of the phase that was entered last

    def enter(self, number: int, phase: Phase) -> None:
        """Begin a phase: keep the teacher, set layer scales, freeze. Without effect on a phase already entered."""
        if number != self.phase:
            self.phase = number
            self.teacher = _frozen(self.net) if phase.teacher else None
            if phase.layer_scale is not None:
                self._set_layer_scale(phase.layer_scale)
        self.freeze(phase)

    @torch.no_grad()
    def _set_layer_scale(self, value: float) -> None:
        """In the averaged weights too: a value that is set was not learned, so there is nothing to average."""
        self.net.set_layer_scale(value)
        if self.average is not None:
            for name in self.net.layer_scales():
                self.average[name].fill_(value)

    def freeze(self, phase: Phase) -> None:
        """Let learn what the phase lets learn."""
        for group, parameters in self.groups.items():
            for parameter in parameters:
                parameter.requires_grad_(group not in phase.freeze)

    def set_rates(self, rates: dict[Group, float]) -> None:
        """Learning rate of each group."""
        for entry in self.optimizer.param_groups:
            entry["lr"] = rates[entry["group"]]

    def update(self, step: int) -> None:
        """One step of optimiser and averaged weights; the average follows faster in the first steps."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # parameters that the next step does not use must have none
        if self.average is not None:
            decay = min(self.config.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.parameters], 1 - decay)

    def checkpoint(self, state: dict[str, Any]) -> Checkpoint:
        """Weights, moments, average and teacher, with `state`."""
        tensors = {"weights": dict(self.net.state_dict()), "optimizer": self._moments()}
        if self.average is not None:
            tensors["average"] = self.average
        if self.teacher is not None:
            tensors["teacher"] = dict(self.teacher.state_dict())
        return Checkpoint(tensors, state | {"phase": self.phase})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over the state of a checkpoint. Raises IntegrityError where it is of another network."""
        try:
            self.net.load_state_dict(checkpoint.tensors["weights"])
            self._restore_moments(checkpoint.tensors["optimizer"])
            if self.average is not None:
                for name, tensor in self.average.items():
                    tensor.copy_(checkpoint.tensors["average"][name])
            if "teacher" in checkpoint.tensors:
                self.teacher = _frozen(self.net)
                self.teacher.load_state_dict(checkpoint.tensors["teacher"])
            self.phase = int(checkpoint.state["phase"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise IntegrityError("the checkpoint is not of this network and configuration", why=str(error)) from error

    def _moments(self) -> Tensors:
        """State of the optimiser by parameter name; parameters not trained yet have none."""
        return {
            f"{name}/{key}": value
            for parameter, name in self.names.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def _restore_moments(self, tensors: Tensors) -> None:
        by_name = {name: parameter for parameter, name in self.names.items()}
        self.optimizer.state.clear()
        for key, value in tensors.items():
            name, _, kind = key.rpartition("/")
            parameter = by_name[name]
            if kind != "step":
                value = torch.empty_like(parameter).copy_(value)  # with the strides of the parameter
            elif parameter.is_cuda:
                value = value.to(parameter.device)
            self.optimizer.state[parameter][kind] = value


def _frozen(net: Supernet) -> Supernet:
    return copy.deepcopy(net).requires_grad_(False)


def _optimizer(net: Supernet, groups: dict[str, list[nn.Parameter]], config: Optimizer) -> torch.optim.Optimizer:
    """One entry a parameter group and decay, so that every group has its learning rate."""
    spared = net.without_decay()
    names = {p: name for name, p in net.named_parameters()}
    entries = []
    for group, parameters in groups.items():
        for decays in (True, False):
            chosen = [p for p in parameters if (names[p] not in spared) == decays]
            if chosen:
                decay = config.weight_decay if decays else 0.0
                entries.append({"params": chosen, "weight_decay": decay, "group": group})
    if config.name == "sgd":
        return torch.optim.SGD(
            entries, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=True
        )
    return torch.optim.AdamW(entries, lr=config.lr, betas=config.betas, fused=True)
