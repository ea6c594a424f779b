"""Settings of `teramind-eval`, validated strictly where they come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from teramind_data.errors import InputError
from teramind_eval.morphometry.watershed import NucleiSettings, Watershed
from teramind_eval.results import SINGLE

if TYPE_CHECKING:
    from teramind_eval.morphometry.segmenter import Segmenter
    from teramind_eval.walk import Workers


#: What a report's inputs and tables call things that are no run.
_TAKEN = frozenset({"real", "truth", "inception", "uniform"})


class NucleiConfig(BaseModel):
    """What finds nuclei, and how, in micrometres.

    `segmenter`: the watershed, whose lengths are those of `teramind_eval.morphometry.watershed.NucleiSettings`, or
    Cellpose (`teramind_eval.morphometry.cellpose_segmenter`) with `cellpose_model`, a published network or a file,
    and `nucleus_um`, the diameter of a nucleus.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    segmenter: Literal["watershed", "cellpose"] = "watershed"
    cellpose_model: str | None = None
    nucleus_um: float | None = Field(None, gt=0)
    smooth_um: float = Field(NucleiSettings().smooth_um, gt=0)
    background_um: float = Field(NucleiSettings().background_um, gt=0)
    seed_um: float = Field(NucleiSettings().seed_um, gt=0)
    separation_um: float = Field(NucleiSettings().separation_um, gt=0)
    min_area_um2: float = Field(NucleiSettings().min_area_um2, ge=0)
    max_area_um2: float = Field(NucleiSettings().max_area_um2, gt=0)
    min_contrast: float = Field(NucleiSettings().min_contrast, gt=0)
    block_px: int = Field(NucleiSettings().block_px, ge=64)

    @model_validator(mode="after")
    def _of_one_kind(self) -> NucleiConfig:
        if self.segmenter == "watershed" and (self.cellpose_model is not None or self.nucleus_um is not None):
            raise ValueError("--cellpose-model and --nucleus-um are for --segmenter cellpose")
        return self

    def build(self) -> Segmenter:
        """What finds the nuclei; what Cellpose lacks is an error here, before any work."""
        if self.segmenter == "watershed":
            return Watershed(
                NucleiSettings(**self.model_dump(include=set(NucleiSettings.__dataclass_fields__)))
            )
        from teramind_eval.morphometry.cellpose_segmenter import Cellpose
        from teramind_eval.morphometry.cellpose_weights import find_weights

        return Cellpose(
            find_weights(self.cellpose_model), self.nucleus_um, self.min_area_um2, block_px=self.block_px
        )


def nuclei_config(**values: Any) -> NucleiConfig:
    """Build a NucleiConfig; what is wrong becomes a one-line InputError."""
    from pydantic import ValidationError

    try:
        return NucleiConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            "settings of the segmenter are not usable",
            where=".".join(str(part) for part in first["loc"]) or None,
            found=repr(first["input"]) if first["loc"] else None,
            remedy=first["msg"].removeprefix("Value error, "),
        ) from None


class ReportConfig(BaseModel):
    """One report: which stores, with what sizes, where to.

    `generated` are runs by label, the first the one that the report is about; a single store is called `generated`.
    `inception` names a file of weights, or "cache"; without it FID, sFID and KID are not measured.
    `tile_px` and `patch_px` None mean 256 and 1024 px, less on a small canvas. `seam_px` and `window` are the tiles and
    the sections of a window of stores that do not say in what pieces they were made. `device` is where tiles are
    scored: auto, cpu, cuda or cuda:N.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    real: str
    generated: dict[str, str] = Field(min_length=1)
    out: str
    controls: dict[str, str] = Field(default_factory=dict)
    truth: str | None = None
    tile_px: int | None = Field(None, ge=16)
    patch_px: int | None = Field(None, ge=16)
    seam_px: int | None = Field(None, ge=2)
    window: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    nuclei: NucleiConfig = NucleiConfig()
    inception: str | None = None
    inception_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    device: str = "auto"
    workers: int = Field(1, ge=1)
    scheduler: str | None = None
    incomplete: bool = False
    overwrite: bool = False

    @field_validator("generated", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return {SINGLE: value} if isinstance(value, str) else value

    @field_validator("generated")
    @classmethod
    def _labels(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not name.strip() or name.lower() in _TAKEN:
                raise ValueError(f"a generated store may not be called {name!r}")
        return value

    @field_validator("controls")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not name.strip() or name.lower() in {*_TAKEN, SINGLE}:
                raise ValueError(f"a control may not be called {name!r}")
        return value

    @model_validator(mode="after")
    def _distinct(self) -> ReportConfig:
        if self.real in self.generated.values():
            raise ValueError("real and generated are the same store")
        both = sorted(set(self.generated).intersection(self.controls))
        if both:
            raise ValueError(f"{both[0]!r} is the label of a generated store and of a control")
        return self

    def measured(self) -> dict[str, Any]:
        """The settings that decide the numbers and pictures: all but where, by whom, and whether to replace."""
        inputs = {"real", "generated", "controls", "truth", "inception", "inception_sha256"}
        return self.model_dump(exclude=inputs | {"out", "overwrite", "device", "workers", "scheduler"})

    def run_on(self) -> Workers:
        """Who measures sections; on one kind of device the numbers are the same everywhere."""
        from teramind_eval.walk import Workers

        return Workers(self.workers, self.scheduler)


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


def parse_generated(values: Sequence[str]) -> dict[str, str]:
    """`LABEL=STORE` or plain `STORE` options by label, in the order given.

    A plain store is called `generated` where it is the only one, else by its own name without `.zarr`. What stands
    before the first equals sign is a label only where it could not be the beginning of a path or URL.

    Raises
    ------
    InputError
        for an empty one, or two of one label.
    """
    out: dict[str, str] = {}
    for value in values:
        label, equals, url = value.partition("=")
        if not equals or any(sign in label for sign in "/\\:."):
            name = value.rstrip("/").replace("\\", "/").rpartition("/")[2].removesuffix(".zarr")
            label, url = SINGLE if len(values) == 1 else name, value
        if not label.strip() or not url.strip() or label in out:
            raise InputError(
                f"two generated stores are called {label}"
                if label in out
                else "generated store is not named",
                where="--generated",
                expected="STORE or LABEL=STORE, each label once",
                found=repr(value),
                remedy="For example --generated ours=G.zarr --generated baseline=B.zarr",
            )
        out[label] = url
    return out


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
