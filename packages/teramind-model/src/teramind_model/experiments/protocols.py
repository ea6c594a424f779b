"""The paper's three experiments (its Figure 4c-e): who learns from whom, on which genes, and the steps of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from teramind_data.errors import InputError
from teramind_model.checkpoint import SHIPPED, load_checkpoint
from teramind_model.experiments.budgets import Budget
from teramind_model.experiments.plan import Plan, Step
from teramind_model.methods.protocol import sees_genes
from teramind_model.methods.registry import find_method

__all__ = [
    "BRAINS",
    "CONDITIONS",
    "PROTOCOLS",
    "TRUE",
    "Data",
    "Protocol",
    "Settings",
    "Variant",
    "data_steps",
    "experiment_plan",
    "find_protocols",
    "parse_atlases",
    "parse_variants",
    "variants_of",
]

BRAINS = ("main", "male", "female")
_PANELS = "1,2,2"

TRUE = "true genes"
CONDITIONS = {"shuffled": ("--shuffle-genes",), "neighbour": ("--genes-from", "neighbour")}
"""Controls of what the genes explain, and the options of generation that make them."""

PATCHES_ALONE = "patches alone"
_PAPER = "tera-mind"


@dataclass(frozen=True)
class Protocol:
    """Learn from ``learn``, generate ``test``; on the genes all three brains share, or on the test panel's all."""

    name: str
    learn: tuple[str, ...]
    test: str
    shared_genes: bool
    note: str


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "main",
            ("male", "female"),
            "main",
            True,
            "both supplementary brains to the main one, shared genes",
        ),
        Protocol(
            "supp-m", ("female",), "male", False, "the female supplementary brain to the male one, full panel"
        ),
        Protocol(
            "supp-f", ("male",), "female", False, "the male supplementary brain to the female one, full panel"
        ),
    )
}


def find_protocols(name: str) -> tuple[Protocol, ...]:
    """The protocol ``name``, or all of them; InputError naming those there are."""
    if name == "all":
        return tuple(PROTOCOLS.values())
    if name not in PROTOCOLS:
        raise InputError("unknown experiment", expected=", ".join((*PROTOCOLS, "all")), found=name)
    return (PROTOCOLS[name],)


@dataclass(frozen=True)
class Variant:
    """A method, started anew or from a checkpoint."""

    method: str
    init: str | None = None

    @property
    def label(self) -> str:
        """As it is given, and as it is named in tables: METHOD or METHOD@CHECKPOINT."""
        return self.method if self.init is None else f"{self.method}@{self.init}"

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return self.method if self.init is None else f"{self.method}@{Path(self.init).name}"

    @property
    def sees_genes(self) -> bool:
        """Whether other genes could change its image."""
        # Any size tells.
        return sees_genes(find_method(self.method).shape({"genes": 1, "stains": 2}))


def parse_variants(text: str) -> tuple[Variant, ...]:
    """``"tera-mind@phantom,patch-dm"``: methods, each with the checkpoint it starts from where one is named.

    Raises InputError on an unknown method, or one given twice.
    """
    found: list[Variant] = []
    for word in (part.strip() for part in text.split(",")):
        method, _, init = word.partition("@")
        find_method(method)
        variant = Variant(method, init or None)
        if variant.folder in {one.folder for one in found}:
            raise InputError("method given twice", where="--methods", found=word)
        found.append(variant)
    return tuple(found)


def variants_of(protocol: Protocol, chosen: Sequence[Variant]) -> tuple[Variant, ...]:
    """What of ``chosen`` a protocol trains: on a full panel a method starts anew, and once, since checkpoints hold the
    genes that are shared."""
    if protocol.shared_genes:
        return tuple(chosen)
    return tuple(dict.fromkeys(Variant(variant.method) for variant in chosen))


def parse_atlases(values: Sequence[str]) -> dict[str, str]:
    """``main=STORE`` and so on, all three or none.

    Raises InputError on an unknown or doubled name, or where one is missing.
    """
    found: dict[str, str] = {}
    for value in values:
        name, equals, url = value.partition("=")
        if name not in BRAINS or not equals or not url or name in found:
            raise InputError(
                "atlas cannot be read",
                where="--atlas",
                expected="main=, male=, female=STORE",
                found=value,
            )
        found[name] = url
    if found and len(found) < len(BRAINS):
        missing = [name for name in BRAINS if name not in found]
        raise InputError(
            "an atlas is missing", where="--atlas", expected=", ".join(missing), found=", ".join(found)
        )
    return found


@dataclass(frozen=True)
class Data:
    """The three brains: phantoms below ``root/data``, or the user's own stores.

    ``sections``: of phantoms.
    """

    root: Path
    budget: Budget
    sections: int
    atlases: dict[str, str] = field(default_factory=dict)

    @property
    def own(self) -> bool:
        """Whether they are the user's."""
        return bool(self.atlases)

    @property
    def folder(self) -> Path:
        """Where phantom, stores and shared panel lie."""
        return self.root / "data"

    @property
    def phantom(self) -> Path:
        """The phantom: raw brains and truth."""
        return self.folder / "phantom"

    @property
    def panel(self) -> Path:
        """Genes that all three share."""
        return self.folder / "shared.csv"

    def store(self, brain: str) -> str:
        """Atlas of a brain."""
        return self.atlases.get(brain) or str(self.folder / f"{brain}.zarr")

    def truth(self, brain: str) -> Path | None:
        """The phantom's truth of a brain."""
        return None if self.own else self.phantom / "truth" / brain

    def needs(self, *brains: str) -> tuple[str, ...]:
        """Names of the steps that make the atlases of ``brains``."""
        return () if self.own else tuple(f"data/{brain}" for brain in brains)


def data_steps(data: Data) -> Iterator[Step]:
    """Phantom, stores, shared panel; of the user's own stores the last alone."""
    if not data.own:
        yield Step(
            "data/phantom",
            (
                *("teramind-data", "phantom", str(data.phantom), "--brains", ",".join(BRAINS)),
                *("--panels", _PANELS, "--sections", str(data.sections), *data.budget.phantom),
            ),
            data.phantom,
        )
        for brain in BRAINS:
            yield Step(
                f"data/{brain}",
                ("teramind-data", "ingest", str(data.phantom / "raw" / brain), data.store(brain)),
                Path(data.store(brain)),
                ("data/phantom",),
            )
    yield Step(
        "data/shared",
        (
            *("teramind-data", "panel", "intersect", *(data.store(brain) for brain in BRAINS)),
            *("--out", str(data.panel), "--overwrite"),
        ),
        data.panel,
        data.needs(*BRAINS),
    )


@dataclass(frozen=True)
class Settings:
    """What an experiment is run with, beside its data."""

    variants: tuple[Variant, ...]
    seed: int = 0
    device: str = "auto"
    evidence: bool = True


def experiment_plan(data: Data, protocols: Sequence[Protocol], settings: Settings) -> Plan:
    """All steps of the protocols, each variant trained, generated and measured; the paper's method also taken apart."""
    parts: list[list[Step]] = [list(data_steps(data))]
    for protocol in protocols:
        for variant in variants_of(protocol, settings.variants):
            parts.append(list(_variant_steps(data, protocol, variant, settings)))
    return Plan.merged(data.root, parts)


def variant_folder(root: Path, protocol: Protocol, variant: Variant) -> Path:
    """Where a variant's run, stores and report lie."""
    return root / protocol.name / variant.folder


def train_step(data: Data, protocol: Protocol, name: str, run: Path, options: Sequence[str]) -> Step:
    """Training on the protocol's brains and genes; ``options`` say how."""
    budget = data.budget
    preset = budget.preset if protocol.shared_genes else budget.full_panel_preset
    words = ["teramind-model", "train", "--out", str(run)]
    for brain in protocol.learn:
        words += ["--atlas", data.store(brain)]
    needs = data.needs(*protocol.learn)
    if protocol.shared_genes:
        words += ["--panel", str(data.panel)]
        needs = (*needs, "data/shared")
    words += ["--preset", preset, *options]
    words += ["--sample-every", "0", "--checkpoint-every", str(budget.checkpoint_every)]
    return Step(name, tuple(words), run, needs)


def generate_step(
    data: Data,
    protocol: Protocol,
    name: str,
    run: Path,
    out: Path,
    options: Sequence[str],
    needs: Sequence[str],
) -> Step:
    """Generation of the protocol's test brain."""
    words = ("teramind-model", "generate", "--atlas", data.store(protocol.test), "--checkpoint", str(run))
    full = (*words, "--out", str(out), "--memory", data.budget.memory, *options)
    return Step(name, full, out, (*needs, *data.needs(protocol.test)))


def report_step(
    data: Data, protocol: Protocol, name: str, stores: dict[str, Path], out: Path, needs: Sequence[str]
) -> Step:
    """A report of the first of ``stores``, the others as its controls by their names."""
    (_, generated), *controls = stores.items()
    words = ["teramind-eval", "report", "--real", data.store(protocol.test), "--generated", str(generated)]
    for label, store in controls:
        words += ["--control", f"{label}={store}"]
    truth = data.truth(protocol.test)
    words += [] if truth is None else ["--truth", str(truth)]
    return Step(name, (*words, "--out", str(out)), out, tuple(needs))


def _variant_steps(data: Data, protocol: Protocol, variant: Variant, settings: Settings) -> Iterator[Step]:
    folder, name = variant_folder(data.root, protocol, variant), f"{protocol.name}/{variant.folder}"
    run = folder / "run"
    yield train_step(
        data, protocol, f"{name}/train", run, _training_options(data, protocol, variant, settings)
    )
    common = [
        "--steps",
        str(data.budget.ddim_steps),
        "--seed",
        str(settings.seed),
        "--device",
        settings.device,
    ]
    stores, made = {}, []
    conditions = {"generated": (), **(CONDITIONS if variant.sees_genes else {})}
    for condition, options in conditions.items():
        stores[condition] = folder / f"{condition}.zarr"
        made.append(f"{name}/{condition}")
        yield generate_step(
            data, protocol, made[-1], run, stores[condition], [*common, *options], [f"{name}/train"]
        )
    taken_apart = settings.evidence and variant.method == _PAPER
    if taken_apart:
        stores["patches-alone"] = folder / "patches-alone.zarr"
        made.append(f"{name}/patches-alone")
        yield _patches_alone_step(data, protocol, made[-1], run, stores["patches-alone"], common)
    yield report_step(data, protocol, f"{name}/report", stores, folder / "report", made)
    if taken_apart:
        yield _seams_step(data, protocol, f"{name}/seams", stores, folder / "seams", made)
        if not data.own:
            yield _interactions_step(data, protocol, f"{name}/interactions", run, folder / "interactions")


def _training_options(data: Data, protocol: Protocol, variant: Variant, settings: Settings) -> list[str]:
    budget = data.budget
    words = ["--seed", str(settings.seed), "--device", settings.device, "--batch", str(budget.batch)]
    if variant.init is not None:
        _check_init(variant.method, variant.init)
        return [*words, "--init", variant.init, "--steps", str(budget.fine_tune_steps)]
    words += ["--method", variant.method, *budget.network_words(variant.method)]
    return words if budget.steps is None else [*words, "--steps", str(budget.steps)]


def _check_init(method: str, init: str) -> None:
    if init not in SHIPPED and not Path(init).exists():
        raise InputError(
            "no checkpoint to start from", where=init, expected=f"a folder, or {', '.join(SHIPPED)}"
        )
    # Training goes on with the checkpoint's method, so that another one's name would stand above its numbers.
    found = load_checkpoint(init).info.method
    if found != method:
        raise InputError(
            "checkpoint to start from is of another method",
            where=f"--methods {method}@{init}",
            expected=method,
            found=found,
            remedy=f"Give {found}@{init}, or {method} to start anew",
        )


def _patches_alone_step(
    data: Data, protocol: Protocol, name: str, run: Path, out: Path, options: Sequence[str]
) -> Step:
    words = ("teramind-model", "evidence", "patches-alone", "--atlas", data.store(protocol.test))
    full = (*words, "--checkpoint", str(run), "--out", str(out), *options)
    return Step(name, full, out, (f"{name.rpartition('/')[0]}/train", *data.needs(protocol.test)))


def _seams_step(
    data: Data, protocol: Protocol, name: str, stores: dict[str, Path], out: Path, needs: Sequence[str]
) -> Step:
    words = ["teramind-model", "evidence", "seams", "--real", data.store(protocol.test)]
    for label in ("generated", "patches-alone"):
        words += ["--store", f"{label}={stores[label]}"]
    return Step(name, (*words, "--patch", str(data.budget.patch), "--out", str(out)), out, tuple(needs))


def _interactions_step(data: Data, protocol: Protocol, name: str, run: Path, out: Path) -> Step:
    words = ("teramind-model", "evidence", "interactions", "--atlas", data.store(protocol.test))
    full = (
        *words,
        "--checkpoint",
        str(run),
        "--pairs",
        str(data.phantom / "phantom.json"),
        "--out",
        str(out),
    )
    return Step(name, full, out, (f"{name.rpartition('/')[0]}/train", *data.needs(protocol.test)))
