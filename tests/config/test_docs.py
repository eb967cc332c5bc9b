"""The documentation and the model say the same."""

import re
from pathlib import Path

import yaml
from pydantic_core import PydanticUndefined

from sidecar.config import warnings_of
from sidecar.config.keys import settings

from .test_loading import from_yaml

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def _section(heading: str) -> str:
    """A section of the page up to the next heading of any level."""
    return re.split(r"^#+ ", DOCS.read_text().partition(f"## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def documented() -> dict[str, list[str]]:
    """The table of keys: key -> its other cells."""
    rows = (line.strip("|").split(" | ") for line in _section("Every key").splitlines() if line.startswith("| `"))
    return {
        cells[0].strip(" `"): [cell.strip(" `|") for cell in cells[1:]]
        for cells in rows
        if not cells[0].startswith(" `--")
    }


def test_every_key_is_documented_with_its_variable_and_no_other_is() -> None:
    table = documented()
    assert set(table) == {*settings(), "plugins"}
    for dotted, key in settings().items():
        assert table[dotted][1] == key.variable


def test_every_documented_default_is_the_default() -> None:
    table = documented()
    for dotted, key in settings().items():
        default = key.field.get_default()
        if default is PydanticUndefined:
            continue  # Follows from the data directory; test_loading checks those.
        shown = yaml.safe_load(table[dotted][0])
        if dotted == "keyrings":
            assert set(shown) == set(default)
        else:
            expected = list(default) if isinstance(default, tuple) else default
            assert (None if shown is False and default is None else shown) == expected


def test_every_example_loads(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(examples) == 3
    warned = [bool(warnings_of(from_yaml(tmp_path, example))) for example in examples]
    assert warned == [False, True, False]
