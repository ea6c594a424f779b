"""The one configuration of ``teramind-model train``: preset, then YAML file, then flags, each over the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from teramind_data.errors import InputError, MissingInputError
from teramind_model.checkpoint import SHIPPED
from teramind_model.methods.registry import DEFAULT_METHOD, find_method
from teramind_model.presets import find_preset
from teramind_model.train.options import TrainOptions

if TYPE_CHECKING:
    from teramind_model.methods.protocol import NetworkShape

__all__ = ["NETWORK_KEYS", "Resolved", "TrainConfig", "read_config_file", "resolve"]

#: Fields of networks that a configuration may set, where the method has them; the number of genes follows the panel,
#: that of stains ``stains``. Other fields that a method may have go into ``method_options``.
NETWORK_KEYS = ("patch", "channels", "gene_slices", "gene_widths", "time_width", "dropout", "fold_z")
#: Those that fix the parameters' shapes: a checkpoint to start from decides them.
SHAPE_KEYS = NETWORK_KEYS[:5]

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


class TrainConfig(BaseModel):
    """All options of a run, strictly checked. Unset network fields take NetworkConfig's defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    atlas: tuple[str, ...] = Field(min_length=1)
    panel: str | None = None
    init: str | None = None
    preset: str = "main"
    method: str = DEFAULT_METHOD
    method_options: dict[str, Any] = Field(default_factory=dict)
    stains: tuple[str, ...] = ("DAPI", "PolyT")

    patch: PositiveInt = 64
    channels: PositiveInt = 64
    gene_slices: PositiveInt = 4
    gene_widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (128, 64, 32)
    time_width: PositiveInt = 512
    dropout: float = Field(default=0.1, ge=0, lt=1)
    fold_z: bool = False

    steps: PositiveInt
    batch: PositiveInt
    accumulate: PositiveInt = 1
    lr: float = Field(gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = Field(default=0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.9999, ge=0, lt=1)
    ratio_cap: float | None = Field(default=None, gt=0)
    start: Literal["random", "identity"] = "random"
    seed: int = Field(default=0, ge=0)
    precision: Precision = "32-true"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    compile: bool = False
    devices: PositiveInt = 1
    nodes: PositiveInt = 1
    recompute: bool = False
    held_out: float = Field(default=0.0, ge=0, lt=1)
    validate_every: int = Field(default=0, ge=0)
    wandb: str | None = None
    checkpoint_every: int = Field(default=250, ge=0)
    sample_every: int = Field(default=250, ge=0)
    keep: PositiveInt = 2
    milestone_every: int = Field(default=0, ge=0)
    workers: int = Field(default=1, ge=0, le=64)
    cache_gib: float = Field(default=1.0, ge=0)

    @field_validator("atlas", "stains", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("ratio_cap", mode="before")
    @classmethod
    def _zero_is_none(cls, value: Any) -> Any:
        # A flag has no word for None, and the phantom preset has a cap.
        return None if value == 0 else value

    @model_validator(mode="after")
    def _whole_parts(self) -> TrainConfig:
        if self.batch % self.accumulate:
            raise ValueError(f"batch ({self.batch}) is not a multiple of accumulate ({self.accumulate})")
        if self.validate_every and not self.held_out:
            raise ValueError("validate_every needs tiles that are held out: give held_out, as 0.01")
        return self

    def options(self) -> TrainOptions:
        """The part that the loop needs."""
        return TrainOptions(**{f.name: getattr(self, f.name) for f in fields(TrainOptions)})

    def network(self, genes: int) -> NetworkShape:
        """The method's network for a panel of ``genes``."""
        method = find_method(self.method)
        chosen = {key: getattr(self, key) for key in NETWORK_KEYS if key in method.options}
        return method.shape({"genes": genes, "stains": len(self.stains), **chosen, **self.method_options})


@dataclass(frozen=True)
class Resolved:
    """A configuration and which of its keys a person gave (in a file or as flags), rather than a preset."""

    config: TrainConfig
    given: frozenset[str]

    @staticmethod
    def defaults() -> dict[str, Any]:
        """Values, by dotted names, of keys that runs did not record before there were such options."""
        options = {f"options.{f.name}": f.default for f in fields(TrainOptions) if f.default is not MISSING}
        return {"method": DEFAULT_METHOD, **options}

    def saved(self, network: NetworkShape, panel_fingerprint: str) -> dict[str, Any]:
        """What is kept as the run's ``config.json``."""
        config = self.config
        return {
            "atlas": [_absolute(url) for url in config.atlas],
            "preset": config.preset,
            "method": config.method,
            "init": config.init if config.init is None or config.init in SHIPPED else _absolute(config.init),
            "panel_fingerprint": panel_fingerprint,
            "stains": list(config.stains),
            "network": network.to_dict(),
            "options": asdict(config.options()),
        }


def _absolute(url: str) -> str:
    # Resuming from another folder names the same atlas by another relative path.
    return url if "://" in url else str(Path(url).resolve())


def read_config_file(file: Path) -> dict[str, Any]:
    """A YAML mapping of TrainConfig's keys.

    Raises:
        MissingInputError, InputError: where there is no such file, or it is no mapping.
    """
    import yaml

    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingInputError("no configuration file", where=file) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError("configuration is not YAML", where=file, found=error) from None
    if not isinstance(values, dict):
        raise InputError(
            "configuration is not a mapping", where=file, expected="key: value", found=type(values).__name__
        )
    return values


def resolve(file: Mapping[str, Any], flags: Mapping[str, Any]) -> Resolved:
    """Preset, configuration file and flags as one configuration.

    Args:
        file: what the YAML file says.
        flags: what the command line says; None means not given.

    Raises:
        InputError: naming the key that is unknown or out of range.
    """
    given = {**file, **{key: value for key, value in flags.items() if value is not None and value != []}}
    preset = find_preset(str(given.get("preset", "main")))
    values = {**preset.network, **preset.options}
    if given.get("init") is not None:
        values |= preset.fine_tune
    method = find_method(str(given.get("method", DEFAULT_METHOD)))
    if values.get("start") not in method.starts:
        values["start"] = "random"  # the preset's is meant for the paper's method
    foreign = [key for key in NETWORK_KEYS if key in given and key not in method.options]
    if foreign:
        raise InputError(
            "the method has no such option",
            where=method.name,
            expected=", ".join(method.options),
            found=", ".join(foreign),
            remedy="Leave it out; options of its own go into --method-option",
        )
    _check_names(given)
    try:
        config = TrainConfig.model_validate({**values, **given})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "configuration"
        raise InputError(
            "bad training option", where=key, expected=first["msg"], found=repr(first["input"])[:80]
        ) from None
    return Resolved(config, frozenset(given))


def _check_names(given: Mapping[str, Any]) -> None:
    """InputError on a key that is no option, and on a method's option that has a key of its own."""
    for key in given:
        if key not in TrainConfig.model_fields:
            near = get_close_matches(key, TrainConfig.model_fields, 1, 0.5)
            raise InputError(
                "unknown training option",
                where=key,
                expected=near[0]
                if near
                else "an option of `teramind-model train --help`, underscores for hyphens",
                found=repr(given[key])[:80],
            )
    own = [key for key in given.get("method_options") or () if key in (*NETWORK_KEYS, "genes", "stains")]
    if own:
        flag = {"genes": "--panel", "stains": "--stain"}.get(own[0], f"--{own[0].replace('_', '-')}")
        raise InputError(
            "this option is not one method's own", where=f"method_options: {own[0]}", remedy=f"Give {flag}"
        )
