"""Checks that csv of ttpmap is a table to those who read tables, and holds no formula.

usage: csv_check.py FILE.csv...

Read strictly by Python's csv, by pandas, and put into a workbook by openpyxl, which makes a formula of what looks
like one.
"""

import csv
import io
import re
import sys

import openpyxl
import pandas

FORMULA = tuple("=+-@\t\r＝＋－＠")
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")


def problems(text):
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    if not rows or "id" not in rows[0]:
        return ["no header"]
    header, body = rows[0], rows[1:]
    found = [f"row {i}: {len(row)} cells under {len(header)} names" for i, row in enumerate(body, 2) if len(row) != len(header)]
    sheet = openpyxl.Workbook().active
    for row in rows:
        sheet.append(row)
    for cells in sheet.iter_rows():
        for cell in cells:
            value = cell.value or ""
            if cell.data_type == "f" or value.lstrip().startswith(FORMULA):
                found.append(f"{cell.coordinate}: a formula: {value[:40]!r}")
            if UNSEEN.search(value) or "\n" in value or len(value) > 32767:
                found.append(f"{cell.coordinate}: not a line of text: {value[:40]!r}")
    frame = pandas.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    if list(frame.columns) != header or frame.values.tolist() != body:
        found.append("pandas reads another table")
    if "technique_id" in header:
        frame = pandas.read_csv(io.StringIO(text), keep_default_na=False)
        if not frame["technique_id"].astype(str).str.fullmatch(r"T\d{4}(\.\d{3})?").all():
            found.append("a technique_id is none")
        for name in ("confidence", "evidence_confidence"):
            if len(frame) and not frame[name].between(0, 1).all():
                found.append(f"{name}: not all from 0 to 1")
        if len(frame) and not (frame["start"] < frame["end"]).all():
            found.append("a span is empty")
    return found


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    failed = False
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        try:
            found = problems(text)
        except (csv.Error, pandas.errors.ParserError) as error:
            found = [str(error)]
        failed |= bool(found)
        print(f"{path}: {text.count(chr(10))} lines, {'a safe table' if not found else 'wrong'}")
        for line in found[:20]:
            print(f"  {line}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
