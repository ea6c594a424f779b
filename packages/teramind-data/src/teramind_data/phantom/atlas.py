"""The phantom's regions as an atlas ships them: a volume with large ids, and the table of its structures.

The header says what those of the Allen CCF say: axes anterior to posterior, superior to inferior and left to right
under the name "left-posterior-superior", and edges in um without a unit.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from teramind_data.phantom.anatomy import REGIONS
from teramind_data.phantom.config import PhantomConfig

#: Ids of the regions; 0 is outside. As in the CCF they do not fit 16 bits.
ATLAS_IDS = (0, *(997 + 68_000_003 * number for number in range(1, len(REGIONS))))
ACRONYMS = ("out", "CTXu", "CTXd", "fiber", "HPF", "TH", "MB", "SNc", "VS")
BIN_PX = 16


def write_atlas(folder: Path, regions: np.ndarray, config: PhantomConfig) -> None:
    """`atlas.nrrd` and `structures.csv`.

    regions: uint16 (z, y, x), a plane a section and a bin a voxel. The volume's axes are (AP, DV, LR) = (z, y, x), its
    voxels as large as bins and as far apart as sections, which lie in the middle of theirs: at z + spacing / 2.
    """
    volume = np.array(ATLAS_IDS, "<u4")[regions]
    edge = config.pixel_size_um * BIN_PX
    header = (
        "NRRD0004\n"
        "type: unsigned int\n"
        "dimension: 3\n"
        "space: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, volume.shape))}\n"
        f"space directions: ({config.spacing_um!r},0,0) (0,{edge!r},0) (0,0,{edge!r})\n"
        "kinds: domain domain domain\n"
        "endian: little\n"
        "encoding: gzip\n"
        "space origin: (0,0,0)\n\n"
    )
    # The first axis varies fastest. No time in the gzip header: the same phantom has the same bytes.
    data = gzip.compress(volume.tobytes(order="F"), 6, mtime=0)
    (folder / "atlas.nrrd").write_bytes(header.encode("ascii") + data)
    rows = [
        f'{number},{acronym},"{name}",997\n'
        for number, acronym, name in zip(ATLAS_IDS, ACRONYMS, REGIONS, strict=True)
    ]
    (folder / "structures.csv").write_text("id,acronym,name,parent_structure_id\n" + "".join(rows))
