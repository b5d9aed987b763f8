#!/usr/bin/env python3
"""Packs the State of the Union addresses (CC0) that scripts/get_smollm2.sh brings into the three
Parquet files under recipes/text: make_sotu.py teachers/sotu recipes/text

Split by year: train before 1990, validation 1990-2008, test 2009-2021.
  pip install pyarrow
"""

import pathlib
import sys

import pyarrow
import pyarrow.parquet

source, target = map(pathlib.Path, sys.argv[1:3])
splits = {"train": (0, 1989), "validation": (1990, 2008), "test": (2009, 9999)}
for split, (first, last) in splits.items():
    rows = []
    for path in sorted(source.glob("*.txt")):
        year, *name, _party = path.stem.split("_")
        if first <= int(year) <= last:
            president = " ".join(name).title()
            rows.append({"year": int(year), "president": president, "text": path.read_text("utf-8")})
    table = pyarrow.Table.from_pylist(rows)
    file = target / f"sotu-{split}.parquet"
    pyarrow.parquet.write_table(table, file, compression="zstd", compression_level=22)
    print(f"{file}: {len(rows)} addresses, {file.stat().st_size} bytes")
