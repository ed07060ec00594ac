"""Runs the original, the legalised and the partitioned model on the same inputs and compares their outputs.

| pair | level | must be |
|---|---|---|
| original, legalised | ORT_DISABLE_ALL | `compare.tolerance_for`: float32 1e-4 of the largest magnitude, int8 1 LSB |
| legalised, partitioned | ORT_DISABLE_ALL | bit-equal |
| legalised, partitioned | ORT_ENABLE_BASIC | within the same tolerance; both are optimised there |
| legalised, partitions | ORT_DISABLE_ALL | bit-equal, the stand-alone files run one after another |

Higher levels are not used: onnxruntime's extended optimisations change the results of some QDQ models by themselves.
Models with float16 or bfloat16 values: onnxruntime's CPU kernels compute those in float32 and drop casts between
neighbours, also at ORT_DISABLE_ALL, so the stand-alone files round where the whole model does not; there the last pair
is compared within tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h4hc.compare import BITS, Difference, Tolerance, compare, tolerance_for, type_name
from h4hc.diagnostics import Diagnostic
from h4hc.errors import LimitError, NumericsError, Problem, UnsupportedOpError, UserError
from h4hc.graph_facts import is_quantised, output_scale, random_values, with_own_names
from h4hc.ortrun import Level, OrtError, Runner
from h4hc.verification import SCHEMA_VERSION, Comparison, Status, Verdict, Verification
from h4hc.verify_evidence import is_flat, is_informative, is_mute
from h4hc.verify_inputs import FILLS, generate, input_specs, notes
from h4hc.verify_locate import first_difference, without_calls

if TYPE_CHECKING:
    import onnx

ORIGINAL, LEGALISED, PARTITIONED, PARTITIONS = "original", "legalised", "partitioned", "partitions"
Results = list[dict[str, Any]]  # one dict of outputs a sample


@dataclass(frozen=True)
class _Job:
    """The models and what is known about their outputs."""

    models: dict[str, onnx.ModelProto]
    partitions: Mapping[str, onnx.ModelProto]
    random: dict[str, tuple[str, ...]]
    scales: dict[str, float | None]
    step: Callable[[str], None]  # told what is about to run, for whoever must explain a crash


def verify_models(
    original: onnx.ModelProto,
    legalised: onnx.ModelProto,
    partitioned: onnx.ModelProto,
    inputs: Sequence[Mapping[str, Any]] | None = None,
    *,
    partitions: Mapping[str, onnx.ModelProto] | None = None,
    seed: int = 0,
    samples: int = 1,
    step: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Compare the models in this process.

    inputs: sets of inputs by name; None makes `samples` sets from `seed`. partitions: stand-alone models in
    execution order. Raises NumericsError naming the first node that differs; UnsupportedOpError when
    onnxruntime does not load the original; UserError when it fails on the inputs; LimitError without memory.
    """
    models = {ORIGINAL: original, LEGALISED: legalised, PARTITIONED: partitioned}
    outputs = [value.name for value in original.graph.output]
    quantised = is_quantised(original)
    scales = {name: output_scale(original, name) if quantised else None for name in outputs}
    job = _Job(models, partitions or {}, random_values(original), scales, step)
    _check_outputs(job)
    feeds, filled, wanted = _run_original(job, inputs, seed, samples)
    done: list[Comparison] = []
    flat = _run(job, LEGALISED, Level.DISABLE_ALL, feeds)
    done += _compare(job, (ORIGINAL, LEGALISED), Level.DISABLE_ALL, wanted, flat, feeds, None)
    done += _compare_partitioned(job, Level.DISABLE_ALL, flat, feeds, BITS)
    silent = [n for n in outputs if n in job.random or any(is_mute(result[n]) for result in wanted)]
    refusal = None
    try:
        basic = _run(job, LEGALISED, Level.ENABLE_BASIC, feeds)
    except NumericsError as error:
        refusal = _basic_refusal(job, error)
    else:
        done += _compare_partitioned(job, Level.ENABLE_BASIC, basic, feeds, None)
    if job.partitions:
        chained = _run_chain(job, feeds)
        bound = None if _has_half(job.partitions) else BITS
        done += _compare(job, (LEGALISED, PARTITIONS), Level.DISABLE_ALL, flat, chained, feeds, bound)
    return Verification(
        SCHEMA_VERSION,
        _status(outputs, silent, refusal),
        _runtime(),
        seed,
        len(feeds),
        notes(feeds[0], filled) if feeds else (),
        tuple(done),
        (*((refusal,) if refusal else ()), *_remarks(job, wanted), *_scale_remarks(job, wanted, quantised)),
    )


def _runtime() -> str:
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def _check_outputs(job: _Job) -> None:
    """All models must have the original's outputs, in its order."""
    names = [value.name for value in job.models[ORIGINAL].graph.output]
    for label in (LEGALISED, PARTITIONED):
        other = [value.name for value in job.models[label].graph.output]
        if other != names:
            why = f"{', '.join(other)} instead of {', '.join(names)}"
            raise NumericsError(f"the {label} model has other outputs than the original", tuple(names), why)


def _run_original(
    job: _Job, inputs: Sequence[Mapping[str, Any]] | None, seed: int, samples: int
) -> tuple[list[dict[str, Any]], str, Results]:
    """Find inputs the original accepts: the given ones, else the first fill that gives finite values."""
    job.step(ORIGINAL)
    try:
        runner = Runner(with_own_names(job.models[ORIGINAL]).SerializeToString(), Level.DISABLE_ALL)
    except OrtError as error:
        _raise_if_memory(error, ORIGINAL)
        raise UnsupportedOpError(
            "onnxruntime does not load the original model, so there is nothing to compare with",
            (job.models[ORIGINAL].graph.name,),
            f"{_runtime()}: {error.message}",
            "onnxruntime must support the model's operators, opset and IR version on CPU",
        ) from error
    if inputs is not None:
        feeds = [dict(sample) for sample in inputs]
        try:
            return feeds, "given", [runner.run(sample) for sample in feeds]
        except OrtError as error:
            _raise_if_memory(error, ORIGINAL)
            raise UserError("the original model fails on the given inputs", tuple(feeds[0]), error.message) from error
    return _search_fill(job, runner, seed, samples)


def _search_fill(job: _Job, runner: Runner, seed: int, samples: int) -> tuple[list[dict[str, Any]], str, Results]:
    specs = input_specs(job.models[ORIGINAL], job.models[LEGALISED])
    refusals: list[Problem] = []
    runs: list[tuple[list[dict[str, Any]], str, Results]] = []
    for fill, text in FILLS.items():
        feeds = generate(specs, seed, samples, fill)
        try:
            results = [runner.run(sample) for sample in feeds]
        except OrtError as error:
            _raise_if_memory(error, ORIGINAL)
            refusals.append(Problem(f"refused: {text}", tuple(feeds[0]), error.message))
            continue
        runs.append((feeds, text, results))
        if all(is_informative(value) and not is_flat(value) for result in results for value in result.values()):
            return runs[-1]
    if runs:  # no fill moves every output; `_remarks` says what that leaves open
        return max(runs, key=lambda run: sum(is_informative(v) for result in run[2] for v in result.values()))
    raise UserError.of(
        (
            Problem(
                "the original model fails on all generated inputs",
                tuple(spec.name for spec in specs),
                hint="give valid ones with --inputs FILE.npz",
            ),
            *refusals,
        )
    )


def _raise_if_memory(error: OrtError, label: str) -> None:
    text = error.message.lower()
    if "bad_alloc" in text or "bad allocation" in text or "failed to allocate memory" in text:
        raise LimitError(f"there is not enough memory to run the {label} model", (), error.message) from error


def _run(job: _Job, label: str, level: Level, feeds: Results) -> Results:
    """Run one of h4hc's models on inputs that the original took; any failure is h4hc's."""
    job.step(f"{label} at {level}")
    try:
        runner = Runner(job.models[label].SerializeToString(), level)
        return [runner.run(sample) for sample in feeds]
    except OrtError as error:
        _raise_if_memory(error, label)
        raise NumericsError(
            f"the {label} model does not run, but the original does", (label,), f"{level}: {error}"
        ) from error


def _basic_refusal(job: _Job, error: NumericsError) -> Diagnostic:
    """A warning when onnxruntime's basic optimiser does not load either of h4hc's models; else raises `error`.

    They ran without it, so it is the optimiser that fails: it knows more shapes once constants are folded, and
    refuses what the kernels take.
    """
    cause = error.__cause__
    try:
        Runner(job.models[PARTITIONED].SerializeToString(), Level.ENABLE_BASIC)
    except OrtError:
        if isinstance(cause, OrtError) and cause.stage == "load":
            return Diagnostic(
                "H4W704",
                "warning",
                f"not compared at {Level.ENABLE_BASIC}: onnxruntime's optimiser refuses the model: {cause.message}",
                (LEGALISED, PARTITIONED),
                "run it with optimisations off, where it is verified",
            )
    raise error


def _compare_partitioned(
    job: _Job, level: Level, wanted: Results, feeds: Results, bound: Tolerance | None
) -> list[Comparison]:
    got = _run(job, PARTITIONED, level, feeds)
    return _compare(job, (LEGALISED, PARTITIONED), level, wanted, got, feeds, bound)


def _run_chain(job: _Job, feeds: Results) -> Results:
    """Run the stand-alone models one after another; each sees the inputs and all that was made before."""
    values = [dict(sample) for sample in feeds]
    for name, model in job.partitions.items():
        job.step(f"partition {name}")
        try:
            runner = Runner(model.SerializeToString(), Level.DISABLE_ALL)
            for sample in values:
                sample.update(runner.run(sample))
        except OrtError as error:
            _raise_if_memory(error, name)
            raise NumericsError(f"partition {name} does not run by itself", (name,), str(error)) from error
    made = {value.name for model in job.partitions.values() for value in model.graph.output}
    outputs = [value.name for value in job.models[ORIGINAL].graph.output]
    return [{name: sample[name] for name in outputs if name in made} for sample in values]


def _has_half(partitions: Mapping[str, onnx.ModelProto]) -> bool:
    """Whether a float16 or bfloat16 tensor crosses the edge of a partition."""
    import onnx

    half = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    edges = (value for model in partitions.values() for value in (*model.graph.input, *model.graph.output))
    return any(value.type.tensor_type.elem_type in half for value in edges)


def _compare(
    job: _Job,
    pair: tuple[str, str],
    level: Level,
    wanted: Results,
    got: Results,
    feeds: Results,
    bound: Tolerance | None,
) -> list[Comparison]:
    """Compare all outputs that both sides have; raises NumericsError with everything that is too far off."""
    done: list[Comparison] = []
    bad: list[tuple[str, Tolerance, int, Difference]] = []
    for name in got[0] if got else ():
        dtype = type_name(wanted[0][name])
        tolerance = bound or tolerance_for(dtype, job.scales[name])
        if name in job.random:
            done.append(Comparison(*pair, level, name, dtype, tolerance, Verdict.NOT_COMPARABLE, 0.0, 0.0))
            continue
        found = [compare(w[name], g[name], bound, job.scales[name]) for w, g in zip(wanted, got, strict=True)]
        bad += [(name, tolerance, sample, d) for sample, d in enumerate(found) if not d.within][:1]
        worst = max(found, key=lambda d: d.max_abs)
        exact = all(compare(w[name], g[name], BITS).within for w, g in zip(wanted, got, strict=True))
        verdict = Verdict.BIT_EQUAL if exact else Verdict.WITHIN
        done.append(Comparison(*pair, level, name, dtype, tolerance, verdict, worst.max_abs, worst.largest))
    if bad:
        raise NumericsError.of(_problems(job, pair, level, feeds, bound, bad))
    return done


def _problems(
    job: _Job,
    pair: tuple[str, str],
    level: Level,
    feeds: Results,
    bound: Tolerance | None,
    bad: list[tuple[str, Tolerance, int, Difference]],
) -> tuple[Problem, ...]:
    """The first node that differs, then each output that is too far off."""
    reference, candidate = pair
    first = None
    if candidate != PARTITIONS:  # the chain's inner values are the partitions' own
        job.step("looking for the first difference")
        model = job.models[candidate]
        model = without_calls(model) if candidate == PARTITIONED else model
        first = first_difference(job.models[reference], model, feeds[bad[0][2]], bound, job.random)
    problems = []
    if first is not None:
        problems.append(
            Problem(
                f"the first node that differs is {first.nodes[0]!r} ({first.op_type})",
                first.nodes,
                f"its value {first.value!r}: {first.difference.sentence()}; {reference} against {candidate}",
            )
        )
    for name, tolerance, sample, difference in bad:
        problems.append(
            Problem(
                f"output {name!r} of the {candidate} model differs from the {reference} one at {level}",
                (name,),
                f"{difference.sentence()}; sample {sample}; allowed: {_allowed(tolerance, difference)}",
                "this is a fault of the compiler: please report it with the model" if first is None else "",
            )
        )
    return tuple(problems)


def _allowed(tolerance: Tolerance, difference: Difference) -> str:
    if tolerance.kind == "relative":
        return f"{tolerance.value:g} x {difference.largest:.6g}, {tolerance.why}"
    return tolerance.why


def _status(outputs: Sequence[str], silent: Collection[str], refusal: Diagnostic | None) -> Status:
    """silent: outputs that cannot show an error, being random or without a finite element."""
    count = sum(name in silent for name in outputs)
    if count == 0:
        return Status.VERIFIED if refusal is None else Status.PARTLY
    return Status.NOT_COMPARABLE if count == len(outputs) else Status.PARTLY


def _remarks(job: _Job, results: Results) -> list[Diagnostic]:
    """What weakens the proof: random outputs, and outputs without a single finite element."""
    found = []
    for name in results[0] if results else ():
        if name in job.random:
            found.append(
                Diagnostic(
                    "H4W701",
                    "warning",
                    f"output {name!r} is not comparable: it depends on operators that draw random numbers",
                    job.random[name],
                    "set the operator's seed attribute, or export the model for inference",
                )
            )
        elif not all(is_informative(result[name]) for result in results):
            found.append(
                Diagnostic(
                    "H4W702",
                    "warning",
                    f"output {name!r} has no finite element on these inputs, so it proves nothing",
                    (name,),
                    "give typical inputs with --inputs FILE.npz",
                )
            )
        elif all(is_flat(result[name]) for result in results):
            found.append(
                Diagnostic(
                    "H4W705",
                    "warning",
                    f"output {name!r} has the same value everywhere on these inputs, so it proves little",
                    (name,),
                    "give typical inputs with --inputs FILE.npz",
                )
            )
    return found


def _scale_remarks(job: _Job, results: Results, quantised: bool) -> list[Diagnostic]:
    """Float outputs of a quantised model whose scale was not found are held to the relative tolerance."""
    if not quantised or not results:
        return []
    unknown = [n for n, v in results[0].items() if type_name(v).startswith("float") and job.scales[n] is None]
    return [
        Diagnostic(
            "H4W703",
            "note",
            f"the quantisation scale of output {name!r} is unknown: the relative tolerance was used, not 1 LSB",
            (name,),
        )
        for name in unknown
    ]
