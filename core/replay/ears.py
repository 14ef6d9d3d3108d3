"""Hears every evaluation of the losses of a run, and of those that are asked about everything there is.

Nothing that is computed changes: hooks on modules and tensors look and return nothing, and the two halves of
a gradient step are called through a function that looks at their closures.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from core.gradients import Closure, GradientStep
from core.gradients.arguments import step_needs_closure
from core.replay.birth import Microscope
from core.replay.names import attributes_of, buffers_of, held, named_modules, parameters_of
from core.replay.origin import Birth, Usual, Weights
from core.replay.ranges import Call, Evaluation, Range, range_of, tensors_in

KEPT = 400  # evaluations


class Ears:
    """Listens to a run from its start on.

    Args:
        modules: the networks, by name.
        steps: of the players.
        owners: everything that has a state; the counts among their attributes are put back after a second
            look at an evaluation.
        searching: for the first number that is not finite, after which nothing is heard any more; else each
            iteration is heard for itself.

    Attributes:
        evaluations: the last ones, oldest first.
        usual: how large everything is, by player, since listening began.
        lost: the first evaluation whose loss or gradient is not finite, and where that came from.
        firsts: the first evaluation of each player in the present iteration.
        before: the evaluations before this iteration, oldest first.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        steps: Sequence[GradientStep],
        owners: Sequence[object],
        searching: bool,
    ) -> None:
        self._owners, self._searching = owners, searching
        self.evaluations: deque[Evaluation] = deque(maxlen=KEPT)
        self._weights = Weights()
        self.usual = {step.name: Usual(self._weights) for step in steps}
        self.lost: tuple[Evaluation, Birth] | None = None
        self.firsts: dict[str, Evaluation] = {}
        self.before: list[Evaluation] = []
        self._outbreaks: dict[str, list[Evaluation]] = {}
        self._leaps: dict[str, list[Evaluation]] = {}
        self._present: list[Evaluation] = []
        self._updates = self._began = self._count = 0
        self._open: _Open | None = None
        self._outside: Birth | None = None  # of this iteration: in a call that made the batch
        self._modules = dict(named_modules(modules))
        self._named = {name: p for step in steps for name, p in parameters_of(step, len(steps) > 1)}
        self._parameters = {id(p): name for name, p in self._named.items()}
        self._last = [p.detach().clone() for p in self._named.values()]
        for name, module in self._modules.items():
            module.register_forward_hook(partial(self._called, name), with_kwargs=True)
        for step in steps:
            self._listen(step)

    def begin_iteration(self, step: int) -> None:
        """Another one begins, at this x-axis value."""
        self._began, self._updates, self._present = step, 0, []
        self.firsts, self.before, self._outside = {}, list(self.evaluations), None
        if not self._searching:
            self.lost = None

    def end_iteration(self, step: int) -> None:
        """The iteration has reached this x-axis value, by which its evaluations are known from now on."""
        for evaluation in self._present:
            evaluation.step = step

    def course(self, evaluation: Evaluation) -> list[Evaluation]:
        """What is kept of the evaluations around one, oldest first."""
        outbreak = self._outbreaks.get(evaluation.player, [])
        shown = self.before if any(evaluation is first for first in self.firsts.values()) else []
        leap = self._leaps.get(evaluation.player, [])
        shown = leap if leap and evaluation is leap[-1] else shown
        found = {id(each): each for each in (*outbreak, *shown, *self.evaluations)}
        return [*found.values()] if id(evaluation) in found else [*found.values(), evaluation]

    def _listen(self, step: GradientStep) -> None:
        """From now on both halves of a gradient step are called through this object."""
        compute, apply = step.compute, step.apply

        def heard_compute(*closures: Closure, samples: int | None = None) -> Any:
            self._updates += 1
            numbers = Counter()
            try:
                return compute(*(self._heard(step, each, numbers) for each in closures), samples=samples)
            finally:
                self._close()

        def heard_apply(*closures: Closure, measure: bool = True) -> None:
            numbers = Counter({"evaluations": len(closures)})
            try:
                apply(*(self._heard(step, each, numbers) for each in closures), measure=measure)
            finally:
                self._close()

        setattr(step, "compute", heard_compute)  # noqa: B010  (of this object alone)
        setattr(step, "apply", heard_apply)  # noqa: B010

    def _heard(self, step: GradientStep, closure: Closure, numbers: Counter) -> Closure:
        """The same closure; what happens from its call to the next one is one evaluation."""

        def heard() -> Any:
            self._close()
            numbers["evaluations"] += 1
            if self.lost is not None and self._searching:
                return closure()
            evaluation = Evaluation(
                self._began, step.name, self._updates, numbers["evaluations"], self._count
            )
            self._count += 1
            self._present.append(evaluation)
            self.firsts.setdefault(step.name, evaluation)
            self._open = now = _Open(evaluation, step, closure)
            now.begin(self._named, self._last)
            try:
                losses, metrics = closure()
            except Exception as error:
                evaluation.error = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                self._close()
                raise
            now.returned(losses)
            return losses, metrics

        return heard

    def _called(
        self,
        name: str,
        module: nn.Module,
        inputs: tuple[Any, ...],
        named: Mapping[str, Any],
        output: object,
    ) -> None:
        if self._open is None:
            self._outside = self._outside or _broken(name, module, inputs, output)
        else:
            self._open.given[self._open.name_of(name)] = module, inputs, named
            own = [self._parameters.get(id(p)) for p in module.parameters(recurse=False)]
            own = tuple(each for each in own if each is not None)
            self._open.called(name, type(module).__name__, own, inputs, output, self._reached)

    def _reached(self, call: Call, outputs: bool, gradient: Tensor) -> None:
        """A gradient has reached the outputs of a call, or left its inputs.

        The graph may be older than the evaluation (samples made once for two players): the call then counts
        as one of this one too, in front of those that came after it.
        """
        found = range_of(gradient)
        if self._open is None or found is None:
            return
        call = self._open.adopted(call)
        (call.into if outputs else call.out_of).append(found)
        if outputs and call not in self._open.evaluation.way_back:
            self._open.evaluation.way_back.append(call)

    def _close(self) -> None:
        """The present evaluation is over: its gradient has been taken, if it was to be."""
        now, self._open = self._open, None
        if now is None:
            return
        now.close()
        evaluation, usual = now.evaluation, self.usual[now.step.name]
        self.evaluations.append(evaluation)
        if not evaluation.finite and self.lost is None:
            birth = self._looked_into(now) or Birth("loss", "value")
            if birth.how == "batch" and self._outside is not None:
                birth = self._outside
            self.lost = evaluation, birth
            usual.lose(evaluation)
            evaluation.broken_rows = dict(now.rows(birth))
            return
        usual.add(evaluation)
        self._weights.add(evaluation)
        if usual.leap and usual.leap[1] is evaluation:
            self._leaps[now.step.name] = list(self.evaluations)
        if usual.since is None:
            self._outbreaks.pop(now.step.name, None)
        elif now.step.name not in self._outbreaks:
            self._outbreaks[now.step.name] = list(self.evaluations)

    def _looked_into(self, now: "_Open") -> Birth | None:
        """The evaluation again, at its parameters, under a microscope; it leaves nothing behind."""
        step, evaluation = now.step, now.evaluation
        measured = self.usual[step.name].born(evaluation)
        known = {f"{name}.{own}": b for name, m in self._modules.items() for own, b in buffers_of(m)}
        known |= self._named | dict(held(now.closure))
        with self._undone(), now.parameters(), torch.enable_grad(), _precision(step):
            found = Microscope(self._modules, known).look(now.closure, step.parameters, _total)
            if found is None or (found.how == "batch" and found.name not in evaluation.batch):
                # What was made before the evaluation, such as samples for two players, is not made again.
                if measured is None or measured.name not in now.given:
                    return measured
                closer = Microscope(self._modules, known).look_at(*now.given[measured.name])
                found = replace(measured, operation=closer.operation if closer else "")
        if measured is not None and measured.rows and measured.name.partition(" ")[0] == found.name:
            return replace(found, rows=measured.rows, num_rows=measured.num_rows, of=measured.of)
        return found

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Buffers, random numbers and counts are as they were afterwards."""
        buffers = [(b, b.clone()) for m in self._modules.values() for _, b in buffers_of(m)]
        kept = [
            ({k: v for k, v in attributes_of(o).items() if type(v) in (int, float)}, o) for o in self._owners
        ]
        devices = {p.device for m in self._modules.values() for p in m.parameters()}
        with torch.random.fork_rng([d for d in devices if d.type == "cuda"]):
            yield
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for counts, owner in kept:
            attributes_of(owner).update(counts)


class _Open:
    """One evaluation under way."""

    def __init__(self, evaluation: Evaluation, step: GradientStep, closure: Closure) -> None:
        self.evaluation, self.step, self.closure = evaluation, step, closure
        self._names: Counter[str] = Counter()
        self._adopted: dict[int, Call] = {}
        self.given: dict[str, tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]] = {}  # of calls by name
        self._gradients: dict[str, Tensor] = {}
        self._handles: list[Any] = []
        self._copies: list[Tensor] = []

    def begin(self, named: Mapping[str, Tensor], last: Sequence[Tensor]) -> None:
        """What there is before the loss is evaluated; all players' parameters, by name, and as they were."""
        values = [p.detach() for p in named.values()]
        self.evaluation.parameters = dict(zip(named, _magnitudes(values), strict=True))
        moves = _magnitudes([now - before for now, before in zip(values, last, strict=True)])
        self.evaluation.moves = dict(zip(named, moves, strict=True))
        for now, before in zip(values, last, strict=True):
            before.copy_(now)
        found = {name: range_of(t) for name, t in held(self.closure)}
        self.evaluation.batch = {name: r for name, r in found.items() if r is not None}
        if step_needs_closure(type(self.step.optimizer)):  # it evaluates where its step puts them back from
            self._copies = [p.detach().clone() for p in self.step.parameters]
        own = {id(p) for p in self.step.parameters}
        for name, p in named.items():
            if id(p) in own:
                self._handles.append(p.register_hook(partial(self._arrived, name)))

    def name_of(self, name: str) -> str:
        """What the next call of a module is known by."""
        times = self._names[name] + 1
        return name if times == 1 else f"{name} ({times})"

    def called(
        self,
        name: str,
        kind: str,
        own: tuple[str, ...],
        inputs: object,
        output: object,
        reached: Callable[[Call, bool, Tensor], None],
    ) -> None:
        """A module was called; `reached` is told of gradients at its outputs (True) and at its inputs."""
        shown = self.name_of(name)
        self._names[name] += 1
        given, made = list(tensors_in(inputs)), list(tensors_in(output))
        ranges = [[r for t in part if (r := range_of(t)) is not None] for part in (given, made)]
        call = Call(shown, kind, *ranges, own=own)
        self.evaluation.calls.append(call)
        for outputs, part in ((True, made), (False, given)):
            for t in part:
                if t.requires_grad:
                    t.register_hook(partial(reached, call, outputs))

    def adopted(self, call: Call) -> Call:
        """A call as one of this evaluation."""
        if any(call is own for own in self.evaluation.calls):
            return call
        if id(call) not in self._adopted:
            self._adopted[id(call)] = replace(call, into=[], out_of=[])
            self.evaluation.calls.insert(0, self._adopted[id(call)])
        return self._adopted[id(call)]

    def returned(self, losses: object) -> None:
        """The loss is there."""
        terms = losses if isinstance(losses, Mapping) else {"loss": losses}
        self.evaluation.losses = {
            str(name): float(t.detach()) for name, t in terms.items() if isinstance(t, Tensor) and not t.dim()
        }

    def close(self) -> None:
        """The gradient is there; nothing is heard any more."""
        for handle in self._handles:
            handle.remove()
        found = {name: range_of(g) for name, g in self._gradients.items()}
        self.evaluation.gradients = {name: r for name, r in found.items() if r is not None}

    def rows(self, birth: Birth) -> Iterator[tuple[int, dict[str, Range]]]:
        """The rows of the batch where a number was born, as far as its tensor has a row for each sample."""
        parts = [(name, t) for name, t in held(self.closure) if t.dim() and len(t) == birth.of]
        for row in birth.rows if birth.num_rows < birth.of else ():
            found = {name: range_of(t[row]) for name, t in parts}
            yield row, {name: r for name, r in found.items() if r is not None}

    def parameters(self) -> "_At":
        """The parameters at which the loss was evaluated."""
        return _At(self.step.parameters, self._copies)

    def _arrived(self, name: str, gradient: Tensor) -> None:
        self._gradients.pop(name, None)
        self._gradients[name] = gradient.detach()


class _At:
    """Puts parameters where they were, and back again; without copies they have not moved."""

    def __init__(self, parameters: Sequence[Tensor], copies: Sequence[Tensor]) -> None:
        self._pairs = list(zip(parameters, copies, strict=False))
        self._now: list[Tensor] = []

    def __enter__(self) -> None:
        self._now = [p.detach().clone() for p, _ in self._pairs]
        self._write(copy for _, copy in self._pairs)

    def __exit__(self, *_: object) -> None:
        self._write(iter(self._now))

    def _write(self, values: Iterator[Tensor]) -> None:
        with torch.no_grad():
            for (p, _), value in zip(self._pairs, values, strict=False):
                p.copy_(value)


def _magnitudes(values: list[Tensor]) -> list[float]:
    """The largest of each tensor."""
    return torch.stack([n.double() for n in torch._foreach_norm(values, float("inf"))]).tolist()


def _broken(name: str, module: nn.Module, inputs: object, output: object) -> Birth | None:
    """A call whose output is not finite although its inputs are."""
    made = next((t for t in tensors_in(output) if not _finite(t)), None)
    if made is None or not all(map(_finite, tensors_in(inputs))):
        return None
    found = range_of(made)
    birth = Birth("forward", name, type(module).__name__)
    if found is None or not found.rows:
        return birth
    return replace(birth, rows=found.rows, num_rows=found.num_rows, of=found.shape[0])


def _finite(t: Tensor) -> bool:
    return not t.is_floating_point() or bool(t.detach().isfinite().all())


def _precision(step: GradientStep) -> Any:
    kind = getattr(torch, step.precision)
    return torch.autocast(step.device.type, kind, enabled=step.precision != "float32")


def _total(returned: Any) -> Tensor:
    losses, _ = returned
    return torch.stack([*losses.values()]).sum() if isinstance(losses, Mapping) else losses
