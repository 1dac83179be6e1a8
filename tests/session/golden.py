"""Writes `format-N.session`, the file by which later releases prove that they read format N.

    PYTHONPATH=tests python tests/session/golden.py

Run it once, when N is raised; a file of an earlier format is never written again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny import tiny_model, tiny_volume

from segvol_gru.session.records import VERSION
from segvol_gru.session.session import Session


def main() -> None:
    with Session(tiny_volume(), tiny_model()) as session:
        session.box((3, 4, 4), (8, 13, 12))
        session.click((6, 9, 8), positive=False)
        session.add_object("ball")
        session.start(tiny_volume().array > 30)
        session.select("object 1")
        session.save(Path(__file__).with_name(f"format-{VERSION}.session"))
        for name in session.objects:
            mask = session.mask_of(name)
            print(name, int(mask.sum()), np.argwhere(mask).mean(0).round(3).tolist())
        session.undo()
        print("before the click", int(session.mask.sum()))


if __name__ == "__main__":
    main()
