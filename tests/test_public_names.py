from __future__ import annotations

import subprocess
import sys

import pytest

import segvol_gru as sg

LIGHT = """
import sys
import segvol_gru as sg
assert not {"torch", "numpy"} & set(sys.modules), "the package alone"
sg.Volume, sg.Box, sg.Click, sg.InputError, sg.__version__, dir(sg)
assert "torch" not in sys.modules, "values"
sg.Session
assert "torch" in sys.modules
"""


def test_torch_is_loaded_with_the_first_name_that_needs_it() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


@pytest.mark.parametrize("name", sg.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(sg, name) is not None
    assert name in dir(sg)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sesion'"):
        sg.Sesion  # noqa: B018
