"""Settings of `teramind-eval`, validated strictly where they come in."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from teramind_data.errors import InputError
from teramind_eval.morphometry.segment import NucleiSettings


class NucleiConfig(BaseModel):
    """How nuclei are found, micrometres; see `teramind_eval.morphometry.segment.NucleiSettings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    smooth_um: float = Field(NucleiSettings().smooth_um, gt=0)
    background_um: float = Field(NucleiSettings().background_um, gt=0)
    seed_um: float = Field(NucleiSettings().seed_um, gt=0)
    separation_um: float = Field(NucleiSettings().separation_um, gt=0)
    min_area_um2: float = Field(NucleiSettings().min_area_um2, ge=0)
    max_area_um2: float = Field(NucleiSettings().max_area_um2, gt=0)
    min_contrast: float = Field(NucleiSettings().min_contrast, gt=0)
    block_px: int = Field(NucleiSettings().block_px, ge=64)

    def build(self) -> NucleiSettings:
        """The settings the library takes."""
        return NucleiSettings(**self.model_dump())


class ReportConfig(BaseModel):
    """One report: which stores, with what sizes, where to.

    `tile_px` and `patch_px` None mean 256 and 1024 px, less on a small canvas.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    real: str
    generated: str
    out: str
    controls: dict[str, str] = Field(default_factory=dict)
    truth: str | None = None
    tile_px: int | None = Field(None, ge=16)
    patch_px: int | None = Field(None, ge=16)
    seed: int = Field(0, ge=0)
    nuclei: NucleiConfig = NucleiConfig()
    incomplete: bool = False
    overwrite: bool = False

    @field_validator("controls")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not name or name.lower() in {"real", "generated"}:
                raise ValueError(f"a control may not be called {name!r}")
        return value

    @model_validator(mode="after")
    def _distinct(self) -> ReportConfig:
        if self.real == self.generated:
            raise ValueError("real and generated are the same store")
        return self

    def measured(self) -> dict[str, Any]:
        """The settings that decide the numbers and pictures: all but where to write and whether to replace."""
        return self.model_dump(exclude={"out", "overwrite", "real", "generated", "controls", "truth"})


def report_config(**values: Any) -> ReportConfig:
    """Build a ReportConfig; what is wrong becomes a one-line InputError."""
    from pydantic import ValidationError

    try:
        return ReportConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "report"
        raise InputError(
            "report settings are not usable",
            where=place,
            found=repr(first["input"]) if first["loc"] else None,
            remedy=first["msg"].removeprefix("Value error, ") + "; see `teramind-eval report --help`",
        ) from None


def parse_controls(values: list[str]) -> dict[str, str]:
    """`NAME=STORE` options as a dictionary, in the order given.

    Raises
    ------
    InputError
        for one without a name or a store, or a name given twice.
    """
    out: dict[str, str] = {}
    for value in values:
        name, equals, url = value.partition("=")
        if not equals or not name or not url or name in out:
            raise InputError(
                "control given twice" if name in out else "control is not NAME=STORE",
                where="--control",
                expected="NAME=STORE, each name once",
                found=repr(value),
                remedy="For example --control shuffled=S.zarr",
            )
        out[name] = url
    return out
