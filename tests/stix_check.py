"""Checks STIX bundles of ttpmap with the OASIS validator, strictly, and with the stix2 library.

usage: stix_check.py BUNDLE.json...

Two recommendations of STIX are not followed, on purpose: that IDs be random (UUID version 4; ttpmap's are of version 5),
and that links come with a digest of what they lead to (ATT&CK's own don't either).
"""

import json
import re
import sys

import stix2
from stix2validator import ValidationOptions, validate_file

OPTIONS = ValidationOptions(strict=True, version="2.1", disabled="uuid-check,extref-hashes")


def references(value):
    """Every ID that an object points at."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key.endswith("_ref"):
                yield inner
            elif key.endswith("_refs"):
                yield from inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def plain(bundle):
    """As text, with times written in one way."""
    return re.sub(r'(:\d\d)\.000Z"', r'\1Z"', json.dumps(bundle, sort_keys=True))


def problems(path):
    result = validate_file(path, OPTIONS)
    found = [str(error) for one in result.object_results for error in (*one.errors, *one.warnings)]
    if result.fatal or not result.is_valid:
        found.append(f"not valid: {result.fatal or ''}")
    with open(path, encoding="utf-8") as file:
        bundle = json.load(file)
    ids = [o["id"] for o in bundle["objects"]]
    found += [f"{i}: there twice" for i in sorted({i for i in ids if ids.count(i) > 1})]
    found += [f"{r}: not in the bundle" for r in sorted(set(references(bundle["objects"])) - set(ids))]
    if not any(o["type"] == "report" for o in bundle["objects"]):
        found.append("no report")
    parsed = stix2.parse(bundle, allow_custom=False)
    # stix2 drops milliseconds where there are none.
    if plain(json.loads(parsed.serialize())) != plain(bundle):
        found.append("stix2 writes another bundle than it read")
    return found


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    failed = False
    for path in sys.argv[1:]:
        try:
            found = problems(path)
        except (stix2.exceptions.STIXError, ValueError) as error:
            found = [str(error)]
        failed |= bool(found)
        print(f"{path}: {'valid' if not found else 'wrong'}")
        for line in found[:20]:
            print(f"  {line}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
