"""Quality of sections: numbers a section, shifts against the neighbours, what stands out, and a sheet to look at."""

from __future__ import annotations

from teramind_data.qc.brain import QC_VERSION, assemble, measure_brain, stored
from teramind_data.qc.section import MeasuredSection, measure_section

__all__ = ["QC_VERSION", "MeasuredSection", "assemble", "measure_brain", "measure_section", "stored"]
